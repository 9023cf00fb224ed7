//! On a host: whether it can be what the order says, and what it is now. It changes nothing there; a store that is empty
//! gets its tables, and a bucket the object by which it is tried.

use super::{
    apply::membership,
    init::Init,
    order::{DATA, Enrol, Order, PROGRAM, Unit},
};
use crate::{
    artifacts,
    folder::DataFolder,
    parts::open_store,
    settings::{Effective, ServerSettings, Sources},
};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};
use tutti_base::{Clock, Random, SystemClock};
use tutti_control::{Objects, cluster::Cluster};
use tutti_model::{Problem, Timestamp, name::ZoneName, quantity::ByteSize};
use tutti_resolve::TxtResolver;
use tutti_seal::Keyring;

/// Room that a host must have on the disk of its data.
const DISK: ByteSize = ByteSize::mib(2048);
/// Memory that a host must have.
const MEMORY: ByteSize = ByteSize::mib(512);
/// Programs of the host that are needed beside `tutti`, where it has no systemd.
const PROGRAMS: [&str; 2] = ["setsid", "setpriv"];

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Found {
    /// What is missing, one sentence each.
    pub(crate) faults: Vec<String>,
    /// What keeps programs running.
    pub(crate) init: Init,
    /// The cluster it is a member of.
    pub(crate) member_of: Option<String>,
    /// The cluster that the store holds, seen from an operator that does not run yet.
    pub(crate) store_holds: Option<String>,
    /// The time of day here.
    pub(crate) now: Timestamp,
}

/// Looks.
pub(crate) async fn inspect(order: &Order) -> Found {
    let mut faults = Vec::new();
    if !rustix::process::geteuid().is_root() {
        faults.push("this user is not root".to_owned());
    }
    let init = Init::of_this_host();
    if init == Init::Supervisor {
        let missing = PROGRAMS.iter().filter(|program| !is_on_path(program));
        faults.extend(missing.map(|program| format!("the program {program} is missing (util-linux)")));
    }
    let others = order.units.iter().filter(|unit| unit.program != PROGRAM && !is_on_path(&unit.program));
    faults.extend(others.map(|unit| format!("the program {0} is missing (Debian: {0})", unit.program)));
    room(&mut faults);
    let member = membership().unwrap_or_else(|problem| {
        faults.push(problem.to_string());
        None
    });
    if let Some(member) = member.as_ref().filter(|member| member.kept.member != order.name) {
        faults.push(format!("it is member {} of cluster {}", member.kept.member, member.kept.cluster));
    }
    // What has its settings here may run already, and have its port itself.
    let is_new = |unit: &&Unit| member.is_none() || !Path::new(&unit.environment).exists();
    faults.extend(order.units.iter().filter(is_new).flat_map(taken));
    let mut store_holds = None;
    // One that serves has shown that it reaches them.
    if order.enrol == Enrol::Store && !(member.is_some() && order.units.iter().all(Unit::answers)) {
        match ask(order) {
            Ok(reached) => {
                faults.extend(reached.faults);
                store_holds = reached.store_holds;
            }
            Err(error) => faults.push(format!("whether the store is reached cannot be found out: {error}")),
        }
    }
    let member_of = member.map(|member| member.kept.cluster);
    Found { faults, init, member_of, store_holds, now: SystemClock.now() }
}

fn is_on_path(program: &str) -> bool {
    super::PATH.split(':').any(|folder| Path::new(folder).join(program).is_file())
}

fn room(faults: &mut Vec<String>) {
    // The folder may not be there yet; then it is the disk of the next one up that counts.
    let there = Path::new(DATA).ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(stat) => {
            let free = ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize));
            if free < DISK {
                faults
                    .push(format!("the disk of {} has {free} free, and {DISK} are needed", there.display()));
            }
        }
        Err(error) => faults.push(format!("the disk of {}: {error}", there.display())),
    }
    let memory = tutti_agent::capacity(Path::new("/")).memory;
    if memory < MEMORY {
        faults.push(format!("it has {memory} of memory, and {MEMORY} are needed"));
    }
}

/// Why a unit cannot have its port.
fn taken(unit: &Unit) -> Vec<String> {
    let address = SocketAddr::new(unit.at.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), unit.port);
    let tcp = TcpListener::bind(address).err().map(|error| ("", error));
    let udp = if unit.udp { UdpSocket::bind(address).err().map(|error| (", UDP,", error)) } else { None };
    let said = |(how, error): (&str, std::io::Error)| {
        format!("port {}{how} is needed for {}: {error}", unit.port, unit.name)
    };
    tcp.into_iter().chain(udp).map(said).collect()
}

/// What an operator reaches.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Reached {
    /// What it does not, and why.
    faults: Vec<String>,
    /// The cluster that the store holds.
    store_holds: Option<String>,
}

/// Looks in a process of its own, with the environment that control will have: what is secret is taken from there.
fn ask(order: &Order) -> std::io::Result<Reached> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["host", "reach"]).env_clear().envs(order.environment()).env("PATH", super::PATH);
    let output = command.current_dir("/").stdin(Stdio::null()).output()?;
    let said = || std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    serde_json::from_slice(&output.stdout).map_err(|_| said())
}

/// Whether the store and the bucket can be used from here, with this environment.
pub(crate) async fn reach() -> Reached {
    match reaches().await {
        Ok(store_holds) => Reached { faults: Vec::new(), store_holds },
        Err(problems) => {
            let said = |problem: Problem| match &problem.hint {
                Some(hint) => format!("{} ({hint})", problem.detail),
                None => problem.detail,
            };
            Reached { faults: problems.into_iter().map(said).collect(), store_holds: None }
        }
    }
}

async fn reaches() -> Result<Option<String>, Vec<Problem>> {
    let sources = Sources { variables: std::env::vars().collect(), ..Sources::default() };
    let settings =
        Effective::read(&sources).and_then(|effective| ServerSettings::try_from(&effective))?.control;
    let (clock, random): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Random::from_os());
    let mut problems = Vec::new();
    if settings.resolver.is_none() {
        problems.extend(TxtResolver::of_this_machine().err());
    }
    let mut holds = None;
    match open_store(&settings.store, &clock, &random).await {
        Err(problem) => problems.push(problem),
        Ok(store) => {
            let objects = Objects::new(store, ZoneName::local(), clock, random.clone());
            // Which cluster it is stands there for everybody; only what is sealed needs the key.
            let nobody = Keyring::without(Problem::unavailable("no key is needed to look"));
            match Cluster::find(&objects, &nobody).await {
                Ok(cluster) => holds = cluster.map(|cluster| cluster.id().to_owned()),
                Err(problem) => problems.push(problem),
            }
        }
    }
    let folder = std::env::temp_dir().join(format!("tutti-inspect-{}", random.uid()));
    let opened = match DataFolder::take(&folder) {
        Ok(taken) => artifacts::open(&settings, &taken).await.map(drop),
        Err(problem) => Err(problem),
    };
    let _ = std::fs::remove_dir_all(&folder);
    problems.extend(opened.err());
    if problems.is_empty() { Ok(holds) } else { Err(problems) }
}
