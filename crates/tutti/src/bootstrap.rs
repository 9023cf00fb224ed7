//! `tutti bootstrap`: an installation from a file: bare hosts, a store and a bucket become a cluster. All hosts are looked
//! at first, and everything that is missing is said at once; then each is made what it is to be, operators first. What is
//! so already is left alone, so that the same again changes nothing, and what a store holds already comes back.
//!
//! What the file says is read in [`spec`]; what a host is told is decided in [`order`]; [`inspect`], [`apply`] and
//! [`admit`] are what the program does on a host, as `tutti host`.

mod admit;
mod apply;
mod init;
mod inspect;
mod nats;
mod order;
mod remote;
mod spec;
mod supervise;

use admit::{Admitted, Asked};
use futures_util::future::join_all;
use inspect::Found;
use order::{Order, TOKEN};
use remote::{Program, Remote};
use spec::{Part, Spec};
use std::{
    io::Read as _,
    net::ToSocketAddrs as _,
    path::{Path, PathBuf},
};
use tutti_base::{Clock as _, SystemClock};
use tutti_model::{Millis, Problem};

pub(crate) use supervise::run as supervise;

/// Where programs are looked for on a host.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How far a host's clock may be off: certificates and leases go by it.
const CLOCKS: Millis = Millis::seconds(5);
/// Largest order that a host reads, in bytes.
const ORDER_BYTES: u64 = 4 * 1024 * 1024;

/// What `tutti host` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Verb {
    /// Says whether this host can be what it is to be.
    Inspect,
    /// Says what this environment reaches; asked by the first.
    Reach,
    /// Makes it so.
    Apply,
    /// Makes the token by which another machine joins.
    Admit,
}

/// Does on this host what is told on standard input.
///
/// # Errors
/// What keeps it from being done.
pub(crate) async fn host(verb: Verb) -> Result<(), Problem> {
    let mut told = zeroize::Zeroizing::new(Vec::new());
    // Nothing is told to who only looks around, and it has no standard input.
    let read = std::io::stdin().take(ORDER_BYTES).read_to_end(&mut told);
    read.map_err(|error| Problem::invalid(format!("what is to be done cannot be read: {error}")))?;
    // What is wrong with it is not said: it could be a part of a secret.
    let unreadable =
        |_| Problem::invalid("what is to be done, on standard input, is not an order of this release");
    let answer = match verb {
        Verb::Inspect => serde_json::to_string(
            &inspect::inspect(&serde_json::from_slice(&told).map_err(unreadable)?).await,
        ),
        Verb::Reach => serde_json::to_string(&inspect::reach().await),
        Verb::Apply => {
            serde_json::to_string(&apply::apply(&serde_json::from_slice(&told).map_err(unreadable)?).await?)
        }
        Verb::Admit => {
            serde_json::to_string(&admit::admit(&serde_json::from_slice(&told).map_err(unreadable)?).await?)
        }
    };
    crate::parts::say(&answer.map_err(|error| Problem::internal(error.to_string()))?);
    Ok(())
}

/// Prints the script that makes one host what the file says, for where it cannot be reached from here.
///
/// # Errors
/// Every fault of the file, and a host that is not in it.
pub(crate) fn script(file: &Path, name: &str) -> Result<(), Vec<Problem>> {
    let spec = Spec::read(file)?;
    let host = spec.hosts.iter().find(|host| host.name.as_str() == name).ok_or_else(|| {
        let names = spec.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ");
        vec![
            Problem::invalid(format!("{} has no host {name}", file.display()))
                .hint(format!("it has {names}")),
        ]
    })?;
    let order = Order::of(&spec, host);
    let text =
        serde_json::to_string_pretty(&order).map_err(|error| vec![Problem::internal(error.to_string())])?;
    let marker = remote::marker(&text);
    let token = match host.part {
        Part::Operator => String::new(),
        Part::Worker => format!(
            "# A machine that is no member yet needs a token: on an operator, tutti token create --node {name},\n\
             # and here: export {TOKEN}=…\n"
        ),
    };
    crate::parts::say(&format!(
        "#!/bin/sh\n# Makes this host {name} of the cluster. Run it as root, with the tutti of the same release in the PATH.\n\
         # It holds secrets: keep it from others.\n{token}set -eu\ntutti host inspect <<'{marker}'\n{text}\n{marker}\n\
         tutti host apply <<'{marker}'\n{text}\n{marker}"
    ));
    Ok(())
}

/// Makes the hosts of a file a cluster; with `only_check` it only says what is missing.
///
/// # Errors
/// Everything that is missing; then nothing was changed. Later, what could not be done.
pub(crate) async fn run(file: &Path, only_check: bool) -> Result<(), Vec<Problem>> {
    let spec = Spec::read(file)?;
    let say = |text: &str| crate::parts::say(text);
    say(&format!(
        "{} operators, {} workers; the key of the cluster is in {}: keep a copy of it",
        spec.of(Part::Operator).count(),
        spec.of(Part::Worker).count(),
        spec.key.1.display()
    ));
    let (remotes, known) = check(&spec).await?;
    match &known {
        Some(cluster) => {
            say(&format!("the store holds cluster {cluster}: it is that one that is brought back, or stays"))
        }
        None => say("the store holds no cluster: one is made"),
    }
    if only_check {
        say("nothing is missing");
        join_all(remotes.iter().map(|(remote, _)| remote.leave())).await;
        return Ok(());
    }
    let mut changes = 0;
    for (remote, found) in &remotes {
        let mut order = Order::of(&spec, remote.host);
        let name = &remote.host.name;
        let of_host =
            |problem: Problem| vec![Problem { detail: format!("{name}: {}", problem.detail), ..problem }];
        if remote.host.part == Part::Worker && found.member_of.is_none() {
            let Some((operator, _)) = remotes.first() else { continue };
            let admitted: Admitted =
                operator.installed("admit", &Asked { name: name.clone() }).await.map_err(of_host)?;
            if admitted.replaced {
                say(&format!("{name}  takes the place of a machine of this name that is gone"));
            }
            order.token.insert(TOKEN, admitted.token);
        }
        let applied = remote.apply(&order).await.map_err(of_host)?;
        for change in &applied.changed {
            say(&format!("{name}  {change}"));
        }
        changes += applied.changed.len();
    }
    let first = spec.of(Part::Operator).next().map(|host| host.ssh.0.clone()).unwrap_or_default();
    match changes {
        0 => say("everything is as it is to be; nothing was changed"),
        _ => say(&format!(
            "the cluster runs; to look at it: ssh {first} tutti --api unix:{} status",
            order::CONTROL_SOCKET
        )),
    }
    Ok(())
}

/// Looks at everything, and gives the hosts in the order in which they are done, with the cluster that there is.
async fn check(spec: &Spec) -> Result<(Vec<(Remote<'_>, Found)>, Option<String>), Vec<Problem>> {
    let own = &Program::own().map_err(|problem| vec![problem])?;
    let looked = join_all(spec.hosts.iter().map(|host| async move {
        let remote = Remote::reach(host, &spec.ssh, own).await?;
        let found: Found = remote.host("inspect", &Order::of(spec, host)).await?;
        // It was looked at on the way back.
        let now = SystemClock.now();
        let off = now.since(found.now).max(found.now.since(now));
        Ok::<_, Problem>((remote, found, off))
    }))
    .await;
    let mut faults: Vec<Problem> = spec.names.iter().filter_map(|name| leads_here(spec, name)).collect();
    let mut remotes = Vec::new();
    for (host, looked) in spec.hosts.iter().zip(looked) {
        match looked {
            Err(problem) => {
                faults.push(Problem { detail: format!("{}: {}", host.name, problem.detail), ..problem });
            }
            Ok((remote, found, off)) => {
                let of_host = |why: &String| Problem::conflict(format!("{}: {why}", host.name));
                faults.extend(found.faults.iter().map(of_host));
                if off > CLOCKS {
                    faults
                        .push(of_host(&format!("its clock is {off} off this machine's, more than {CLOCKS}")));
                }
                remotes.push((remote, found));
            }
        }
    }
    let known = remotes.iter().find_map(|(_, found)| found.store_holds.clone().or(found.member_of.clone()));
    for (remote, found) in &remotes {
        if let (Some(member_of), Some(known)) = (&found.member_of, &known)
            && member_of != known
        {
            faults.push(Problem::conflict(format!(
                "{}: it is a member of cluster {member_of}, and this is cluster {known}",
                remote.host.name
            )));
        }
    }
    if faults.is_empty() {
        return Ok((remotes, known));
    }
    join_all(remotes.iter().map(|(remote, _)| remote.leave())).await;
    let count = faults.len();
    faults.push(Problem::conflict(format!("{count} of what is needed is missing; nothing was changed")));
    Err(faults)
}

/// Why a name does not lead to an operator. Where the operators themselves are to answer for it, it may lead nowhere before
/// they do.
fn leads_here(spec: &Spec, name: &str) -> Option<Problem> {
    let found: Vec<_> = match (name, order::API_PORT).to_socket_addrs() {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(error) if spec.dns.is_some() => {
            crate::parts::say(&format!(
                "the name {name} is not found from here yet ({error}): have the domain above it delegate it to the operators"
            ));
            return None;
        }
        Err(error) => {
            return Some(Problem::unavailable(format!("the name {name} cannot be looked up: {error}")));
        }
    };
    if spec.of(Part::Operator).any(|host| found.contains(&host.address)) {
        return None;
    }
    let found = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some(
        Problem::conflict(format!("the name {name} leads to {found}, which is no operator"))
            .hint("have it lead to the addresses of the operators"),
    )
}

/// What `tutti bootstrap` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct BootstrapArgs {
    /// The file that says what there is to be
    #[arg(value_name = "FILE", default_value = "cluster.toml")]
    pub(crate) file: PathBuf,
    /// Only look whether all that is needed is there
    #[arg(long, conflicts_with = "script")]
    pub(crate) check: bool,
    /// Print a script for this host instead, to be run there as root
    #[arg(long, value_name = "HOST")]
    pub(crate) script: Option<String>,
}
