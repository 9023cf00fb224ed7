//! The reconcilers: watch, decide with `tutti-plan`, write.
//!
//! Two loops, one for each tier. Both hold what they watch in a [`cache`], plan the services that something changed
//! for, and write what the plan says in one transaction that compares everything the plan was decided from; a refused
//! transaction is decided anew when the change that refused it arrives. They take no other input, may be stopped at
//! any point, and resume from what is stored.
//!
//! * [`global`]: deployments, hand-down to zones, removal of services.
//! * [`zone`]: instances, tables, preloading and reports of one zone.

pub mod cache;
pub mod global;
pub mod index;
mod report;
pub mod wake;
pub mod zone;

use crate::{Objects, observed::Observed};
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
}

/// Starts both loops.
pub fn start(options: ReconcileOptions, tasks: &Tasks) {
    tasks.spawn("global reconciler", global::run(options.clone(), tasks.stopping()));
    tasks.spawn("zone reconciler", zone::run(options, tasks.stopping()));
}
