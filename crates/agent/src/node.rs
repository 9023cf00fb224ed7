//! What every part of one agent shares.

use crate::{
    admission::Slot, directory::Directory, leases::Leases, ledger::Ledger, metrics::Metrics,
    reporter::Reporter,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use tutti_api::ZoneApi;
use tutti_base::{Clock, Random};
use tutti_isolate::{Artifacts, Driver, Running};
use tutti_model::{
    InstanceId, Millis, Problem, name::NodeName, node::Resources, quantity::ByteSize, version::Isolate,
};
use tutti_seal::Keyring;

/// How an agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// What can run on by itself runs on, and is taken up by the next agent (`tutti agent`).
    Leave,
    /// Everything it runs is stopped, and started again by the next agent (`tutti dev`). Requests may finish in the
    /// first half of the deadline.
    Stop {
        /// By when all is to be gone.
        deadline: Millis,
    },
}

/// What every part of one agent shares.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) zone: Arc<dyn ZoneApi>,
    pub(crate) drivers: BTreeMap<Isolate, Arc<dyn Driver>>,
    pub(crate) artifacts: Arc<dyn Artifacts>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    /// The node's own key.
    pub(crate) keyring: Keyring,
    pub(crate) folders: Folders,
    pub(crate) ledger: Ledger,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) living: Living,
    pub(crate) leases: Leases,
    pub(crate) metrics: Metrics,
    /// What it has, to tell whether what sleeps may wake.
    pub(crate) capacity: Resources,
    /// How the agent ends, once it does.
    pub(crate) ending: watch::Sender<Option<Shutdown>>,
    /// Why control does not take this node, once it does not.
    pub(crate) refused: watch::Sender<Option<Problem>>,
}

/// Where the agent keeps its files.
#[derive(Debug, Clone)]
pub(crate) struct Folders(pub(crate) PathBuf);

impl Folders {
    pub(crate) fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }

    pub(crate) fn instances(&self) -> PathBuf {
        self.0.join("instances")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub(crate) fn instance(&self, instance: &InstanceId) -> PathBuf {
        self.instances().join(instance.as_str())
    }

    pub(crate) fn log(&self, instance: &InstanceId) -> PathBuf {
        self.logs().join(instance.as_str())
    }

    pub(crate) fn make(&self) -> Result<(), (PathBuf, std::io::Error)> {
        let make = |path: &Path| std::fs::create_dir_all(path).map_err(|error| (path.to_owned(), error));
        make(&self.instances())?;
        make(&self.logs())
    }
}

/// The instances that run now, for heartbeats. Not on any request's way.
#[derive(Debug, Default)]
pub(crate) struct Living(Mutex<BTreeMap<InstanceId, Life>>);

/// One instance that runs now.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) running: Arc<dyn Running>,
    /// Its place in the node proxy, from when it is first ready until it is gone.
    pub(crate) slot: Option<Arc<Slot>>,
    /// What it was promised.
    pub(crate) memory: ByteSize,
}

impl Living {
    pub(crate) fn set(&self, instance: &InstanceId, life: Life) {
        self.lock().insert(instance.clone(), life);
    }

    pub(crate) fn remove(&self, instance: &InstanceId) {
        self.lock().remove(instance);
    }

    pub(crate) fn running(&self, instance: &InstanceId) -> Option<Arc<dyn Running>> {
        self.lock().get(instance).map(|life| Arc::clone(&life.running))
    }

    pub(crate) fn all(&self) -> Vec<(InstanceId, Life)> {
        self.lock().iter().map(|(id, life)| (id.clone(), life.clone())).collect()
    }

    /// What all that run were promised.
    pub(crate) fn memory(&self) -> ByteSize {
        ByteSize(self.lock().values().fold(0, |all, life| all.saturating_add(life.memory.0)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Life>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
