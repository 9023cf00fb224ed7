//! One instance's life on this node: a state machine with a task of its own.
//!
//! Each state is an async method that returns the next state. What moves it on is an order (from control by way of the
//! fleet, or the agent's own end), the instance's exit, or a probe's result. The states themselves are in [`states`];
//! here is what they share.
//!
//! ```text
//! recovering ─▶ preloading ─▶ starting ─▶ probing ─▶ ready ─▶ draining ─▶ stopped ─▶ over
//!                    ▲            ▲          │         │ (ready ─▶ asleep ─▶ starting)
//!                    └────────────┴─ backoff ◀─────────┘   (or failed ─▶ stopped)
//! ```

use crate::{
    admission::Slot,
    directory::Sleeper,
    ledger::Entry,
    node::{Life, Node, Shutdown},
    restart::{Restarts, Verdict},
    voice::Voice,
};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tutti_base::{Backoff, SecretValues};
use tutti_isolate::{Artifact, Driver, Exit, Running, StartSpec};
use tutti_model::{
    Millis, Timestamp,
    instance::{Goal, InstanceState},
    limits,
};

mod asleep;
mod lease;
mod secrets;
mod states;

/// How long a stopped instance may take to end by itself before it is forced.
const STOP_GRACE: Millis = Millis::seconds(5);
/// The first pause after an artifact could not be pulled, and the longest.
const PULL_PAUSES: (Millis, Millis) = (Millis(200), Millis::seconds(30));

/// What control wants of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// This, as of this generation.
    Want {
        /// The generation.
        generation: u64,
        /// What it is to do.
        goal: Goal,
    },
    /// It is no longer known: it is to stop and leave nothing behind.
    Remove,
}

/// What ends an instance from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    Drain,
    Stop,
    Remove,
    Leave,
    Shutdown(Millis),
}

/// Where a runner begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Control named the instance.
    Control,
    /// The ledger did, after an earlier agent.
    Ledger,
}

/// Orders of control, and of the agent's own end.
#[derive(Debug)]
struct Orders {
    order: watch::Receiver<Order>,
    ending: watch::Receiver<Option<Shutdown>>,
    /// The fleet is gone without a word; so is this runner then, and the instance is left.
    deserted: bool,
}

impl Orders {
    /// Returns once there is something new to obey.
    async fn changed(&mut self) {
        let heard = tokio::select! {
            biased;
            heard = self.ending.changed() => heard,
            heard = self.order.changed() => heard,
        };
        self.deserted |= heard.is_err();
    }
}

/// One instance's runner.
#[derive(Debug)]
pub(crate) struct Runner {
    node: Arc<Node>,
    entry: Entry,
    orders: Orders,
    voice: Voice,
    /// What it runs, once it is here.
    artifact: Option<Artifact>,
    /// While it sleeps and wakes: its place in the directory, where requests wait for it.
    sleeper: Option<Sleeper>,
    restarts: Restarts,
    pulls: Backoff,
    /// Whether the driver may keep something of an earlier life.
    remains: bool,
    origin: Origin,
}

/// Where an instance is.
enum State {
    Recovering,
    Preloading,
    Starting(Artifact),
    Probing(Arc<dyn Running>, Timestamp),
    Ready(Arc<dyn Running>, Timestamp),
    Asleep,
    Backoff(Millis),
    Draining(Arc<dyn Running>, Arc<Slot>),
    Failed {
        reason: String,
        last_lines: Vec<String>,
    },
    Stopped {
        reason: Option<String>,
    },
    /// Stopped or failed, and told so.
    Ended,
    Removed,
    Over,
}

impl State {
    /// Whether requests may wait for it: it sleeps, wakes, or has just woken.
    const fn may_wait(&self) -> bool {
        use State as S;
        matches!(self, S::Asleep | S::Preloading | S::Starting(_) | S::Probing(..) | S::Ready(..))
    }
}

impl Runner {
    /// A runner for what `entry` says. `settled` is cancelled once the instance is ready, or cannot be for now.
    pub(crate) fn new(
        node: Arc<Node>,
        entry: Entry,
        origin: Origin,
        mut order: watch::Receiver<Order>,
        settled: CancellationToken,
    ) -> Self {
        let mut ending = node.ending.subscribe();
        order.mark_changed();
        ending.mark_changed();
        let voice = Voice::new(
            entry.spec.instance.clone(),
            Arc::clone(&node.reporter),
            Arc::clone(&node.clock),
            entry.generation,
            settled,
        );
        Runner {
            orders: Orders { order, ending, deserted: false },
            voice,
            artifact: None,
            sleeper: None,
            restarts: Restarts::new(node.random.clone()),
            pulls: Backoff::new(PULL_PAUSES.0, PULL_PAUSES.1, node.random.clone()),
            remains: origin == Origin::Ledger,
            origin,
            entry,
            node,
        }
    }

    /// Lives the instance's life.
    pub(crate) async fn run(mut self) {
        let mut state = match (self.origin, self.entry.ended.take()) {
            (_, Some(status)) => {
                self.voice.resume(status.clone());
                self.entry.ended = Some(status);
                State::Ended
            }
            (Origin::Ledger, None) if self.entry.asleep && self.entry.spec.goal.runs() => State::Asleep,
            (Origin::Ledger, None) => State::Recovering,
            (Origin::Control, None) => State::Preloading,
        };
        loop {
            if !state.may_wait() {
                self.sleeper = None;
            }
            state = match state {
                State::Recovering => self.recovering().await,
                State::Preloading => self.preloading().await,
                State::Starting(artifact) => self.starting(artifact).await,
                State::Probing(running, started) => self.probing(running, started).await,
                State::Ready(running, started) => self.ready(running, started).await,
                State::Asleep => self.asleep().await,
                State::Backoff(pause) => self.backoff(pause).await,
                State::Draining(running, slot) => self.draining(running, slot).await,
                State::Failed { reason, last_lines } => self.failed(reason, last_lines).await,
                State::Stopped { reason } => self.stopped(reason).await,
                State::Ended => self.ended().await,
                State::Removed => self.removed().await,
                State::Over => break,
            };
        }
        self.node.living.remove(&self.entry.spec.instance);
        self.node.leases.forget(&self.entry.spec.instance);
    }

    /// Takes the newest order in, and says whether it ends what the instance does.
    async fn obey(&mut self) -> Option<Interrupt> {
        let order = self.orders.order.borrow_and_update().clone();
        let ending = *self.orders.ending.borrow_and_update();
        if let Order::Want { generation, goal } = order
            && (generation, goal) != (self.entry.generation, self.entry.spec.goal)
        {
            self.entry.generation = generation;
            self.entry.spec.goal = goal;
            self.record().await;
            self.voice.observe(generation);
        }
        match (ending, order) {
            (Some(Shutdown::Leave), _) => Some(Interrupt::Leave),
            (Some(Shutdown::Stop { deadline }), _) => Some(Interrupt::Shutdown(deadline)),
            (None, _) if self.orders.deserted => Some(Interrupt::Leave),
            (None, Order::Remove) => Some(Interrupt::Remove),
            (None, Order::Want { goal: Goal::Drain, .. }) => Some(Interrupt::Drain),
            (None, Order::Want { goal: Goal::Stop, .. }) => Some(Interrupt::Stop),
            (None, Order::Want { goal: Goal::Serve | Goal::Standby { .. }, .. }) => None,
        }
    }

    /// Writes the ledger. A failure is only told: what has been ordered is done all the same, and what is not written
    /// is seen again from control.
    async fn record(&self) {
        if let Err(error) = self.node.ledger.write(self.entry.clone()).await {
            tracing::error!(instance = %self.entry.spec.instance, %error, "the ledger could not be written");
        }
    }

    /// Ends an instance that takes no requests, and says where that leads.
    async fn give_up(&mut self, interrupt: Interrupt, running: Option<Arc<dyn Running>>) -> State {
        let grace = match interrupt {
            Interrupt::Leave => return State::Over,
            Interrupt::Shutdown(deadline) => Millis(STOP_GRACE.0.min(deadline.0 / 2)),
            Interrupt::Drain | Interrupt::Stop | Interrupt::Remove => STOP_GRACE,
        };
        if let Some(running) = running {
            running.stop(grace).await;
            self.node.living.remove(&self.entry.spec.instance);
            if matches!(interrupt, Interrupt::Shutdown(_)) {
                // Else the next agent would find it ended, and take that for a crash.
                self.clear().await;
            }
        }
        match interrupt {
            Interrupt::Leave | Interrupt::Shutdown(_) => State::Over,
            Interrupt::Remove => State::Removed,
            Interrupt::Drain | Interrupt::Stop => State::Stopped { reason: None },
        }
    }

    /// The instance has ended by itself, or could not be started: `what` says how.
    async fn crashed(&mut self, started: Timestamp, what: &str) -> State {
        self.node.living.remove(&self.entry.spec.instance);
        let last_lines = self.last_lines().await;
        let ran = self.node.clock.now().since(started);
        let verdict = self.restarts.ended(self.entry.ever_ready, ran, what);
        self.voice.restarted(self.restarts.count());
        match verdict {
            Verdict::Never { reason } => State::Failed { reason, last_lines },
            Verdict::Again { pause, reason } => {
                self.node.metrics.restarts.inc();
                self.voice.say(InstanceState::Backoff, Some(reason), last_lines);
                State::Backoff(pause)
            }
        }
    }

    async fn last_lines(&self) -> Vec<String> {
        let folder = self.node.folders.log(&self.entry.spec.instance);
        let read =
            tokio::task::spawn_blocking(move || tutti_logs::last_lines(&folder, limits::FAILURE_LOG_LINES));
        read.await.unwrap_or_default()
    }

    /// Has the driver remove what it keeps of the instance, if anything; `false` if that failed.
    async fn clear(&mut self) -> bool {
        let Some(driver) = self.driver() else { return true };
        if !self.remains {
            return true;
        }
        if let Err(error) = driver.remove(&self.start_spec()).await {
            tracing::warn!(instance = %self.entry.spec.instance, error = error.chain(), "what is left of an instance could not be removed");
            return false;
        }
        self.remains = false;
        true
    }

    fn driver(&self) -> Option<Arc<dyn Driver>> {
        self.node.drivers.get(&self.entry.spec.isolate).cloned()
    }

    /// What the driver is given, but for the secrets, which only a start needs. Before the artifact is here its layers are unknown, which only a start needs.
    fn start_spec(&self) -> StartSpec {
        let spec = &self.entry.spec;
        let nothing = || Artifact { digest: spec.artifact.clone(), layers: Vec::new() };
        StartSpec {
            instance: spec.instance.clone(),
            version: spec.version.clone(),
            artifact: self.artifact.clone().unwrap_or_else(nothing),
            manifest: spec.manifest.clone(),
            secrets: SecretValues::default(),
            until: None,
            folder: self.node.folders.instance(&spec.instance),
            logs: self.node.folders.log(&spec.instance),
        }
    }

    fn live(&self, running: &Arc<dyn Running>, slot: Option<Arc<Slot>>) {
        let memory = self.entry.spec.manifest.memory;
        let life = Life { running: Arc::clone(running), slot, memory };
        self.node.living.set(&self.entry.spec.instance, life);
    }
}

/// Returns once the instance has ended.
async fn exited(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    let lost = || Exit { code: None, signal: None, text: "ended and its driver lost track of it".into() };
    exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone()).unwrap_or_else(lost)
}

#[cfg(test)]
mod tests;
