//! Desired state: what control wants of this node's instances, handed to one runner each.
//!
//! It is level-triggered: a watch that breaks, or begins anew, is compared to what is known, and whatever is as it was
//! is left alone. An older generation of an instance than one already seen is refused.

use crate::{
    ledger::Entry,
    node::Node,
    runner::{Order, Origin, Runner},
};
use futures_util::StreamExt as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tutti_api::{Change, WatchEvent};
use tutti_base::{Backoff, Tasks};
use tutti_model::{
    InstanceId, Millis, Resource,
    instance::{Goal, InstanceSpec},
};

/// The first pause after a broken watch, and the longest.
const WATCH_PAUSES: (Millis, Millis) = (Millis(200), Millis::seconds(10));
/// Runners that may have ended and not been noticed yet; the next waits.
const ENDED: usize = 64;

/// What is known of one instance.
#[derive(Debug)]
struct Known {
    generation: u64,
    goal: Goal,
    order: watch::Sender<Order>,
}

/// What to do with what a watch says of one instance.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is new.
    Start,
    /// It has changed.
    Update,
    /// It is as it was.
    Same,
    /// It is older than what is known.
    Stale,
}

/// Pure: compares what is known of an instance to what is said.
fn judge(known: Option<(u64, Goal)>, generation: u64, goal: Goal) -> Verdict {
    match known {
        None => Verdict::Start,
        Some((newest, _)) if generation < newest => Verdict::Stale,
        Some((newest, known)) if generation == newest && goal == known => Verdict::Same,
        Some(_) => Verdict::Update,
    }
}

/// The instances of this node.
#[derive(Debug)]
pub(crate) struct Fleet {
    node: Arc<Node>,
    tasks: Tasks,
    runners: TaskTracker,
    known: BTreeMap<String, Known>,
    /// Named since the watch last began anew; `None` between.
    init: Option<BTreeSet<String>>,
    ended: (mpsc::Sender<InstanceId>, mpsc::Receiver<InstanceId>),
}

impl Fleet {
    /// No instance yet. Every runner is tracked in `runners`.
    pub(crate) fn new(node: Arc<Node>, tasks: Tasks, runners: TaskTracker) -> Self {
        Fleet { node, tasks, runners, known: BTreeMap::new(), init: None, ended: mpsc::channel(ENDED) }
    }

    /// Takes up what an earlier agent ran. There is a token for each instance that had been ready, which is cancelled
    /// once it is again, or cannot be for now: one that was still in its first start keeps nobody waiting.
    pub(crate) fn take_up(&mut self, entries: Vec<Entry>) -> Vec<CancellationToken> {
        let mut settled = Vec::new();
        for entry in entries {
            let had_been_ready = entry.ever_ready;
            let token = self.spawn(entry, Origin::Ledger);
            if had_been_ready {
                settled.push(token);
            }
        }
        settled
    }

    /// Follows the watch until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut pauses = Backoff::new(WATCH_PAUSES.0, WATCH_PAUSES.1, self.node.random.clone());
        let mut ending = self.node.ending.subscribe();
        loop {
            let mut events = self.node.zone.watch_instances(&self.node.name, None);
            loop {
                let event = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    _ = ending.wait_for(Option::is_some) => return,
                    Some(id) = self.ended.1.recv() => {
                        self.known.remove(id.as_str());
                        continue;
                    }
                    event = events.next() => event,
                };
                match event {
                    Some(Ok(event)) => {
                        pauses.succeed();
                        self.apply(event);
                    }
                    Some(Err(problem)) => {
                        tracing::warn!(%problem, "watching this node's instances failed; they go on as they are");
                        break;
                    }
                    None => break,
                }
            }
            self.init = None;
            let pause = pauses.fail();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ending.wait_for(Option::is_some) => return,
                () = self.node.clock.sleep(pause) => {}
            }
        }
    }

    fn apply(&mut self, event: WatchEvent<InstanceSpec>) {
        match event {
            WatchEvent::Init => self.init = Some(BTreeSet::new()),
            WatchEvent::InitItem(instance) => {
                if let Some(init) = &mut self.init {
                    init.insert(instance.name.clone());
                }
                self.put(*instance);
            }
            WatchEvent::InitDone { .. } => {
                let Some(init) = self.init.take() else { return };
                let gone: Vec<String> =
                    self.known.keys().filter(|name| !init.contains(*name)).cloned().collect();
                for name in gone {
                    self.remove(&name);
                }
                // Whoever begins anew may not know what was said before.
                self.node.reporter.say_all_again();
            }
            WatchEvent::Changes { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Put(instance) => self.put(*instance),
                        Change::Delete { name } => self.remove(&name),
                    }
                }
            }
        }
    }

    fn put(&mut self, instance: Resource<InstanceSpec>) {
        let Resource { name, generation, deleted_at, mut spec, .. } = instance;
        if spec.node != self.node.name || spec.instance.as_str() != name {
            tracing::error!(instance = name, node = %spec.node, "control named an instance that is not of this node");
            return;
        }
        // Whatever is being deleted is not to run, whatever its goal still says.
        if deleted_at.is_some() && spec.goal.runs() {
            spec.goal = Goal::Stop;
        }
        let known = self.known.get(&name).map(|known| (known.generation, known.goal));
        match judge(known, generation, spec.goal) {
            Verdict::Start => {
                self.spawn(
                    Entry { generation, spec, ever_ready: false, secrets: None, asleep: false, ended: None },
                    Origin::Control,
                );
            }
            Verdict::Update => {
                let Some(known) = self.known.get_mut(&name) else { return };
                (known.generation, known.goal) = (generation, spec.goal);
                known.order.send_if_modified(|order| match order {
                    // It is on its way out; there is no way back for an id.
                    Order::Remove => false,
                    Order::Want { .. } => {
                        *order = Order::Want { generation, goal: spec.goal };
                        true
                    }
                });
            }
            Verdict::Same => {}
            Verdict::Stale => {
                tracing::warn!(
                    instance = name,
                    generation,
                    ?known,
                    "an older generation of an instance is refused"
                );
            }
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(known) = self.known.get(name) {
            known.order.send_if_modified(|order| std::mem::replace(order, Order::Remove) != Order::Remove);
        }
    }

    fn spawn(&mut self, entry: Entry, origin: Origin) -> CancellationToken {
        let settled = CancellationToken::new();
        let (generation, goal, id) = (entry.generation, entry.spec.goal, entry.spec.instance.clone());
        let (order, orders) = watch::channel(Order::Want { generation, goal });
        let runner = Runner::new(Arc::clone(&self.node), entry, origin, orders, settled.clone());
        let ended = self.ended.0.clone();
        self.known.insert(id.to_string(), Known { generation, goal, order });
        let life = self.runners.track_future(runner.run());
        self.tasks.spawn("instance", async move {
            life.await;
            // The fleet may have ended first; then nobody is left to be told.
            let _ = ended.send(id).await;
        });
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_newer_or_different_is_acted_on() {
        assert_eq!(judge(None, 1, Goal::Serve), Verdict::Start);
        assert_eq!(judge(Some((2, Goal::Serve)), 2, Goal::Serve), Verdict::Same);
        assert_eq!(judge(Some((2, Goal::Serve)), 3, Goal::Drain), Verdict::Update);
        assert_eq!(judge(Some((2, Goal::Drain)), 1, Goal::Serve), Verdict::Stale);
        assert_eq!(judge(Some((2, Goal::Serve)), 2, Goal::Stop), Verdict::Update);
    }
}
