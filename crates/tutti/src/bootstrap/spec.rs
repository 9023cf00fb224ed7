//! `cluster.toml`: what an installation is to be. Read whole, with every fault at once; nothing is looked at but the file
//! and those that it names.

use crate::settings::dns_name;
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};
use tutti_base::SecretValues;
use tutti_model::{
    Problem,
    name::NodeName,
    scheduling::{Labels, label},
};
use tutti_seal::{Keyring, Source};
use zeroize::Zeroizing;

/// Most hosts of one file: as many as can be done one after the other while somebody waits.
const HOSTS: usize = 100;
/// Largest file that is read, in bytes.
const FILE_BYTES: u64 = 1024 * 1024;
/// Where ssh listens where nobody says.
const SSH_PORT: u16 = 22;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    cluster: Cluster,
    #[serde(default)]
    ssh: Ssh,
    #[serde(default)]
    operator: Vec<WrittenHost>,
    #[serde(default)]
    worker: Vec<WrittenHost>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cluster {
    store: String,
    blobs: String,
    #[serde(default = "default_key")]
    key: PathBuf,
    environment: Option<PathBuf>,
    #[serde(default)]
    names: Vec<String>,
    host_suffix: Option<String>,
    #[serde(default)]
    vouch: bool,
    #[serde(default)]
    notices: bool,
    dns: Option<WrittenDns>,
}

/// `dns`: whether operators answer for the cluster's names, and where.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenDns {
    Whether(bool),
    At(String),
}

fn default_key() -> PathBuf {
    PathBuf::from("cluster.key")
}

/// How hosts are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ssh {
    /// The file of the key that it goes by; ssh's own choice without.
    pub(crate) identity: Option<PathBuf>,
    /// The file of hosts' keys; ssh's own without.
    pub(crate) known_hosts: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHost {
    name: String,
    address: String,
    ssh: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
}

/// The DNS servers of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dns {
    /// Where each operator listens; `None` for its own address, port 53.
    pub(crate) at: Option<SocketAddr>,
    /// The names that they answer for, with all below, the host suffix first.
    pub(crate) zones: Vec<String>,
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Control and the way in.
    Operator,
    /// Runs instances.
    Worker,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// What the machine is called in the cluster.
    pub(crate) name: NodeName,
    pub(crate) part: Part,
    /// Where the other machines reach it.
    pub(crate) address: IpAddr,
    /// Where ssh reaches it: `USER@HOST`, and the port.
    pub(crate) ssh: (String, u16),
    pub(crate) labels: Labels,
}

/// An installation as it is to be.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) store: String,
    pub(crate) blobs: String,
    /// The key of the cluster, and the file that it is kept in here.
    pub(crate) key: (Zeroizing<String>, PathBuf),
    /// More variables of what operators run, such as a bucket's keys and a database's password.
    pub(crate) environment: SecretValues,
    /// Names that are to lead to the operators.
    pub(crate) names: Vec<String>,
    pub(crate) host_suffix: Option<String>,
    /// Whether domains that an admin creates need no proof.
    pub(crate) vouch: bool,
    /// Whether operators run NATS, and notices of changes go over it.
    pub(crate) notices: bool,
    /// What the operators answer for as DNS servers, if they are any.
    pub(crate) dns: Option<Dns>,
    pub(crate) ssh: Ssh,
    /// Operators first, each part in the order in which they are written.
    pub(crate) hosts: Vec<Host>,
}

impl Spec {
    /// Reads the file, and the key beside it, which is made if it is missing.
    ///
    /// # Errors
    /// Every fault, each naming its place.
    pub(crate) fn read(path: &Path) -> Result<Spec, Vec<Problem>> {
        let text = whole(path).map_err(|problem| vec![problem])?;
        let written: Written = toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            vec![
                Problem::invalid(format!("{} line {line}: {}", path.display(), error.message()))
                    .hint("docs/guides/bootstrap.md has a whole file"),
            ]
        })?;
        let beside = |file: &Path| path.parent().unwrap_or(Path::new(".")).join(file);
        let mut faults = Vec::new();
        let hosts = hosts(&written, &mut faults);
        let environment = match &written.cluster.environment {
            None => SecretValues::default(),
            Some(file) => match whole(&beside(file)).and_then(|text| variables(&beside(file), &text)) {
                Ok(variables) => variables,
                Err(problem) => {
                    faults.push(problem);
                    SecretValues::default()
                }
            },
        };
        let suffix = written.cluster.host_suffix.iter().map(|suffix| ("host_suffix", suffix));
        let named = suffix.chain(written.cluster.names.iter().map(|name| ("names", name)));
        for (key, name) in named.filter(|(_, name)| dns_name(name).is_none()) {
            faults.push(Problem::invalid(format!("[cluster] {key}: \"{name}\" is not a DNS name")));
        }
        let dns = dns(&written.cluster).unwrap_or_else(|problem| {
            faults.push(problem);
            None
        });
        if !written.cluster.store.starts_with("etcd://") && !written.cluster.store.starts_with("postgres") {
            faults.push(
                Problem::invalid("[cluster] store: several machines share it, so it is etcd or PostgreSQL")
                    .hint("write etcd://HOST:PORT,HOST:PORT or postgres://USER@HOST/DATABASE"),
            );
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let file = beside(&written.cluster.key);
        let key = key(&file).map_err(|problem| vec![problem])?;
        let Ssh { identity, known_hosts } = written.ssh;
        let ssh = Ssh {
            identity: identity.as_deref().map(beside),
            known_hosts: known_hosts.as_deref().map(beside),
        };
        let Cluster { store, blobs, names, host_suffix, vouch, notices, .. } = written.cluster;
        let key = (key, file);
        Ok(Spec { store, blobs, key, environment, names, host_suffix, vouch, notices, dns, ssh, hosts })
    }

    /// The hosts of a part.
    pub(crate) fn of(&self, part: Part) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(move |host| host.part == part)
    }
}

/// Whether the operators are DNS servers, and of what: where nobody says, they are if there is a name to answer for.
fn dns(cluster: &Cluster) -> Result<Option<Dns>, Problem> {
    let zones: Vec<String> =
        cluster.host_suffix.iter().chain(&cluster.names).filter_map(|name| dns_name(name)).collect();
    let at = match &cluster.dns {
        Some(WrittenDns::Whether(false)) => return Ok(None),
        None if zones.is_empty() => return Ok(None),
        None | Some(WrittenDns::Whether(true)) => None,
        Some(WrittenDns::At(text)) => Some(text.parse().map_err(|_| {
            Problem::invalid(format!("[cluster] dns: \"{text}\" is not ADDR:PORT"))
                .hint("such as 0.0.0.0:53; dns = true is the host's own address, and dns = false none")
        })?),
    };
    if zones.is_empty() {
        return Err(Problem::invalid("[cluster] dns: there is no name to answer for")
            .hint("give host_suffix, or names"));
    }
    Ok(Some(Dns { at, zones }))
}

fn hosts(written: &Written, faults: &mut Vec<Problem>) -> Vec<Host> {
    let operators = written.operator.iter().map(|host| (Part::Operator, host));
    let all = operators.chain(written.worker.iter().map(|host| (Part::Worker, host)));
    let mut hosts: Vec<Host> = Vec::new();
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for (part, host) in all {
        let what = match part {
            Part::Operator => "[[operator]]",
            Part::Worker => "[[worker]]",
        };
        let mut fault = |why: String| faults.push(Problem::invalid(format!("{what} {}: {why}", host.name)));
        let name = host.name.parse::<NodeName>().map_err(|problem| fault(problem.detail));
        let address = host.address.parse::<IpAddr>();
        let address =
            address.map_err(|_| fault(format!("address \"{}\" is not an IP address", host.address)));
        let labels: Result<Labels, Problem> = host.labels.iter().map(|text| label(text)).collect();
        let labels = labels.map_err(|problem| fault(problem.detail));
        let (Ok(name), Ok(address), Ok(labels)) = (name, address, labels) else { continue };
        let ssh = match reached(host.ssh.as_deref(), address) {
            Ok(ssh) => ssh,
            Err(why) => {
                fault(why);
                continue;
            }
        };
        if !names.insert(name.clone()) {
            fault("another host has this name".to_owned());
        }
        if !addresses.insert(address) {
            fault(format!("another host has the address {address}"));
        }
        hosts.push(Host { name, part, address, ssh, labels });
    }
    if written.operator.is_empty() {
        faults.push(
            Problem::invalid("there is no [[operator]]").hint("three of them keep serving when one dies"),
        );
    }
    if hosts.len() > HOSTS {
        faults.push(Problem::invalid(format!("{} hosts are more than {HOSTS}", hosts.len())));
    }
    hosts
}

/// `[USER@]HOST[:PORT]`; as root, and at the machine's address where nobody says.
fn reached(text: Option<&str>, address: IpAddr) -> Result<(String, u16), String> {
    let Some(text) = text else { return Ok((format!("root@{address}"), SSH_PORT)) };
    let (target, port) = match text.rsplit_once(':') {
        Some((target, port)) if !target.contains(':') => {
            (target, port.parse().map_err(|_| format!("ssh = \"{text}\": \"{port}\" is no port"))?)
        }
        _ => (text, SSH_PORT),
    };
    // What begins so would be an option of ssh's.
    if target.is_empty() || target.starts_with('-') || target.contains(char::is_whitespace) {
        return Err(format!("ssh = \"{text}\" is not USER@HOST:PORT"));
    }
    let target = if target.contains('@') { target.to_owned() } else { format!("root@{target}") };
    Ok((target, port))
}

fn whole(path: &Path) -> Result<String, Problem> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Problem::invalid(format!("{} cannot be read: {error}", path.display()))
    };
    let size = fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if size > FILE_BYTES {
        return Err(unreadable(&format!("it has {size} bytes, more than {FILE_BYTES}")));
    }
    fs::read_to_string(path).map_err(|error| unreadable(&error))
}

/// Lines of `NAME=VALUE`; empty ones and those that begin with `#` count for nothing.
fn variables(path: &Path, text: &str) -> Result<SecretValues, Problem> {
    let mut variables = SecretValues::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself may be a secret, and is not shown.
        let wrong = || Problem::invalid(format!("{} line {number} is not NAME=VALUE", path.display()));
        let (name, value) = line.split_once('=').ok_or_else(wrong)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) || value.contains(['"', '\'', '\\']) {
            return Err(wrong().hint("without quotes, blanks around the = and backslashes"));
        }
        variables.insert(name, value.to_owned());
    }
    Ok(variables)
}

/// The key in this file, made if there is none: whoever loses it loses the cluster's secrets.
fn key(path: &Path) -> Result<Zeroizing<String>, Problem> {
    Keyring::at(Source::File(path.to_owned())).make_if_missing()?;
    let unreadable = |error: &dyn std::fmt::Display| {
        Problem::invalid(format!("the cluster's key in {} cannot be used: {error}", path.display()))
    };
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|error| unreadable(&error))?);
    let key = text.trim();
    if key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unreadable(&"it is not 64 hex digits"));
    }
    Ok(Zeroizing::new(key.to_owned()))
}

#[cfg(test)]
mod tests;
