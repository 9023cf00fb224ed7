//! Tells of changes: of each at once to whom it concerns, and twice a second of all that has changed lately to everybody,
//! which is what makes a lost notice good.
//!
//! Every control tells, whether it leads or not: the same told twice changes nothing, and no one is missing. A control
//! that its store does not answer tells nothing, so that nobody relies on it.

use crate::{
    carrier::Carrier,
    notice::{Notice, Subjects, TOPICS, Topic},
};
use futures_util::{StreamExt as _, future::BoxFuture};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tutti_api::{Change, WatchEvent, WatchStream};
use tutti_model::{
    Problem, instance::InstanceSpec, name::NodeName, node::NodeSpec, resource::Object, table::TableSpec,
};

/// How often control is heard: some beats may be lost before it counts as silent.
pub const BEAT: Duration = Duration::from_millis(500);
/// How long a change is told anew with each beat: several times as long as it takes until notices are not relied on any
/// more because control was not heard.
pub const RETOLD: Duration = Duration::from_secs(10);

/// What changes, as control's own store says.
pub struct Sources {
    /// Tables.
    pub tables: WatchStream<TableSpec>,
    /// Nodes.
    pub nodes: WatchStream<NodeSpec>,
    /// Instances.
    pub instances: WatchStream<InstanceSpec>,
    /// Asks the store for its revision: whether it answers.
    pub revision: Revision,
}

/// Asks the store for its revision.
pub type Revision = Arc<dyn Fn() -> BoxFuture<'static, Result<u64, Problem>> + Send + Sync>;

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What one control tells.
#[derive(Debug)]
pub struct Publisher {
    carrier: Arc<dyn Carrier>,
    subjects: Subjects,
    /// When each topic changed lately: at which revision, and when that was learnt.
    changed: BTreeMap<Topic, (u64, Instant)>,
    /// Up to which revision changes may have been missed, and when that was.
    everything: Option<(u64, Instant)>,
    /// The node of each instance: of one that is gone only the name is told.
    homes: BTreeMap<String, NodeName>,
}

impl Publisher {
    /// One that has told nothing yet.
    #[must_use]
    pub fn new(carrier: Arc<dyn Carrier>, subjects: Subjects) -> Publisher {
        Publisher { carrier, subjects, changed: BTreeMap::new(), everything: None, homes: BTreeMap::new() }
    }

    /// Tells until `stop`, or until a source ends.
    pub async fn run(mut self, mut sources: Sources, stop: CancellationToken) {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let news = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = beats.tick() => {
                    self.beat(&sources.revision).await;
                    continue;
                }
                Some(event) = sources.tables.next() => self.tables(event),
                Some(event) = sources.nodes.next() => self.nodes(event),
                Some(event) = sources.instances.next() => self.instances(event),
                else => return,
            };
            match news {
                Ok(news) => self.tell(news).await,
                Err(problem) => {
                    tracing::error!(%problem, "changes are not told any more; who follows them goes by watches");
                    return;
                }
            }
        }
    }

    fn tables(&mut self, event: Result<WatchEvent<TableSpec>, Problem>) -> Result<News, Problem> {
        self.news(event?, |_, _, topics| {
            topics.insert(Topic::Tables);
        })
    }

    fn nodes(&mut self, event: Result<WatchEvent<NodeSpec>, Problem>) -> Result<News, Problem> {
        self.news(event?, |_, change, topics| {
            topics.insert(Topic::Nodes);
            if let Ok(node) = name(change).parse() {
                topics.insert(Topic::Node(node));
            }
        })
    }

    fn instances(&mut self, event: Result<WatchEvent<InstanceSpec>, Problem>) -> Result<News, Problem> {
        let event = event?;
        match &event {
            WatchEvent::Init => self.homes.clear(),
            WatchEvent::InitItem(instance) => {
                self.homes.insert(instance.name.clone(), instance.spec.node.clone());
            }
            WatchEvent::InitDone { .. } | WatchEvent::Changes { .. } => {}
        }
        self.news(event, |homes, change, topics| {
            let node = match change {
                Change::Put(instance) => {
                    homes.insert(instance.name.clone(), instance.spec.node.clone());
                    Some(instance.spec.node.clone())
                }
                Change::Delete { name } => homes.remove(name),
            };
            topics.extend(node.map(Topic::Instances));
        })
    }

    /// What an event says has changed.
    fn news<S: Object>(
        &mut self,
        event: WatchEvent<S>,
        topics_of: impl Fn(&mut BTreeMap<String, NodeName>, &Change<S>, &mut BTreeSet<Topic>),
    ) -> Result<News, Problem> {
        let now = Instant::now();
        match event {
            WatchEvent::Init | WatchEvent::InitItem(_) => Ok(News::None),
            // What has changed since before is told by no event.
            WatchEvent::InitDone { revision } => {
                let known = self.everything.map_or(0, |(known, _)| known);
                self.everything = Some((known.max(revision), now));
                Ok(News::Everything)
            }
            WatchEvent::Changes { revision, changes } => {
                let mut topics = BTreeSet::new();
                for change in &changes {
                    topics_of(&mut self.homes, change, &mut topics);
                }
                for topic in &topics {
                    self.changed.insert(topic.clone(), (revision, now));
                }
                Ok(News::Of(revision, topics))
            }
        }
    }

    async fn tell(&self, news: News) {
        match news {
            News::None => {}
            News::Everything => self.retell().await,
            News::Of(revision, topics) => {
                for topic in topics {
                    let notice = Notice { changed: [(topic.to_string(), revision)].into(), everything: None };
                    self.carrier.publish(self.subjects.of(&topic), notice.encode()).await;
                }
            }
        }
    }

    /// Is heard, if the store answers in time.
    async fn beat(&mut self, revision: &Revision) {
        let now = Instant::now();
        self.changed.retain(|_, (_, at)| now.duration_since(*at) < RETOLD);
        self.everything = self.everything.filter(|(_, at)| now.duration_since(*at) < RETOLD);
        if self.changed.len() > TOPICS {
            let last = self.changed.values().map(|(revision, _)| *revision).max();
            self.everything = last.map(|last| (last, now));
            self.changed.clear();
        }
        match timeout(BEAT, revision()).await {
            Ok(Ok(_)) => self.retell().await,
            Ok(Err(problem)) => tracing::debug!(%problem, "the store does not answer; nothing is told"),
            Err(_) => tracing::debug!("the store does not answer in time; nothing is told"),
        }
    }

    async fn retell(&self) {
        let changed = self.changed.iter().take(TOPICS);
        let notice = Notice {
            changed: changed.map(|(topic, (revision, _))| (topic.to_string(), *revision)).collect(),
            everything: self.everything.map(|(revision, _)| revision),
        };
        self.carrier.publish(self.subjects.beat(), notice.encode()).await;
    }
}

/// What is to be told at once.
enum News {
    None,
    Everything,
    Of(u64, BTreeSet<Topic>),
}

fn name<S: Object>(change: &Change<S>) -> &str {
    match change {
        Change::Put(object) => &object.name,
        Change::Delete { name } => name,
    }
}
