//! What a host is to have and run, as it is told over ssh or by a script: files, and the programs that keep running. Pure;
//! [`super::apply`] makes it so, [`super::inspect`] says whether it can be.

use super::{
    nats,
    spec::{Dns, Host, Part, Spec},
};
use crate::join::AGENT_PORT;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
};
use tutti_base::SecretValues;
use tutti_model::{name::NodeName, node::HostPort};

/// Where the program is.
pub(crate) const PROGRAM: &str = "/usr/local/bin/tutti";
/// Settings and the key.
pub(crate) const SETTINGS: &str = "/etc/tutti";
/// What roles keep.
pub(crate) const DATA: &str = "/var/lib/tutti";
/// Where the control of an operator is reached from the machine itself.
pub(crate) const CONTROL_SOCKET: &str = "/var/lib/tutti/server/control.sock";
/// The port of control's API.
pub(crate) const API_PORT: u16 = 7070;
/// The port that the world comes to.
const HTTP_PORT: u16 = 80;
/// The port that resolvers come to.
const DNS_PORT: u16 = 53;

/// Whether a host is to become a member first, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Enrol {
    /// As a control, by the store.
    Store,
    /// By a token that a control gave.
    Token,
}

/// A program that is to run for as long as the machine does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unit {
    /// Its name, such as `tutti-server`.
    pub(crate) name: String,
    /// What it is, in a few words.
    pub(crate) about: String,
    /// The program: a path, or a name that is looked up.
    pub(crate) program: String,
    /// What it is told.
    pub(crate) arguments: Vec<String>,
    /// The file of its environment.
    pub(crate) environment: String,
    /// Other files that it reads once, when it starts.
    pub(crate) reads: Vec<String>,
    /// The port by which it shows that it serves, over TCP.
    pub(crate) port: u16,
    /// The address that it has it at; `None` for all of the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<IpAddr>,
    /// Whether it needs the port for UDP, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) udp: bool,
}

/// What a host is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The machine's name.
    pub(crate) name: NodeName,
    /// The address that the others reach it at.
    pub(crate) address: String,
    pub(crate) enrol: Enrol,
    /// Files that only root may read, by path, with their text.
    pub(crate) files: SecretValues,
    pub(crate) units: Vec<Unit>,
    /// The token by which it joins, if it is to.
    #[serde(default, skip_serializing_if = "SecretValues::is_empty")]
    pub(crate) token: SecretValues,
}

/// The variable that a join token is given in.
pub(crate) const TOKEN: &str = "TUTTI_JOIN_TOKEN";

impl Order {
    /// What this host of the installation is told.
    pub(crate) fn of(spec: &Spec, host: &Host) -> Order {
        let mut files = SecretValues::default();
        let (enrol, units) = match host.part {
            Part::Operator => {
                let key = format!("{SETTINGS}/cluster.key");
                files.insert(key.clone(), format!("{}\n", spec.key.0.as_str()));
                let mut server = common(spec, host, API_PORT);
                server.extend([
                    ("TUTTI_DATA_DIR", format!("{DATA}/server")),
                    ("TUTTI_SOCKET", format!("unix:{CONTROL_SOCKET}")),
                    ("TUTTI_STORE", spec.store.clone()),
                    ("TUTTI_BLOBS", spec.blobs.clone()),
                    ("TUTTI_KEY", key),
                    ("TUTTI_NODE", host.name.to_string()),
                    ("TUTTI_LISTEN_API", format!("0.0.0.0:{API_PORT}")),
                    (
                        "TUTTI_JOIN_ROLE",
                        if spec.dns.is_some() { "ingress,dns" } else { "ingress" }.to_owned(),
                    ),
                    ("TUTTI_VOUCH", spec.vouch.to_string()),
                ]);
                if let Some(suffix) = &spec.host_suffix {
                    server.insert("TUTTI_HOST_SUFFIX", suffix.clone());
                }
                if spec.notices {
                    server.insert(nats::CREDENTIALS, nats::credentials(spec, nats::Who::Control, &mut files));
                }
                let mut text = lines(&server);
                for (name, value) in spec.environment.reveal() {
                    text.push_str(&format!("{name}={value}\n"));
                }
                files.insert(format!("{SETTINGS}/server.env"), text);
                let mut ingress = common(spec, host, API_PORT);
                ingress.extend([
                    ("TUTTI_INGRESS_DATA_DIR", format!("{DATA}/ingress")),
                    ("TUTTI_INGRESS_HTTP", format!("0.0.0.0:{HTTP_PORT}")),
                    ("TUTTI_INGRESS_PUBLIC", host.address.to_string()),
                ]);
                files.insert(format!("{SETTINGS}/ingress.env"), lines(&ingress));
                let mut server = unit("server", "control of the cloud", API_PORT);
                server.reads.push(format!("{SETTINGS}/cluster.key"));
                let mut units = vec![server, unit("ingress", "way in to the cloud", HTTP_PORT)];
                if let Some(dns) = &spec.dns {
                    units.push(dns_unit(spec, host, dns, &mut files));
                }
                if spec.notices {
                    units.push(nats::unit(spec, &mut files));
                }
                (Enrol::Store, units)
            }
            Part::Worker => {
                let mut agent = common(spec, host, AGENT_PORT);
                let controls = spec.of(Part::Operator).map(|host| at(host, API_PORT).to_string());
                agent.extend([
                    ("TUTTI_AGENT_DATA_DIR", format!("{DATA}/agent")),
                    ("TUTTI_AGENT_LISTEN", format!("0.0.0.0:{AGENT_PORT}")),
                    ("TUTTI_NODE", host.name.to_string()),
                    ("TUTTI_JOIN_CONTROLS", controls.collect::<Vec<_>>().join(",")),
                    ("TUTTI_JOIN_ROLE", "agent".to_owned()),
                ]);
                if !host.labels.is_empty() {
                    let labels = host.labels.iter().map(|(key, value)| format!("{key}={value}"));
                    agent.insert("TUTTI_AGENT_LABELS", labels.collect::<Vec<_>>().join(","));
                }
                files.insert(format!("{SETTINGS}/agent.env"), lines(&agent));
                (Enrol::Token, vec![unit("agent", "node of the cloud", AGENT_PORT)])
            }
        };
        if spec.notices {
            nats::credentials(spec, nats::Who::Other, &mut files);
        }
        let (name, address) = (host.name.clone(), host.address.to_string());
        Order { name, address, enrol, files, units, token: SecretValues::default() }
    }

    /// The environment of what the machine runs first, by which it becomes a member.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let first = self.units.first().map(|unit| unit.environment.as_str());
        let files = self.files.reveal();
        let text = files.filter(|(path, _)| Some(*path) == first).map(|(_, text)| text).collect::<String>();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// The DNS server of an operator, with its settings: the same on each but for where it listens. What there is to be
/// delegated to are `ns1`, `ns2` and so on of the first name, in the order of the file.
fn dns_unit(spec: &Spec, host: &Host, dns: &Dns, files: &mut SecretValues) -> Unit {
    // An address of its own: many systems have a resolver on one of loopback's.
    let at = dns.at.unwrap_or(SocketAddr::new(host.address, DNS_PORT));
    let first = dns.zones.first().map(String::as_str).unwrap_or_default();
    let servers = spec.of(Part::Operator).zip(1..);
    let servers = servers.map(|(host, number)| format!("ns{number}.{first}={}", host.address));
    let mut told = common(spec, host, API_PORT);
    told.extend([
        ("TUTTI_DNS_DATA_DIR", format!("{DATA}/dns")),
        ("TUTTI_DNS_LISTEN", at.to_string()),
        ("TUTTI_HOST_SUFFIX", first.to_owned()),
        ("TUTTI_DNS_NAMES", dns.zones.iter().skip(1).map(String::as_str).collect::<Vec<_>>().join(",")),
        ("TUTTI_DNS_NAME_SERVERS", servers.collect::<Vec<_>>().join(",")),
    ]);
    files.insert(format!("{SETTINGS}/dns.env"), lines(&told));
    let ip = Some(at.ip()).filter(|address| !address.is_unspecified());
    Unit { at: ip, udp: true, ..unit("dns", "names of the cloud", at.port()) }
}

/// What every role of a machine is told.
fn common(spec: &Spec, host: &Host, port: u16) -> BTreeMap<&'static str, String> {
    let mut common = BTreeMap::from([
        ("TUTTI_MEMBER_DIR", format!("{DATA}/member")),
        ("TUTTI_ADVERTISE", at(host, port)),
        // Root's commands find the cloud by the context that the first control makes.
        ("HOME", "/root".to_owned()),
    ]);
    if spec.notices {
        common.insert("TUTTI_NOTICES", nats::address(spec));
        common.insert(nats::CA, nats::root());
        common.insert(nats::CREDENTIALS, nats::file(nats::Who::Other));
    }
    common
}

/// A port of a host, as others reach it.
pub(crate) fn at(host: &Host, port: u16) -> String {
    HostPort::from(SocketAddr::new(host.address, port)).to_string()
}

fn lines(variables: &BTreeMap<&'static str, String>) -> String {
    variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn unit(role: &str, about: &str, port: u16) -> Unit {
    Unit {
        name: format!("tutti-{role}"),
        about: format!("Tutti: {about}"),
        program: PROGRAM.to_owned(),
        arguments: vec![role.to_owned()],
        environment: format!("{SETTINGS}/{role}.env"),
        reads: Vec::new(),
        port,
        at: None,
        udp: false,
    }
}

impl Unit {
    /// Whether it serves: somebody listens where it is to.
    pub(crate) fn answers(&self) -> bool {
        let at = self.at.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        TcpStream::connect((at, self.port)).is_ok()
    }

    /// As systemd reads it.
    pub(crate) fn text(&self) -> String {
        let Unit { about, program, arguments, environment, .. } = self;
        let arguments = arguments.join(" ");
        // Ended and started again, an agent finds what it ran: only the main process is told to end, and the control groups
        // below are its own business.
        format!(
            "[Unit]\nDescription={about}\nWants=network-online.target\nAfter=network-online.target\n\
             StartLimitIntervalSec=0\n\n\
             [Service]\nType=exec\nEnvironmentFile={environment}\nExecStart={program} {arguments}\n\
             Restart=always\nRestartSec=1\nKillMode=process\nTimeoutStopSec=60\nDelegate=yes\n\
             LimitNOFILE=1048576\nUMask=0077\n\n\
             [Install]\nWantedBy=multi-user.target\n"
        )
    }
}

#[cfg(test)]
mod tests;
