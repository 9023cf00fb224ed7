//! A service's own manifest: the `[service]` section of the `tutti.toml` beside its code. It is part of the version.
//!
//! It is checked whole: every fault is reported at once, each with its key, and unknown keys with the nearest known
//! one.

mod destination;
mod placement;
mod scale;
mod secrets;

pub use destination::{Destination, Host};
pub use placement::Placement;
pub use scale::Scale;

use crate::{
    Millis, Problem, limits,
    nearest::nearest,
    quantity::{Bandwidth, ByteSize, MilliCpu},
    secret::SecretName,
    version::Isolate,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, str::FromStr};

/// What a service says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// The isolate, where it is not told from the artifact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolate: Option<Isolate>,
    /// The command of a process: program and arguments, the program relative to the artifact or found on `PATH`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<String>,
    /// The port that a process insists on; without it the agent picks a free one and says so in `PORT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values are secrets of the service's domain, by these names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretName>,
    /// Most memory of one instance (of one request's instance, for wasm).
    pub memory: ByteSize,
    /// Cpu of one instance.
    pub cpu: MilliCpu,
    /// Bandwidth that one instance is to have on its node; by default it asks for none in particular.
    #[serde(skip_serializing_if = "Bandwidth::is_none")]
    pub bandwidth: Bandwidth,
    /// Room on its node's disk that one instance is to have; by default it asks for none in particular.
    #[serde(skip_serializing_if = "ByteSize::is_none")]
    pub disk: ByteSize,
    /// What it asks of the nodes that it runs on.
    #[serde(skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// Requests that one instance serves at once.
    pub concurrency: u32,
    /// How an instance shows that it is ready.
    pub health: Health,
    /// Workers that serve the whole traffic, at least. With 0, one is left when nothing is asked, and that sleeps.
    pub min: u32,
    /// Workers of this version, at most.
    pub max: u32,
    /// What one worker is to have of the load, between `min` and `max`.
    #[serde(skip_serializing_if = "Scale::is_default")]
    pub scale: Scale,
    /// How long a replaced instance stands by for a rollback before it drains.
    pub standby: Millis,
    /// How long a draining instance may finish what it serves before it is stopped.
    pub drain: Millis,
    /// How long a node may be silent before its instances are replaced on others.
    pub grace: Millis,
    /// Longest time to the first byte of an answer.
    pub timeout: Millis,
    /// Whether calls of a gRPC component share one instance, which keeps what it has in memory, and take turns in it
    /// (wasm only). Its state is lost when it fails, and with its node.
    #[serde(skip_serializing_if = "is_false")]
    pub state: bool,
    /// Whether no two instances may ever run at once (processes only), each under a [lease](crate::instance::LEASE).
    #[serde(skip_serializing_if = "is_false")]
    pub singleton: bool,
    /// Hosts that a component may send requests to (wasm only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outgoing: Vec<Destination>,
    /// What is particular to gRPC (wasm only).
    #[serde(skip_serializing_if = "Grpc::is_default")]
    pub grpc: Grpc,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Default for Manifest {
    fn default() -> Self {
        Manifest {
            isolate: None,
            run: Vec::new(),
            port: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            memory: ByteSize::mib(128),
            cpu: MilliCpu(100),
            bandwidth: Bandwidth(0),
            disk: ByteSize(0),
            placement: Placement::default(),
            concurrency: 100,
            health: Health::default(),
            min: 1,
            max: 100,
            scale: Scale::default(),
            // Long enough to notice a bad release and take it back at once.
            standby: Millis::seconds(300),
            drain: Millis::seconds(30),
            grace: Millis::seconds(30),
            timeout: Millis::seconds(30),
            state: false,
            singleton: false,
            outgoing: Vec::new(),
            grpc: Grpc::default(),
        }
    }
}

/// What a component that serves gRPC says of its calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grpc {
    /// Longest message, in either direction.
    pub max_message: ByteSize,
}

impl Default for Grpc {
    fn default() -> Self {
        Grpc { max_message: ByteSize::mib(1) }
    }
}

impl Grpc {
    fn is_default(&self) -> bool {
        *self == Grpc::default()
    }
}

/// How and how often an instance is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// How long an instance may take from its start until it is ready.
    pub start: Millis,
    /// Time between probes of a ready instance.
    pub interval: Millis,
    /// Time that one probe may take.
    pub timeout: Millis,
    /// Failures in a row after which a ready instance no longer counts as ready.
    pub failures: u32,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            probe: Probe::Tcp,
            start: Millis::seconds(60),
            interval: Millis::seconds(5),
            timeout: Millis::seconds(2),
            failures: 3,
        }
    }
}

/// What is asked of an instance to know that it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Its port accepts a connection. A wasm component is asked whether it can be instantiated.
    #[default]
    Tcp,
    /// `GET` of this path answers 200 to 399.
    Http(String),
    /// `grpc.health.v1.Health/Check` of this service (empty for the whole server) says `SERVING`.
    Grpc(String),
}

/// Why a component cannot be a singleton.
pub const NO_SINGLETON: &str = "only a process can be one: a component lives in its node's agent, and while that hangs nobody could end it";

/// The keys of `[service]`, for the nearest known one.
const KEYS: [&str; 23] = [
    "isolate",
    "run",
    "port",
    "env",
    "secrets",
    "memory",
    "cpu",
    "bandwidth",
    "disk",
    "placement",
    "concurrency",
    "health",
    "min",
    "max",
    "scale",
    "standby",
    "drain",
    "grace",
    "timeout",
    "state",
    "singleton",
    "outgoing",
    "grpc",
];
/// The keys of `[service.grpc]`.
const GRPC_KEYS: [&str; 1] = ["max_message"];
/// The keys of `[service.health]`.
const HEALTH_KEYS: [&str; 7] = ["http", "tcp", "grpc", "start", "interval", "timeout", "failures"];

/// The same where it is JSON.
const HEALTH_FIELDS: [&str; 5] = ["probe", "start", "interval", "timeout", "failures"];

impl Manifest {
    /// The first key of a manifest in JSON that this release does not know. What is stored, or sent by a role of a later
    /// release, may have some, and they are passed over; what a user asks for may not, since it would not be done.
    #[must_use]
    pub fn unknown_key(json: &serde_json::Value) -> Option<String> {
        let sections: [(&str, &[&str]); 5] = [
            ("", &KEYS),
            ("placement", &placement::KEYS),
            ("health", &HEALTH_FIELDS),
            ("scale", &scale::KEYS),
            ("grpc", &GRPC_KEYS),
        ];
        sections.into_iter().find_map(|(section, known)| {
            let table = if section.is_empty() { Some(json) } else { json.get(section) };
            let unknown = table?.as_object()?.keys().find(|key| !known.contains(&key.as_str()))?;
            Some(if section.is_empty() { unknown.clone() } else { format!("{section}.{unknown}") })
        })
    }

    /// Reads the `[service]` section of a `tutti.toml`. Other sections are not this function's business.
    ///
    /// # Errors
    /// Every fault, each naming its key.
    pub fn from_toml(text: &str) -> Result<Manifest, Vec<Problem>> {
        if text.len() > limits::MANIFEST_BYTES {
            return Err(vec![Problem::invalid(format!(
                "the manifest is longer than {} bytes",
                limits::MANIFEST_BYTES
            ))]);
        }
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(1, |span| text.get(..span.start).unwrap_or("").matches('\n').count() + 1);
            vec![Problem::invalid(format!("line {line} is not TOML: {}", error.message()))]
        })?;
        match table.get("service") {
            None => match table.keys().find(|key| nearest(key, ["service"]).is_some()) {
                // Whoever meant this section would otherwise be told of what they did write that it is missing.
                Some(key) => Err(vec![
                    Problem::invalid(format!("there is no section [{key}]")).hint("did you mean [service]?"),
                ]),
                None => Ok(Manifest::default()),
            },
            Some(toml::Value::Table(section)) => Reader::default().manifest(section),
            Some(_) => Err(vec![Problem::invalid("\"service\" must be a section: write [service]")]),
        }
    }

    /// How long nothing may be asked of an instance before it is put to sleep; `None` if it always runs.
    #[must_use]
    pub fn idle(&self) -> Option<Millis> {
        (self.min == 0).then(|| self.scale.idle.unwrap_or(Scale::IDLE))
    }

    /// Checks what types alone cannot: ranges, and keys that contradict one another.
    #[must_use]
    pub fn faults(&self) -> Vec<Problem> {
        let mut faults = Vec::new();
        let mut fault =
            |key: &str, why: String| faults.push(Problem::invalid(format!("[service] {key}: {why}")));
        if self.port == Some(0) {
            fault("port", "0 is not a port: leave the key out to be given a free one".into());
        }
        if self.concurrency == 0 || self.concurrency > 100_000 {
            fault("concurrency", format!("{} is not from 1 to 100000", self.concurrency));
        }
        if self.max == 0 {
            fault("max", "0 workers cannot serve: at least 1".into());
        }
        if self.min > 0 && self.scale.idle.is_some() {
            fault("scale.idle", format!("sleep is for services with min = 0, and min is {}", self.min));
        }
        if self.max < self.min {
            fault("max", format!("{} is below min, which is {}", self.max, self.min));
        }
        if self.singleton && self.max > 1 {
            fault("max", format!("a singleton has 1 worker, and max is {}", self.max));
        }
        if self.singleton && self.isolate == Some(Isolate::Wasm) {
            fault("singleton", NO_SINGLETON.into());
        }
        if self.max > limits::INSTANCES_PER_VERSION {
            fault("max", format!("{} is above {}", self.max, limits::INSTANCES_PER_VERSION));
        }
        if self.memory < ByteSize::mib(1) {
            fault("memory", format!("{} is below 1Mi", self.memory));
        }
        if self.cpu.0 == 0 {
            fault("cpu", "0 cannot run: at least 1m".into());
        }
        if self.timeout.0 == 0 {
            fault("timeout", "0s leaves no time to answer".into());
        }
        if self.outgoing.len() > limits::OUTGOING {
            fault("outgoing", format!("{} hosts are more than {}", self.outgoing.len(), limits::OUTGOING));
        }
        let message = self.grpc.max_message;
        if message < ByteSize(1024) || message.0 > limits::MESSAGE_BYTES {
            fault(
                "grpc.max_message",
                format!("{message} is not from 1Ki to {}", ByteSize(limits::MESSAGE_BYTES)),
            );
        }
        if self.env.len() > limits::ENV_VARIABLES {
            fault("env", format!("{} variables are more than {}", self.env.len(), limits::ENV_VARIABLES));
        }
        for (name, value) in &self.env {
            if let Some(why) = secrets::not_a_variable(name) {
                fault("env", why);
            }
            if value.len() > limits::ENV_VALUE_BYTES || value.contains('\0') {
                fault(
                    "env",
                    format!(
                        "the value of {name} is longer than {} bytes or has a zero byte",
                        limits::ENV_VALUE_BYTES
                    ),
                );
            }
        }
        for why in secrets::faults(&self.secrets, &self.env) {
            fault("secrets", why);
        }
        for (key, why) in self.placement.faults().chain(self.scale.faults()) {
            fault(key, why);
        }
        if self.run.iter().any(|word| word.contains('\0')) || self.run.first().is_some_and(String::is_empty) {
            fault("run", "a word is empty or has a zero byte".into());
        }
        let health = &self.health;
        if health.failures == 0 {
            fault("health.failures", "0 would never count as ready: at least 1".into());
        }
        if health.interval.0 == 0 || health.timeout.0 == 0 || health.start.0 == 0 {
            fault("health", "start, interval and timeout must be above 0s".into());
        }
        if let Probe::Http(path) = &health.probe
            && (!path.starts_with('/') || !path.bytes().all(|byte| (0x21..=0x7e).contains(&byte)))
        {
            fault("health.http", format!("\"{path}\" is not a path: it starts with / and has no spaces"));
        }
        faults
    }
}

/// Collects every fault on its way through a section.
#[derive(Default)]
struct Reader {
    faults: Vec<Problem>,
}

impl Reader {
    fn manifest(mut self, section: &toml::Table) -> Result<Manifest, Vec<Problem>> {
        self.unknown_keys("service", section, &KEYS);
        let plain = Manifest::default();
        let manifest = Manifest {
            isolate: self.parsed(section, "isolate"),
            run: self.command(section),
            port: self.integer(section, "port"),
            env: self.environment(section),
            secrets: self.secrets(section),
            memory: self.amount(section, "memory").unwrap_or(plain.memory),
            cpu: self.amount(section, "cpu").unwrap_or(plain.cpu),
            bandwidth: self.amount(section, "bandwidth").unwrap_or(plain.bandwidth),
            disk: self.amount(section, "disk").unwrap_or(plain.disk),
            placement: self.placement(section),
            concurrency: self.integer(section, "concurrency").unwrap_or(plain.concurrency),
            health: self.health(section),
            min: self.integer(section, "min").unwrap_or(plain.min),
            // A floor alone lifts the default ceiling with it.
            max: self.integer(section, "max").unwrap_or_else(|| {
                let is_singleton = section.get("singleton") == Some(&toml::Value::Boolean(true));
                let most = if is_singleton { 1 } else { plain.max };
                most.max(
                    section
                        .get("min")
                        .and_then(toml::Value::as_integer)
                        .and_then(|min| u32::try_from(min).ok())
                        .unwrap_or(0),
                )
            }),
            scale: self.scale(section),
            standby: self.parsed(section, "standby").unwrap_or(plain.standby),
            drain: self.parsed(section, "drain").unwrap_or(plain.drain),
            grace: self.parsed(section, "grace").unwrap_or(plain.grace),
            timeout: self.parsed(section, "timeout").unwrap_or(plain.timeout),
            state: self.flag(section, "state"),
            singleton: self.flag(section, "singleton"),
            outgoing: self.outgoing(section),
            grpc: self.grpc(section),
        };
        self.faults.extend(manifest.faults());
        if self.faults.is_empty() { Ok(manifest) } else { Err(self.faults) }
    }

    fn fault(&mut self, key: &str, why: impl std::fmt::Display) {
        self.faults.push(Problem::invalid(format!("[service] {key}: {why}")));
    }

    fn unknown_keys(&mut self, section: &str, table: &toml::Table, known: &[&'static str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let problem = Problem::invalid(format!("[{section}] has no key \"{key}\""));
            self.faults.push(match nearest(key, known.iter().copied()) {
                Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                None => problem.hint(format!("known keys: {}", known.join(", "))),
            });
        }
    }

    fn text<'a>(&mut self, table: &'a toml::Table, key: &str) -> Option<&'a str> {
        match table.get(key)? {
            toml::Value::String(text) => Some(text),
            other => {
                self.fault(key, format!("a text is wanted, not {}", other.type_str()));
                None
            }
        }
    }

    fn parsed<T: FromStr<Err = Problem>>(&mut self, table: &toml::Table, key: &str) -> Option<T> {
        let text = self.text(table, key)?;
        text.parse().map_err(|problem: Problem| self.fault(key, problem.detail)).ok()
    }

    /// A quantity, which may also be written as a bare number.
    fn amount<T: FromStr<Err = Problem>>(&mut self, table: &toml::Table, key: &str) -> Option<T> {
        let text = match table.get(key)? {
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            _ => self.text(table, key)?.to_owned(),
        };
        text.parse().map_err(|problem: Problem| self.fault(key, problem.detail)).ok()
    }

    fn integer<T: TryFrom<i64>>(&mut self, table: &toml::Table, key: &str) -> Option<T> {
        match table.get(key)? {
            toml::Value::Integer(number) => {
                T::try_from(*number).map_err(|_| self.fault(key, format!("{number} is out of range"))).ok()
            }
            other => {
                self.fault(key, format!("a whole number is wanted, not {}", other.type_str()));
                None
            }
        }
    }

    fn command(&mut self, table: &toml::Table) -> Vec<String> {
        match table.get("run") {
            None => Vec::new(),
            Some(toml::Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
            Some(toml::Value::Array(words)) if words.iter().all(toml::Value::is_str) => {
                words.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect()
            }
            Some(_) => {
                self.fault("run", "a text or a list of texts is wanted, such as [\"python3\", \"main.py\"]");
                Vec::new()
            }
        }
    }

    fn environment(&mut self, table: &toml::Table) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        match table.get("env") {
            None => {}
            Some(toml::Value::Table(env)) => {
                for (name, value) in env {
                    match value {
                        toml::Value::String(text) => {
                            variables.insert(name.clone(), text.clone());
                        }
                        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                            variables.insert(name.clone(), value.to_string());
                        }
                        other => {
                            self.fault("env", format!("{name} must be a text, not {}", other.type_str()))
                        }
                    }
                }
            }
            Some(other) => self.fault("env", format!("a section is wanted, not {}", other.type_str())),
        }
        variables
    }

    fn flag(&mut self, table: &toml::Table, key: &str) -> bool {
        match table.get(key) {
            None => false,
            Some(toml::Value::Boolean(flag)) => *flag,
            Some(other) => {
                self.fault(key, format!("true or false is wanted, not {}", other.type_str()));
                false
            }
        }
    }

    fn outgoing(&mut self, table: &toml::Table) -> Vec<Destination> {
        let wanted = "a list of hosts is wanted, such as [\"api.example.org\", \"*.example.net:8080\"]";
        match table.get("outgoing") {
            None => Vec::new(),
            Some(toml::Value::Array(hosts)) => {
                let mut destinations = Vec::with_capacity(hosts.len());
                for host in hosts {
                    match host.as_str().map(str::parse) {
                        Some(Ok(destination)) => destinations.push(destination),
                        Some(Err(problem)) => {
                            let problem: Problem = problem;
                            self.fault("outgoing", problem.detail);
                        }
                        None => self.fault("outgoing", wanted),
                    }
                }
                destinations
            }
            Some(_) => {
                self.fault("outgoing", wanted);
                Vec::new()
            }
        }
    }

    fn grpc(&mut self, section: &toml::Table) -> Grpc {
        let plain = Grpc::default();
        match section.get("grpc") {
            None => plain,
            Some(toml::Value::Table(table)) => {
                self.unknown_keys("service.grpc", table, &GRPC_KEYS);
                Grpc { max_message: self.amount(table, "max_message").unwrap_or(plain.max_message) }
            }
            Some(other) => {
                self.fault("grpc", format!("a section is wanted, not {}", other.type_str()));
                plain
            }
        }
    }

    fn health(&mut self, section: &toml::Table) -> Health {
        let plain = Health::default();
        let table = match section.get("health") {
            None => return plain,
            Some(toml::Value::Table(table)) => table,
            Some(toml::Value::String(path)) => return Health { probe: Probe::Http(path.clone()), ..plain },
            Some(other) => {
                self.fault("health", format!("a path or a section is wanted, not {}", other.type_str()));
                return plain;
            }
        };
        self.unknown_keys("service.health", table, &HEALTH_KEYS);
        let probes: Vec<&str> =
            ["http", "tcp", "grpc"].into_iter().filter(|key| table.contains_key(*key)).collect();
        if probes.len() > 1 {
            self.fault("health", format!("one probe is wanted, not {}", probes.join(" and ")));
        }
        let probe = match probes.first() {
            Some(&"http") => self.text(table, "http").map(|path| Probe::Http(path.to_owned())),
            Some(&"grpc") => match table.get("grpc") {
                Some(toml::Value::Boolean(true)) => Some(Probe::Grpc(String::new())),
                _ => self.text(table, "grpc").map(|service| Probe::Grpc(service.to_owned())),
            },
            Some(&"tcp") if table.get("tcp").and_then(toml::Value::as_bool) != Some(true) => {
                self.fault("health.tcp", "only true is meant here");
                None
            }
            _ => None,
        };
        Health {
            probe: probe.unwrap_or(plain.probe),
            start: self.parsed(table, "start").unwrap_or(plain.start),
            interval: self.parsed(table, "interval").unwrap_or(plain.interval),
            timeout: self.parsed(table, "timeout").unwrap_or(plain.timeout),
            failures: self.integer(table, "failures").unwrap_or(plain.failures),
        }
    }
}

#[cfg(test)]
mod tests;
