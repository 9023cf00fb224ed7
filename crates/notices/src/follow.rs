//! The zone's interface for one who hears notices: each watch is open while something may have changed, and closed while
//! control is heard and says that nothing has.
//!
//! A watch that is closed is opened again, from where it was:
//!
//! * by a notice of a revision beyond that, be it true or not;
//! * when control is not heard any more, and stays open until it is;
//! * every [`SWEEP`] at most, whatever is heard. What is found then that no notice told of is a reason not to rely on them.
//!
//! It is closed when control is heard, somebody answered it since it was opened, all that was noticed has come, and nothing
//! has for [`LINGER`]. So whatever is sent over notices can have a watch open all the time, as it is without them, and
//! opened at most once in [`LINGER`]; it can do no more.

use crate::{
    hearing::{Hearing, SILENCE},
    notice::Topic,
};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc, watch,
    },
    time::{Instant, sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tutti_api::{
    WatchEvent, WatchStream, ZoneApi,
    zone::{HeartbeatAnswer, IngressReport, InstanceReport, NodeHeartbeat},
};
use tutti_base::{Random, SecretValues};
use tutti_model::{
    InstanceId, Problem,
    instance::InstanceSpec,
    name::NodeName,
    node::{NodeSpec, NodeStatus},
    resource::Object,
    table::TableSpec,
};

/// How long nothing must have come before a watch is closed: a deployment's steps come within it.
pub const LINGER: Duration = Duration::from_secs(1);
/// How long a watch is closed at most. Each follower chooses how long below that, down to two thirds, so that those of a
/// whole zone do not come at once.
pub const SWEEP: Duration = Duration::from_secs(30);
/// Over how long the watches of a zone are opened that all miss control at the same moment.
pub const SPREAD: Duration = Duration::from_millis(500);
/// How long it is waited for what was noticed while the watch that should bring it says other things.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events that may wait for a slow reader.
const EVENTS: usize = 64;

/// The zone's interface, with watches that go by notices.
#[derive(Debug)]
pub struct NoticedZone {
    zone: Arc<dyn ZoneApi>,
    hearing: Arc<Hearing>,
    random: Random,
}

impl NoticedZone {
    /// What `zone` offers, read when `hearing` says that there is something to read.
    #[must_use]
    pub const fn new(zone: Arc<dyn ZoneApi>, hearing: Arc<Hearing>, random: Random) -> NoticedZone {
        NoticedZone { zone, hearing, random }
    }

    fn follow<S: Object>(
        &self,
        topic: &Topic,
        after: Option<u64>,
        open: impl Fn(&dyn ZoneApi, Option<u64>) -> WatchStream<S> + Send + Sync + 'static,
    ) -> WatchStream<S> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let follower = Follower {
            topic: topic.to_string(),
            zone: Arc::clone(&self.zone),
            open,
            told: self.hearing.told(),
            relied_on: self.hearing.relied_on(),
            hearing: Arc::clone(&self.hearing),
            random: self.random.clone(),
            reached: after,
            unannounced: None,
        };
        tokio::spawn(follower.run(sender));
        ReceiverStream::new(receiver).boxed()
    }
}

/// One who follows a topic.
struct Follower<F> {
    topic: String,
    zone: Arc<dyn ZoneApi>,
    open: F,
    told: broadcast::Receiver<(Arc<str>, u64)>,
    relied_on: watch::Receiver<bool>,
    hearing: Arc<Hearing>,
    random: Random,
    /// Everything up to this revision was passed on.
    reached: Option<u64>,
    /// A change that a sweep found, and until when it may still be told of.
    unannounced: Option<(u64, Instant)>,
}

/// Why a closed watch is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// There is no telling what has changed.
    Unsure,
    /// Something has changed up to this revision, it is said.
    Noticed(u64),
    /// It is time to look.
    Sweep,
}

/// A watch that is open.
struct Opened {
    reason: Reason,
    /// Whether anything has come.
    answered: bool,
    /// Whether a whole beginning is still coming.
    beginning: bool,
    /// Since when nothing has come.
    quiet: Instant,
    /// The latest revision that is said to be there, and when it was said.
    noticed: (u64, Instant),
}

impl Opened {
    fn new(reason: Reason, now: Instant) -> Opened {
        let noticed = match reason {
            Reason::Noticed(revision) => revision,
            Reason::Unsure | Reason::Sweep => 0,
        };
        Opened { reason, answered: false, beginning: false, quiet: now, noticed: (noticed, now) }
    }

    /// When it may be closed, if nothing happens until then.
    fn closes(&self, reached: Option<u64>) -> Option<Instant> {
        let is_whole = self.answered && !self.beginning;
        let has_come = reached.is_some_and(|reached| reached >= self.noticed.0);
        (is_whole && has_come).then(|| self.quiet + LINGER)
    }

    /// Takes an event down; gives the revision up to which all has come with it.
    fn take<S: Object>(&mut self, now: Instant, event: &WatchEvent<S>) -> Option<u64> {
        (self.answered, self.quiet) = (true, now);
        match event {
            WatchEvent::Init => self.beginning = true,
            WatchEvent::InitItem(_) => {}
            WatchEvent::InitDone { revision } => {
                self.beginning = false;
                return Some(*revision);
            }
            WatchEvent::Changes { revision, .. } => {
                // The watch lives, and what was noticed long ago did not come by it: there is no such thing.
                if now.duration_since(self.noticed.1) >= PATIENCE {
                    self.noticed.0 = 0;
                }
                return Some(*revision);
            }
        }
        None
    }
}

impl<F> Follower<F> {
    async fn run<S: Object>(mut self, events: mpsc::Sender<Result<WatchEvent<S>, Problem>>)
    where
        F: Fn(&dyn ZoneApi, Option<u64>) -> WatchStream<S> + Send + Sync + 'static,
    {
        let mut reason = Reason::Unsure;
        loop {
            let stream = (self.open)(&*self.zone, self.reached);
            let is_open = tokio::select! {
                () = events.closed() => return,
                is_open = self.pass_on(stream, reason, &events) => is_open,
            };
            if !is_open {
                return;
            }
            reason = tokio::select! {
                () = events.closed() => return,
                reason = self.reason_to_open() => reason,
            };
        }
    }

    /// Passes on what a watch says until it is to be closed; `false` if it has ended.
    async fn pass_on<S: Object>(
        &mut self,
        mut stream: WatchStream<S>,
        reason: Reason,
        events: &mpsc::Sender<Result<WatchEvent<S>, Problem>>,
    ) -> bool {
        let mut opened = Opened::new(reason, Instant::now());
        let mut is_heard = true;
        loop {
            let relied_on = *self.relied_on.borrow_and_update();
            let closes = opened.closes(self.reached).filter(|_| relied_on);
            tokio::select! {
                biased;
                event = stream.next() => {
                    let Some(event) = event else { return false };
                    let is_last = event.is_err();
                    if let Ok(event) = &event {
                        self.take(&mut opened, event);
                    }
                    if events.send(event).await.is_err() || is_last {
                        return false;
                    }
                }
                told = self.told.recv(), if is_heard => match told {
                    Ok((topic, revision)) if *topic == *self.topic => {
                        self.announced(revision);
                        if revision > opened.noticed.0 {
                            opened.noticed = (revision, Instant::now());
                        }
                    }
                    // While it is open nothing is missed.
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => is_heard = false,
                },
                Ok(()) = self.relied_on.changed() => {}
                () = at(closes) => return true,
            }
        }
    }

    fn take<S: Object>(&mut self, opened: &mut Opened, event: &WatchEvent<S>) {
        let now = Instant::now();
        let is_news = match event {
            WatchEvent::Changes { changes, .. } => !changes.is_empty(),
            WatchEvent::Init | WatchEvent::InitItem(_) | WatchEvent::InitDone { .. } => false,
        };
        if matches!(event, WatchEvent::Init) {
            self.reached = None;
        }
        let Some(revision) = opened.take(now, event) else { return };
        self.reached = Some(revision);
        // It may be told of just now.
        if is_news && opened.reason == Reason::Sweep && opened.noticed.0 < revision {
            self.unannounced = self.unannounced.or(Some((revision, now + SILENCE)));
        }
    }

    /// Something was told up to this revision.
    fn announced(&mut self, revision: u64) {
        self.unannounced = self.unannounced.filter(|(found, _)| *found > revision);
    }

    fn less_than(&self, span: Duration) -> Duration {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.random.below(millis))
    }

    /// Waits, with the watch closed, for a reason to open it.
    async fn reason_to_open(&mut self) -> Reason {
        let sweep = Instant::now() + SWEEP - self.less_than(SWEEP / 3);
        loop {
            if !*self.relied_on.borrow_and_update() {
                sleep(self.less_than(SPREAD)).await;
                return Reason::Unsure;
            }
            let told_until = self.unannounced.map(|(_, until)| until);
            tokio::select! {
                biased;
                told = self.told.recv() => match told {
                    Ok((topic, revision)) if *topic == *self.topic => {
                        self.announced(revision);
                        if self.reached.is_none_or(|reached| revision > reached) {
                            return Reason::Noticed(revision);
                        }
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return Reason::Unsure,
                },
                Ok(()) = self.relied_on.changed() => {}
                () = at(told_until) => {
                    self.unannounced = None;
                    self.hearing.distrust();
                    return Reason::Unsure;
                }
                () = sleep_until(sweep) => return Reason::Sweep,
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl ZoneApi for NoticedZone {
    fn watch_tables(&self, after: Option<u64>) -> WatchStream<TableSpec> {
        self.follow(&Topic::Tables, after, |zone, after| zone.watch_tables(after))
    }

    fn watch_instances(&self, node: &NodeName, after: Option<u64>) -> WatchStream<InstanceSpec> {
        let own = node.clone();
        self.follow(&Topic::Instances(node.clone()), after, move |zone, after| {
            zone.watch_instances(&own, after)
        })
    }

    fn watch_node(&self, node: &NodeName, after: Option<u64>) -> WatchStream<NodeSpec> {
        let own = node.clone();
        self.follow(&Topic::Node(node.clone()), after, move |zone, after| zone.watch_node(&own, after))
    }

    fn watch_nodes(&self, after: Option<u64>) -> WatchStream<NodeSpec> {
        self.follow(&Topic::Nodes, after, |zone, after| zone.watch_nodes(after))
    }

    async fn register_node(&self, node: &NodeName, status: NodeStatus) -> Result<(), Problem> {
        self.zone.register_node(node, status).await
    }

    async fn heartbeat(&self, node: &NodeName, heartbeat: NodeHeartbeat) -> Result<HeartbeatAnswer, Problem> {
        self.zone.heartbeat(node, heartbeat).await
    }

    async fn report_instances(&self, node: &NodeName, reports: Vec<InstanceReport>) -> Result<(), Problem> {
        self.zone.report_instances(node, reports).await
    }

    async fn instance_secrets(
        &self,
        node: &NodeName,
        instance: &InstanceId,
    ) -> Result<SecretValues, Problem> {
        self.zone.instance_secrets(node, instance).await
    }

    async fn report_ingress(&self, report: IngressReport) -> Result<(), Problem> {
        self.zone.report_ingress(report).await
    }

    async fn leave_ingress(&self, ingress: &str) -> Result<(), Problem> {
        self.zone.leave_ingress(ingress).await
    }
}
