//! The agent as its role is wired: what it is given, how it starts and how it ends.

use crate::{
    fleet::Fleet,
    leases::Leases,
    ledger::Ledger,
    logs::NodeLogs,
    machine,
    metrics::Metrics,
    node::{Folders, Living, Node, Shutdown},
    node_proxy::NodeProxy,
    preload, presence, sweep,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tutti_api::{ZoneApi, logs::LogSource};
use tutti_base::{Clock, Random, Tasks};
use tutti_isolate::{Artifacts, Driver};
use tutti_logs::Reader;
use tutti_model::{
    Problem,
    name::NodeName,
    node::{Fingerprint, NodeStatus, Resources, RoleAddress},
    scheduling::Labels,
};
use tutti_proxy::{Hop, Pool, PoolOptions};
use tutti_seal::Keyring;

/// How long letting go of instances may take beyond stopping them: a start that must not be broken off, a write to disk.
const LEAVING: Duration = Duration::from_secs(5);

/// What an agent is given.
#[derive(Debug)]
pub struct AgentOptions {
    /// This node's name.
    pub node: NodeName,
    /// Its zone's control: in the same process, or over the wire.
    pub zone: Arc<dyn ZoneApi>,
    /// What runs instances, at most one driver for each isolate.
    pub drivers: Vec<Arc<dyn Driver>>,
    /// Where artifacts come from.
    pub artifacts: Arc<dyn Artifacts>,
    /// Where it keeps its ledger, its instances' files and their logs. One agent at a time.
    pub folder: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for the jitter of pauses.
    pub random: Random,
    /// The node's own key, under which it keeps what only its instances may know.
    pub keyring: Keyring,
    /// The release of this program.
    pub release: String,
    /// What the node has; found out if it is not given.
    pub capacity: Option<Resources>,
    /// Labels of the node that its settings say, beside those of every machine.
    pub labels: Labels,
    /// Where others reach this node's proxy and logs; `None` if they are in the same process.
    pub address: Option<RoleAddress>,
}

/// The agent of one node. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Agent {
    node: Arc<Node>,
    proxy: Arc<NodeProxy>,
    logs: Arc<NodeLogs>,
    runners: TaskTracker,
    registered: CancellationToken,
    about: Arc<About>,
}

/// What control is told of the node.
#[derive(Debug)]
struct About {
    release: String,
    capacity: Resources,
    labels: Labels,
    address: Option<RoleAddress>,
}

impl Agent {
    /// An agent that runs nothing yet. It must be made inside a runtime.
    ///
    /// # Errors
    /// `unavailable` if its folder cannot be written.
    pub fn new(options: AgentOptions) -> Result<Agent, Problem> {
        let folders = Folders(options.folder);
        folders.make().map_err(|(path, error)| {
            Problem::unavailable(format!("cannot make the folder {}: {error}", path.display()))
                .hint("check that the disk is writable and has room")
        })?;
        let capacity = options.capacity.unwrap_or_else(|| machine::capacity(&folders.0));
        let mut labels = machine::labels();
        labels.extend(options.labels);
        let ledger = Ledger::open(folders.ledger())?;
        let logs = Arc::new(NodeLogs::new(Reader::new(folders.logs()), folders.clone()));
        let node = Arc::new(Node {
            name: options.node,
            zone: options.zone,
            drivers: options.drivers.into_iter().map(|driver| (driver.isolate(), driver)).collect(),
            artifacts: options.artifacts,
            clock: options.clock,
            random: options.random,
            keyring: options.keyring,
            folders,
            ledger,
            reporter: Arc::default(),
            directory: Arc::default(),
            living: Living::default(),
            leases: Leases::default(),
            metrics: Metrics::default(),
            capacity,
            ending: watch::Sender::new(None),
            refused: watch::Sender::new(None),
        });
        Ok(Agent {
            proxy: Arc::new(NodeProxy::new(Arc::clone(&node), Pool::new(PoolOptions::default()))),
            node,
            logs,
            runners: TaskTracker::new(),
            registered: CancellationToken::new(),
            about: Arc::new(About { release: options.release, capacity, labels, address: options.address }),
        })
    }

    /// Takes up what an earlier agent ran, and from then on does what control wants, until `tasks` are to stop. Returns
    /// at once; the work is done in tasks.
    ///
    /// # Errors
    /// `unavailable` if the ledger cannot be read: then nothing is touched.
    pub fn run(&self, tasks: Tasks) -> Result<(), Problem> {
        let entries = self.node.ledger.read()?;
        let leftovers = sweep::leftovers(&self.node.folders, &entries);
        let (node, stop) = (&self.node, tasks.stopping());
        let failed = {
            let count = node.metrics.reports_failed.clone();
            move || {
                count.inc();
            }
        };
        let reporter = Arc::clone(&node.reporter).run(
            node.name.clone(),
            Arc::clone(&node.zone),
            Arc::clone(&node.clock),
            node.random.clone(),
            failed,
            stop.clone(),
        );
        tasks.spawn("reporter", reporter);
        let mut fleet = Fleet::new(Arc::clone(node), tasks.clone(), self.runners.clone());
        let settled = fleet.take_up(entries);
        tasks.spawn("instances", fleet.run(stop.clone()));
        let (wanted, wants) = watch::channel(Vec::new());
        tasks.spawn("node", preload::follow(Arc::clone(node), wanted, stop.clone()));
        let (holds, held) = watch::channel(Vec::new());
        tasks.spawn("preload", preload::run(Arc::clone(node), wants, holds, stop.clone()));
        tasks.spawn("sweep", sweep::run(Arc::clone(node), leftovers));
        let (agent, registered) = (self.clone(), self.registered.clone());
        tasks.spawn("presence", async move {
            let status = agent.status().await;
            presence::run(Arc::clone(&agent.node), status, settled, held, registered, stop).await;
        });
        Ok(())
    }

    /// Returns once control has this node as ready: all it ran before runs again.
    pub async fn registered(&self) {
        self.registered.cancelled().await;
    }

    /// Returns why, once control has refused this node because another agent has its name. Until then what it ran
    /// before runs on, but it must not go on: both would run the same instances.
    pub async fn refused(&self) -> Problem {
        let mut refused = self.node.refused.subscribe();
        loop {
            let known = refused.borrow_and_update().clone();
            match known {
                Some(problem) => return problem,
                // The sender is in `self`, so that this cannot fail.
                None => drop(refused.changed().await),
            }
        }
    }

    /// From now on the node proxy takes no new request, so that each goes elsewhere; those inside go on.
    pub fn take_no_more(&self) {
        self.proxy.take_no_more();
    }

    /// Stops every instance that an earlier agent of this folder left running, and says how many there were. The next
    /// agent starts them again, as far as control still wants them. Instead of [`Agent::run`].
    ///
    /// # Errors
    /// `unavailable` if the ledger cannot be read: then nothing is touched.
    pub async fn stop_left(&self) -> Result<usize, Problem> {
        Ok(sweep::stop_left(&self.node, &self.node.ledger.read()?).await)
    }

    /// Ends the agent's instances, or leaves them, and returns when that is done, at the latest a little after the
    /// deadline. To be called before the tasks given to [`Agent::run`] are stopped.
    pub async fn shutdown(&self, how: Shutdown) {
        self.node.ending.send_replace(Some(how));
        self.runners.close();
        let limit = match how {
            Shutdown::Leave => LEAVING,
            Shutdown::Stop { deadline } => deadline.duration() + LEAVING,
        };
        if tokio::time::timeout(limit, self.runners.wait()).await.is_err() {
            tracing::warn!(left = self.runners.len(), "not every instance was let go in time");
        }
    }

    /// The way to this node's instances.
    #[must_use]
    pub fn node_proxy(&self) -> Arc<dyn Hop> {
        Arc::clone(&self.proxy) as Arc<dyn Hop>
    }

    /// The logs of this node's instances.
    #[must_use]
    pub fn log_source(&self) -> Arc<dyn LogSource> {
        Arc::clone(&self.logs) as Arc<dyn LogSource>
    }

    /// What the agent counts, as Prometheus text without the closing `# EOF`.
    #[must_use]
    pub fn metrics(&self) -> String {
        let slots = self.node.living.all().into_iter().filter_map(|(_, life)| life.slot);
        let running = slots.map(|slot| u64::from(slot.running())).sum();
        let directory = &self.node.directory;
        let (counts, first) = (self.node.reporter.counts(), directory.first_answers());
        self.node.metrics.text(&counts, running, directory.waiting(), first)
    }

    #[cfg(test)]
    pub(crate) fn directory(&self) -> &crate::directory::Directory {
        &self.node.directory
    }

    /// What control is told of this node, but that it is not ready.
    pub async fn status(&self) -> NodeStatus {
        let mut isolates: Vec<Fingerprint> = Vec::new();
        for driver in self.node.drivers.values() {
            isolates.push(driver.fingerprint().await);
        }
        NodeStatus {
            release: self.about.release.clone(),
            capacity: self.about.capacity,
            labels: self.about.labels.clone(),
            isolates,
            address: self.about.address.clone(),
            ..NodeStatus::default()
        }
    }
}

#[cfg(test)]
mod tests;
