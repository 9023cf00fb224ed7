//! NATS on the operators, for notices of changes: what its server is told, and by what it knows roles. Their passwords are
//! made of the cluster's key, so that they are the same at every run and stand nowhere but on the machines. It speaks TLS
//! alone, with the certificate that its machine has as a member.
//!
//! What notices are, and what goes on without, is `notices`' business.

use super::{
    order::{DATA, SETTINGS, Unit},
    spec::{Part, Spec},
};
use crate::membership::beside;
use tutti_base::{SecretValues, sha256};

/// The variable that names the file of credentials.
pub(super) const CREDENTIALS: &str = "TUTTI_NOTICES_CREDENTIALS";
/// Where clients come to.
const PORT: u16 = 4222;
/// Where the servers reach one another.
const ROUTES: u16 = 6222;
/// How long a handshake may take, in seconds: machines that have just begun are slow.
const HANDSHAKE_SECONDS: u32 = 5;
/// Its program, as Debian's package has it.
const PROGRAM: &str = "nats-server";

/// Who comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Control, which alone tells anything.
    Control,
    /// Agents and ingresses, which only hear.
    Other,
    /// Its own servers.
    Route,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Who::Control => "control",
            Who::Other => "reader",
            Who::Route => "route",
        }
    }

    fn password(self, spec: &Spec) -> String {
        let text = zeroize::Zeroizing::new(format!("nats {} {}", self.name(), spec.key.0.as_str()));
        sha256::digest(text.as_bytes()).hex().to_owned()
    }
}

/// Where roles reach it.
pub(super) fn address(spec: &Spec) -> String {
    let hosts = spec.of(Part::Operator).map(|host| super::order::at(host, PORT));
    format!("tls://{}", hosts.collect::<Vec<_>>().join(","))
}

/// The variable that names the file of the root that its servers are known by.
pub(super) const CA: &str = "TUTTI_NOTICES_CA";

/// A file of the machine's membership.
fn of_member(name: &str) -> String {
    format!("{DATA}/member/{name}")
}

/// That file: each machine has it as soon as it is a member.
pub(super) fn root() -> String {
    of_member(beside::ROOT)
}

/// The file of what it knows somebody by.
pub(super) fn file(who: Who) -> String {
    format!("{SETTINGS}/nats-{}.credentials", who.name())
}

/// Puts that file among those of a machine, and names it.
pub(super) fn credentials(spec: &Spec, who: Who, files: &mut SecretValues) -> String {
    files.insert(file(who), format!("{}:{}\n", who.name(), who.password(spec)));
    file(who)
}

/// Its unit, with its files.
pub(super) fn unit(spec: &Spec, files: &mut SecretValues) -> Unit {
    let route = Who::Route;
    let routes = spec.of(Part::Operator).map(|host| {
        let (name, password, at) = (route.name(), route.password(spec), super::order::at(host, ROUTES));
        format!("    nats-route://{name}:{password}@{at}\n")
    });
    let user = |who: Who, publish: &str| {
        // In quotes: one that begins with digits would be read as a number.
        let (name, password) = (who.name(), who.password(spec));
        format!(
            "    {{ user: {name}, password: \"{password}\", permissions: {{ publish: {publish}, subscribe: \"tutti.>\" }} }}\n"
        )
    };
    // The certificate of the machine as a member. Whoever renews it says so to the process of `pid_file`.
    let (chain, key, root) = (of_member(beside::CHAIN), of_member(beside::KEY), root());
    let tls = format!(
        "    cert_file: \"{chain}\"\n    key_file: \"{key}\"\n    ca_file: \"{root}\"\n    timeout: {HANDSHAKE_SECONDS}\n"
    );
    let text = format!(
        "listen: \"0.0.0.0:{PORT}\"\npid_file: \"{}\"\ntls {{\n{tls}}}\nauthorization {{\n  users: [\n{}{}  ]\n}}\ncluster {{\n  name: tutti\n  listen: \"0.0.0.0:{ROUTES}\"\n  no_advertise: true\n  tls {{\n{tls}    verify: true\n  }}\n  \
         authorization {{ user: {}, password: \"{}\" }}\n  routes: [\n{}  ]\n}}\n",
        of_member(beside::PID),
        user(Who::Control, "\"tutti.>\""),
        // An empty list would let it publish everything.
        user(Who::Other, "{ deny: \">\" }"),
        route.name(),
        route.password(spec),
        routes.collect::<String>(),
    );
    let (configuration, environment) = (format!("{SETTINGS}/nats.conf"), format!("{SETTINGS}/nats.env"));
    files.insert(configuration.clone(), text);
    // It needs none; systemd and the supervisor want a file.
    files.insert(environment.clone(), "HOME=/root\n".to_owned());
    Unit {
        name: "tutti-nats".to_owned(),
        about: "Tutti: NATS, for notices of changes".to_owned(),
        program: PROGRAM.to_owned(),
        arguments: vec!["-c".to_owned(), configuration.clone()],
        environment,
        reads: vec![configuration],
        port: PORT,
        at: None,
        udp: false,
    }
}
