//! The reconcilers: watch, decide with `tutti-plan`, write.
//!
//! Two loops that decide, one for each tier. Both hold what they watch in a [`cache`], plan the services that something changed
//! for, and write what the plan says in one transaction that compares everything the plan was decided from; a refused
//! transaction is decided anew when the change that refused it arrives. They take no other input, may be stopped at
//! any point, and resume from what is stored. Of several controls over one store one runs them ([`crate::leadership`]).
//!
//! * [`global`]: deployments, hand-down to zones, removal of services.
//! * [`loops`]: how they fare, for operators; nothing is decided by it.
//! * `retention`: how many audit records and events are kept; it decides by counting alone, and watches nothing.
//! * [`pool`]: the commands that make and remove machines, each run by `command`.
//! * [`zone`]: instances, tables, preloading and reports of one zone.

mod command;
pub mod global;
pub mod index;
pub mod loops;
pub mod pool;
mod report;
mod retention;
pub mod wake;
pub mod zone;

pub use command::Program;

use self::loops::Loops;
use crate::{Objects, observed::Observed};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tutti_base::Tasks;

/// What reconcilers need to know of this control.
#[derive(Debug, Clone)]
pub struct ReconcileOptions {
    /// The store.
    pub objects: Objects,
    /// What is observed.
    pub observed: Observed,
    /// The platform's own names, below which services get hosts by themselves (in dev `localhost`).
    pub host_suffixes: Vec<String>,
    /// Where the loops say how they fare.
    pub loops: Loops,
    /// The commands that make machines.
    pub machines: pool::MachineCommands,
}

/// Starts the loops among `tasks`; they end with `over`, and `running` tells when they have.
pub fn start(options: ReconcileOptions, tasks: &Tasks, running: &TaskTracker, over: &CancellationToken) {
    let global = global::run(options.clone(), over.clone());
    let pulse = options.loops.pulse("retention", options.objects.clock());
    let retention = retention::run(options.objects.clone(), pulse, over.clone());
    let machines = pool::run(options.clone(), over.clone());
    tasks.spawn("retention", running.track_future(retention));
    tasks.spawn("pools", running.track_future(machines));
    tasks.spawn("global reconciler", running.track_future(global));
    tasks.spawn("zone reconciler", running.track_future(zone::run(options, over.clone())));
}
