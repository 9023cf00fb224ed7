//! What a role is told by its operator: `tutti.toml`, then `TUTTI_*`, then flags, each overriding the one before.
//!
//! Everything is read and checked whole, with all faults at once, before anything is opened or bound. `tutti config`
//! prints the result and where each value came from.

mod agent;
mod blobs;
mod dns;
mod ingress;
mod join;
mod key;
mod node;
mod notices;
mod pool;
mod server;
mod store;

pub(crate) use agent::AgentSettings;
pub(crate) use blobs::BlobsAddress;
pub(crate) use dns::{DnsSettings, dns_name};
pub(crate) use ingress::IngressSettings;
pub(crate) use join::{Admission, JoinSettings};
pub(crate) use node::capacity;
pub(crate) use notices::NoticesSettings;
pub(crate) use server::ServerSettings;
pub(crate) use store::StoreAddress;

use self::{
    key::key,
    node::{bandwidth, labels},
    store::store,
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tutti_base::telemetry;
use tutti_control::reconcile::pool::PoolCommands;
use tutti_model::{
    Problem,
    name::NodeName,
    nearest::nearest,
    node::{HostPort, RoleAddress},
    pool::PoolName,
    quantity::Bandwidth,
    scheduling::Labels,
};
use tutti_seal::Source;
use tutti_store::postgres::redacted;

/// One thing that can be set. What it is for is said by its flag's help and by `docs/reference/settings.md`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Its key in `tutti.toml`, with its section if it is in one. See [`Setting::flag`] and [`Setting::variable`].
    pub(crate) key: &'static str,
    /// What it is when nobody says.
    pub(crate) default: &'static str,
}

impl Setting {
    /// Its environment variable: `TUTTI_` and its key in capitals. Addresses to listen on have `LISTEN_` before it,
    /// since `TUTTI_API` tells the command line where a cloud is.
    #[must_use]
    pub(crate) fn variable(&self) -> String {
        let listen = if matches!(self.key, "api" | "http") { "LISTEN_" } else { "" };
        format!("TUTTI_{listen}{}", self.key.to_ascii_uppercase().replace('.', "_"))
    }

    /// Its flag without the hyphens before it: the key without its section, since each role has flags of its own; that of
    /// a server has both.
    #[must_use]
    pub(crate) fn flag(&self) -> String {
        if self.key.starts_with("s3.") {
            return self.key.replace('.', "-");
        }
        if self.key == "dns.listen" {
            return "dns".to_owned();
        }
        self.key.rsplit('.').next().unwrap_or(self.key).replace('_', "-")
    }

    /// How `tutti config` names it: by the command that reads it first.
    #[must_use]
    pub(crate) fn shown(&self) -> String {
        if self.key.contains('.') { self.key.to_owned() } else { format!("dev.{}", self.key) }
    }
}

/// Everything that can be set. Settings whose default is empty have one that depends on the machine.
pub(crate) const SETTINGS: [Setting; 46] = [
    Setting { key: "data_dir", default: "" },
    Setting { key: "api", default: "127.0.0.1:7070" },
    Setting { key: "http", default: "127.0.0.1:8080" },
    Setting { key: "store", default: "" },
    Setting { key: "blobs", default: "" },
    Setting { key: "socket", default: "" },
    Setting { key: "node", default: "" },
    Setting { key: "bandwidth", default: "" },
    Setting { key: "labels", default: "" },
    Setting { key: "key", default: "" },
    Setting { key: "context", default: "dev" },
    Setting { key: "log", default: "warn,tutti=info" },
    Setting { key: "log_format", default: "text" },
    Setting { key: "host_suffix", default: "localhost" },
    Setting { key: "vouch", default: "true" },
    Setting { key: "resolver", default: "" },
    Setting { key: "notices", default: "" },
    Setting { key: "notices_credentials", default: "" },
    Setting { key: "notices_ca", default: "" },
    Setting { key: "member_dir", default: "" },
    Setting { key: "advertise", default: "" },
    Setting { key: "s3.endpoint", default: "" },
    Setting { key: "s3.region", default: "" },
    Setting { key: "join.controls", default: "" },
    Setting { key: "join.token", default: "" },
    Setting { key: "join.role", default: "agent,ingress" },
    Setting { key: "agent.data_dir", default: "" },
    Setting { key: "agent.control", default: "" },
    Setting { key: "agent.socket", default: "" },
    Setting { key: "agent.node", default: "" },
    Setting { key: "agent.bandwidth", default: "" },
    Setting { key: "agent.labels", default: "" },
    Setting { key: "agent.listen", default: "0.0.0.0:7071" },
    Setting { key: "ingress.data_dir", default: "" },
    Setting { key: "ingress.control", default: "" },
    Setting { key: "ingress.http", default: "127.0.0.1:8081" },
    Setting { key: "ingress.socket", default: "" },
    Setting { key: "ingress.name", default: "" },
    Setting { key: "ingress.public", default: "" },
    Setting { key: "dns.data_dir", default: "" },
    Setting { key: "dns.control", default: "" },
    Setting { key: "dns.listen", default: "127.0.0.1:5353" },
    Setting { key: "dns.socket", default: "" },
    Setting { key: "dns.name", default: "" },
    Setting { key: "dns.names", default: "" },
    Setting { key: "dns.name_servers", default: "" },
];

/// The sections of `tutti.toml`: what only one command is told, and what is of another's server.
const SECTIONS: [&str; 5] = ["agent", "dns", "ingress", "join", "s3"];

/// Sections of `tutti.toml` that are not about roles.
const OTHER_SECTIONS: [&str; 2] = ["service", "project"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said.
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Variable(name) => write!(f, "${name}"),
            Origin::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// The effective value of every setting, as text, with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective {
    values: BTreeMap<&'static str, (String, Origin)>,
    /// What others' programs are told by the environment too, and Tutti goes by: [`blobs::VARIABLES`]. It is shown by none.
    foreign: blobs::Foreign,
    /// The commands of node pools, which only the file says.
    pools: BTreeMap<PoolName, PoolCommands>,
}

/// What is said by others than the defaults.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// The text of a configuration file, and where it is.
    pub(crate) file: Option<(PathBuf, String)>,
    /// The environment.
    pub(crate) variables: BTreeMap<String, String>,
    /// Flags that were given, by key.
    pub(crate) flags: BTreeMap<&'static str, String>,
}

impl Effective {
    /// Lays the sources over one another.
    ///
    /// # Errors
    /// Every fault: unknown keys with the nearest known one, values of the wrong type.
    pub(crate) fn read(sources: &Sources) -> Result<Effective, Vec<Problem>> {
        let (mut faults, mut pools) = (Vec::new(), BTreeMap::new());
        let mut values: BTreeMap<&'static str, (String, Origin)> =
            SETTINGS.iter().map(|setting| (setting.key, (default_of(setting), Origin::Default))).collect();
        if let Some((path, text)) = &sources.file {
            read_file(path, text, &mut values, &mut pools, &mut faults);
        }
        for setting in SETTINGS {
            let name = setting.variable();
            if let Some(value) = sources.variables.get(&name) {
                values.insert(setting.key, (value.clone(), Origin::Variable(name)));
            }
            if let Some(value) = sources.flags.get(setting.key) {
                values.insert(setting.key, (value.clone(), Origin::Flag(setting.flag())));
            }
        }
        let foreign = blobs::Foreign::among(&sources.variables);
        if faults.is_empty() { Ok(Effective { values, foreign, pools }) } else { Err(faults) }
    }

    /// The effective value of a setting.
    #[must_use]
    pub(crate) fn text(&self, key: &str) -> &str {
        self.values.get(key).map_or("", |(value, _)| value)
    }

    /// The same, as it may be shown: a store's address may have a password in it.
    fn shown(&self, key: &str) -> Cow<'_, str> {
        match self.text(key) {
            text if key == "store" => Cow::Owned(redacted(text)),
            text if key == "join.token" && !text.is_empty() => Cow::Borrowed("[secret]"),
            text => Cow::Borrowed(text),
        }
    }

    /// Every setting with value and origin, in the order of [`SETTINGS`].
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Setting, Cow<'_, str>, &Origin)> {
        SETTINGS.iter().filter_map(|setting| {
            let (_, origin) = self.values.get(setting.key)?;
            Some((*setting, self.shown(setting.key), origin))
        })
    }

    /// The commands of node pools, as `tutti config` shows them.
    pub(crate) fn pool_rows(&self) -> impl Iterator<Item = (String, String, String)> {
        pool::rows(&self.pools)
    }

    /// Whether nobody said what it is.
    fn is_default(&self, key: &str) -> bool {
        self.values.get(key).is_none_or(|(_, origin)| *origin == Origin::Default)
    }

    fn fault(&self, key: &str, why: impl fmt::Display) -> Problem {
        let origin = self.values.get(key).map_or(&Origin::Default, |(_, origin)| origin);
        Problem::invalid(format!("{key} = \"{}\" (from {origin}): {why}", self.shown(key)))
    }
}

fn default_of(setting: &Setting) -> String {
    match setting.key {
        "data_dir" => default_data_dir("tutti").display().to_string(),
        "node" => host_name(),
        "member_dir" => default_data_dir("tutti-member").display().to_string(),
        "agent.data_dir" => default_data_dir("tutti-agent").display().to_string(),
        "agent.node" => role_name(&host_name(), "agent"),
        "ingress.data_dir" => default_data_dir("tutti-ingress").display().to_string(),
        "ingress.name" => role_name(&host_name(), "ingress"),
        "dns.data_dir" => default_data_dir("tutti-dns").display().to_string(),
        "dns.name" => role_name(&host_name(), "dns"),
        _ => setting.default.to_owned(),
    }
}

fn read_file(
    path: &Path,
    text: &str,
    values: &mut BTreeMap<&'static str, (String, Origin)>,
    pools: &mut BTreeMap<PoolName, PoolCommands>,
    faults: &mut Vec<Problem>,
) {
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            faults.push(Problem::invalid(format!("{} is not TOML: {error}", path.display())));
            return;
        }
    };
    for (key, value) in &table {
        match value {
            _ if OTHER_SECTIONS.contains(&key.as_str()) => {}
            toml::Value::Table(section) if key == pool::SECTION => *pools = pool::read(path, section, faults),
            toml::Value::Table(section) if SECTIONS.contains(&key.as_str()) => {
                for (inner, value) in section {
                    read_value(path, &format!("{key}.{inner}"), value, values, faults);
                }
            }
            value => read_value(path, key, value, values, faults),
        }
    }
}

fn read_value(
    path: &Path,
    key: &str,
    value: &toml::Value,
    values: &mut BTreeMap<&'static str, (String, Origin)>,
    faults: &mut Vec<Problem>,
) {
    let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
        let problem = Problem::invalid(format!("{}: there is no setting \"{key}\"", path.display()));
        faults.push(match nearest(key, SETTINGS.map(|setting| setting.key)) {
            Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
            None => problem.hint("see what can be set with: tutti config"),
        });
        return;
    };
    match value {
        toml::Value::String(text) => {
            values.insert(setting.key, (text.clone(), Origin::File(path.to_owned())));
        }
        toml::Value::Boolean(on) if setting.key == "vouch" => {
            values.insert(setting.key, (on.to_string(), Origin::File(path.to_owned())));
        }
        other => faults.push(Problem::invalid(format!(
            "{}: {key} must be a text, not {}",
            path.display(),
            other.type_str()
        ))),
    }
}

/// `$XDG_DATA_HOME/NAME`, else `~/.local/share/NAME`, else `./.NAME`.
fn default_data_dir(name: &str) -> PathBuf {
    let from_home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(from_home);
    base.map_or_else(|| PathBuf::from(format!(".{name}")), |base| base.join(name))
}

/// The machine's name as a node's: its first label, in lower case, with whatever cannot stand in one left out.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let label: String = name
        .split('.')
        .next()
        .unwrap_or("")
        .chars()
        .filter(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || *letter == '-')
        .collect();
    let label = label.trim_matches('-');
    if label.is_empty() { "node".to_owned() } else { label.chars().take(63).collect() }
}

/// What a role beside `tutti dev` is called, whose node has the machine's own name.
fn role_name(host: &str, role: &str) -> String {
    let host: String = host.chars().take(63 - 1 - role.len()).collect();
    format!("{}-{role}", host.trim_end_matches('-'))
}

/// Settings as a role uses them.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Folder of all that is kept.
    pub(crate) data_dir: PathBuf,
    /// Address of API and registry.
    pub(crate) api: SocketAddr,
    /// Address of the ingress.
    pub(crate) http: SocketAddr,
    /// Where the store is.
    pub(crate) store: StoreAddress,
    /// Where artifacts are.
    pub(crate) blobs: BlobsAddress,
    /// Where roles of this machine reach control.
    pub(crate) socket: RoleAddress,
    /// Name of this node.
    pub(crate) node: NodeName,
    /// The node's bandwidth; `None` for what the kernel says.
    pub(crate) bandwidth: Option<Bandwidth>,
    /// The node's labels, beside those of every machine.
    pub(crate) labels: Labels,
    /// The key that secrets are sealed with; `None` for a file of this data folder's in the configuration folder.
    pub(crate) key: Option<Source>,
    /// Name under which the command line finds this cloud.
    pub(crate) context: String,
    /// What is logged.
    pub(crate) log: String,
    /// How it is logged.
    pub(crate) log_format: telemetry::Format,
    /// The platform's own name below which services answer by themselves.
    pub(crate) host_suffix: String,
    /// Whether a domain that an admin creates needs no proof.
    pub(crate) vouch: bool,
    /// The name server that proofs of ownership are looked up at; `None` for those of this machine.
    pub(crate) resolver: Option<SocketAddr>,
    /// The commands that make and remove machines of node pools.
    pub(crate) pools: BTreeMap<PoolName, PoolCommands>,
    /// How NATS is reached, if notices go over it.
    pub(crate) notices: Option<NoticesSettings>,
}

impl TryFrom<&Effective> for Settings {
    type Error = Vec<Problem>;

    fn try_from(effective: &Effective) -> Result<Settings, Vec<Problem>> {
        let mut faults = Vec::new();
        let data_dir = PathBuf::from(effective.text("data_dir"));
        let api = address(effective, "api", &mut faults);
        let http = address(effective, "http", &mut faults);
        let store = store(effective, &data_dir, &mut faults);
        let blobs = blobs::read(effective, &data_dir, &mut faults);
        let socket = socket(effective, "socket", &data_dir.join(CONTROL_SOCKET), &mut faults);
        let node = node(effective, "node", &mut faults);
        let bandwidth = bandwidth(effective, "bandwidth", &mut faults);
        let labels = labels(effective, "labels", &mut faults);
        let log_format = log_format(effective, &mut faults);
        let key = key(effective, &data_dir, &mut faults);
        let vouch = vouch(effective, &mut faults);
        let resolver = resolver(effective, &mut faults);
        let notices = notices::read(effective, &mut faults);
        let settings = node.and_then(|node| {
            Some(Settings {
                data_dir,
                api: api?,
                http: http?,
                store: store?,
                blobs: blobs?,
                socket: socket?,
                node,
                bandwidth,
                labels,
                key,
                context: effective.text("context").to_owned(),
                log: effective.text("log").to_owned(),
                log_format,
                host_suffix: effective.text("host_suffix").to_owned(),
                vouch,
                resolver,
                pools: effective.pools.clone(),
                notices,
            })
        });
        match settings {
            Some(settings) if faults.is_empty() => Ok(settings),
            _ => Err(faults),
        }
    }
}

/// Where other machines reach this one; `None` where nobody says.
fn advertise(effective: &Effective, faults: &mut Vec<Problem>) -> Option<HostPort> {
    match effective.text("advertise") {
        "" => None,
        text => {
            text.parse().map_err(|problem: Problem| faults.push(effective.fault("advertise", problem))).ok()
        }
    }
}

/// The file in the data folder of `tutti dev` where other roles of this machine reach its control.
const CONTROL_SOCKET: &str = "control.sock";

/// Where control is reached: as this key says, else where `tutti dev` is. Whoever gave the cloud a folder or a socket by
/// the file or a variable has said where that is.
fn control(effective: &Effective, key: &str, faults: &mut Vec<Problem>) -> Option<RoleAddress> {
    let of_dev = match effective.text("socket") {
        "" => PathBuf::from(effective.text("data_dir")).join(CONTROL_SOCKET),
        path => PathBuf::from(path.strip_prefix("unix:").unwrap_or(path)),
    };
    socket(effective, key, &of_dev, faults)
}

/// A socket file, as `unix:/PATH`, or a path alone; this one if nothing is said.
fn socket(
    effective: &Effective,
    key: &str,
    otherwise: &Path,
    faults: &mut Vec<Problem>,
) -> Option<RoleAddress> {
    let text = effective.text(key);
    let path = match text.strip_prefix("unix:") {
        Some(path) => Path::new(path),
        None if text.is_empty() => otherwise,
        None if !text.contains("://") && text.contains('/') => Path::new(text),
        None => {
            faults.push(effective.fault(key, "write unix:/PATH"));
            return None;
        }
    };
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match format!("unix:{}", whole.display()).parse() {
        Ok(address) => Some(address),
        Err(problem) => {
            let problem: Problem = problem;
            let said = if text.is_empty() {
                Problem::invalid(problem.detail)
            } else {
                effective.fault(key, problem.detail)
            };
            faults.push(match problem.hint {
                Some(hint) => said.hint(hint),
                None => said,
            });
            None
        }
    }
}

fn node(effective: &Effective, key: &str, faults: &mut Vec<Problem>) -> Option<NodeName> {
    let parsed = effective.text(key).parse();
    parsed.map_err(|problem: Problem| faults.push(effective.fault(key, problem.detail))).ok()
}

fn log_format(effective: &Effective, faults: &mut Vec<Problem>) -> telemetry::Format {
    match effective.text("log_format") {
        "text" => telemetry::Format::Text,
        "json" => telemetry::Format::Json,
        _ => {
            faults.push(effective.fault("log_format", "write text or json"));
            telemetry::Format::Text
        }
    }
}

/// Whether admins' domains need no proof.
fn vouch(effective: &Effective, faults: &mut Vec<Problem>) -> bool {
    match effective.text("vouch") {
        "true" => true,
        "false" => false,
        _ => {
            faults.push(effective.fault("vouch", "write true or false"));
            true
        }
    }
}

/// The name server that proofs are looked up at; `None` for those of this machine.
fn resolver(effective: &Effective, faults: &mut Vec<Problem>) -> Option<SocketAddr> {
    let text = effective.text("resolver");
    if text.is_empty() {
        return None;
    }
    let port = |host: std::net::IpAddr| SocketAddr::new(host, 53);
    let parsed = text.parse().or_else(|_| text.parse().map(port)).ok();
    if parsed.is_none() {
        faults.push(effective.fault("resolver", "write ADDR or ADDR:PORT, such as 127.0.0.1:5353"));
    }
    parsed
}

/// An address as `ADDR:PORT`, or `:PORT` for loopback.
fn address(effective: &Effective, key: &str, faults: &mut Vec<Problem>) -> Option<SocketAddr> {
    let text = effective.text(key);
    let whole = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    let parsed = whole.parse();
    if parsed.is_err() {
        faults.push(effective.fault(key, "write ADDR:PORT, such as 127.0.0.1:7070, or :0 for a free port"));
    }
    parsed.ok()
}

#[cfg(test)]
mod tests;
