//! What is lost, repeated, late or made up on the way of notices changes nothing but when somebody reads: over a carrier
//! that does all of it in virtual time, and over a real NATS server that is killed.

#[path = "../tests/server/mod.rs"]
mod server;

use self::server::Server;
use super::*;
use crate::{
    follow::{LINGER, SPREAD, SWEEP},
    hearing::{DISTRUST, SILENCE, STEADY},
    notice::Notice,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::{BroadcastStream, WatchStream as Watched};
use tokio_util::sync::CancellationToken;
use tutti_api::{
    Change, WatchEvent, WatchStream, ZoneApi,
    zone::{HeartbeatAnswer, IngressReport, InstanceReport, NodeHeartbeat},
};
use tutti_base::{Random, SecretValues};
use tutti_model::{
    InstanceId, Problem, Resource, Timestamp, Uid,
    instance::InstanceSpec,
    name::{NodeName, ZoneName},
    node::{NodeSpec, NodeStatus},
    table::TableSpec,
};

/// A zone whose only kind is nodes; the one of revision N is called `nN`.
#[derive(Debug)]
struct Zone {
    revision: watch::Sender<u64>,
    opened: AtomicUsize,
    open: Arc<AtomicUsize>,
    /// Whether nobody can resume.
    is_compacted: AtomicBool,
}

impl Zone {
    fn new() -> Arc<Zone> {
        Arc::new(Zone {
            revision: watch::Sender::new(1),
            opened: AtomicUsize::new(0),
            open: Arc::default(),
            is_compacted: AtomicBool::new(false),
        })
    }

    fn change(&self) -> u64 {
        self.revision.send_modify(|revision| *revision += 1);
        *self.revision.borrow()
    }
}

/// Counts a watch while it is open.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn node(revision: u64) -> Box<Resource<NodeSpec>> {
    let name: NodeName = format!("n{revision}").parse().unwrap();
    Box::new(Resource::new(name.as_str(), Uid::from_bits(1), Timestamp(0), NodeSpec::new(name.clone())))
}

#[async_trait]
impl ZoneApi for Zone {
    fn watch_nodes(&self, after: Option<u64>) -> WatchStream<NodeSpec> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(Arc::clone(&self.open));
        let now = *self.revision.borrow();
        let after = after.filter(|_| !self.is_compacted.load(Ordering::SeqCst));
        let (first, mut sent) = match after {
            None => (vec![WatchEvent::Init, WatchEvent::InitDone { revision: now }], now),
            Some(after) => (vec![WatchEvent::Changes { revision: after, changes: Vec::new() }], after),
        };
        let changes = Watched::new(self.revision.subscribe()).flat_map(move |revision| {
            let new: Vec<_> = (sent + 1..=revision).collect();
            sent = sent.max(revision);
            stream::iter(new)
                .map(|revision| WatchEvent::Changes { revision, changes: vec![Change::Put(node(revision))] })
        });
        stream::iter(first)
            .chain(changes)
            .map(move |event| {
                let _counted = &counted;
                Ok(event)
            })
            .boxed()
    }

    fn watch_tables(&self, _: Option<u64>) -> WatchStream<TableSpec> {
        stream::pending().boxed()
    }

    fn watch_instances(&self, _: &NodeName, _: Option<u64>) -> WatchStream<InstanceSpec> {
        stream::pending().boxed()
    }

    fn watch_node(&self, _: &NodeName, _: Option<u64>) -> WatchStream<NodeSpec> {
        stream::pending().boxed()
    }

    async fn register_node(&self, _: &NodeName, _: NodeStatus) -> Result<(), Problem> {
        Ok(())
    }

    async fn heartbeat(&self, _: &NodeName, _: NodeHeartbeat) -> Result<HeartbeatAnswer, Problem> {
        Ok(HeartbeatAnswer::default())
    }

    async fn report_instances(&self, _: &NodeName, _: Vec<InstanceReport>) -> Result<(), Problem> {
        Ok(())
    }

    async fn instance_secrets(&self, _: &NodeName, _: &InstanceId) -> Result<SecretValues, Problem> {
        Ok(SecretValues::default())
    }

    async fn report_ingress(&self, _: IngressReport) -> Result<(), Problem> {
        Ok(())
    }

    async fn leave_ingress(&self, _: &str) -> Result<(), Problem> {
        Ok(())
    }
}

/// What becomes of notices on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Faithful,
    /// Two of three are lost, but never two beats in a row.
    Lossy,
    /// Each comes three times.
    Repeating,
    /// Each comes after the next two.
    Reordering,
    /// Each comes a second time, much later.
    Stale,
    /// Each comes with ten that somebody made up.
    Forged,
}

#[derive(Debug)]
struct Memory {
    sent: broadcast::Sender<(String, Vec<u8>)>,
    way: Way,
    random: Random,
    held: Mutex<VecDeque<(String, Vec<u8>)>>,
    lost_a_beat: AtomicBool,
    is_cut: AtomicBool,
}

impl Memory {
    fn new(way: Way) -> Arc<Memory> {
        Arc::new(Memory {
            sent: broadcast::channel(10_000).0,
            way,
            random: Random::seeded(3),
            held: Mutex::default(),
            lost_a_beat: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
        })
    }

    fn send(&self, subject: &str, notice: &[u8]) {
        let _ = self.sent.send((subject.to_owned(), notice.to_vec()));
    }

    /// What is held back longest, if more than this many are.
    fn hold(&self, subject: String, notice: Vec<u8>, most: usize) -> Option<(String, Vec<u8>)> {
        let mut held = self.held.lock().unwrap();
        held.push_back((subject, notice));
        if held.len() > most { held.pop_front() } else { None }
    }
}

#[async_trait]
impl Carrier for Memory {
    async fn publish(&self, subject: String, notice: Vec<u8>) {
        if self.is_cut.load(Ordering::SeqCst) {
            return;
        }
        match self.way {
            Way::Faithful => self.send(&subject, &notice),
            Way::Lossy => {
                let is_beat = subject.ends_with(".beat");
                let is_lost = self.random.below(3) > 0;
                if is_beat && !self.lost_a_beat.swap(is_lost, Ordering::SeqCst) && is_lost {
                    return;
                }
                if is_beat || !is_lost {
                    self.lost_a_beat.fetch_and(!is_beat, Ordering::SeqCst);
                    self.send(&subject, &notice);
                }
            }
            Way::Repeating => (0..3).for_each(|_| self.send(&subject, &notice)),
            Way::Reordering => {
                if subject.ends_with(".beat") {
                    self.send(&subject, &notice);
                } else if let Some((subject, notice)) = self.hold(subject, notice, 2) {
                    self.send(&subject, &notice);
                }
            }
            Way::Stale => {
                self.send(&subject, &notice);
                if let Some((subject, notice)) = self.hold(subject, notice, 20) {
                    self.send(&subject, &notice);
                }
            }
            Way::Forged => {
                for _ in 0..10 {
                    let revision =
                        [0, 1, 1_000_000, u64::MAX][usize::try_from(self.random.below(4)).unwrap()];
                    let forged =
                        Notice { changed: [("nodes".to_owned(), revision)].into(), everything: None };
                    self.send(&subject, &forged.encode());
                    self.send(&subject, b"{\"changed\":\"x\"}");
                }
                self.send(&subject, &notice);
            }
        }
    }

    fn is_connected(&self) -> bool {
        !self.is_cut.load(Ordering::SeqCst)
    }

    fn subscribe(&self, subjects: Vec<String>) -> BoxStream<'static, Bytes> {
        let sent = BroadcastStream::new(self.sent.subscribe());
        sent.filter_map(move |sent| {
            let wanted = sent.ok().filter(|(subject, _)| subjects.contains(subject));
            std::future::ready(wanted.map(|(_, notice)| notice.into()))
        })
        .boxed()
    }
}

/// A control that tells, and one who follows nodes.
struct World<C> {
    zone: Arc<Zone>,
    carrier: Arc<C>,
    events: mpsc::UnboundedReceiver<(u64, Instant)>,
    relied_on: watch::Receiver<bool>,
    telling: CancellationToken,
    _hearing: Arc<Hearing>,
}

fn subjects() -> Subjects {
    Subjects::new("test", &ZoneName::local())
}

impl World<Memory> {
    async fn new(way: Way) -> World<Memory> {
        World::over(Memory::new(way)).await
    }
}

impl<C: Carrier> World<C> {
    async fn over(carrier: Arc<C>) -> World<C> {
        let zone = Zone::new();
        let telling = CancellationToken::new();
        let told = Arc::clone(&zone);
        let sources = Sources {
            tables: zone.watch_tables(None),
            nodes: zone.watch_nodes(None),
            instances: stream::pending().boxed(),
            revision: Arc::new(move || {
                let revision = *told.revision.borrow();
                Box::pin(async move { Ok(revision) })
            }),
        };
        tokio::spawn(Publisher::new(Arc::clone(&carrier) as _, subjects()).run(sources, telling.clone()));
        let (hearing, run) =
            Hearing::start(Arc::clone(&carrier) as _, &subjects(), &[Topic::Nodes], CancellationToken::new());
        tokio::spawn(run);
        let followed = NoticedZone::new(Arc::clone(&zone) as _, Arc::clone(&hearing), Random::seeded(5));
        let (sender, events) = mpsc::unbounded_channel();
        let mut watched = followed.watch_nodes(None);
        tokio::spawn(async move {
            while let Some(event) = watched.next().await {
                if let WatchEvent::Changes { revision, changes } = event.unwrap()
                    && !changes.is_empty()
                    && sender.send((revision, Instant::now())).is_err()
                {
                    return;
                }
            }
        });
        // What changes before it is followed comes with its beginning.
        while zone.opened.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        let relied_on = hearing.relied_on();
        World { zone, carrier, events, relied_on, telling, _hearing: hearing }
    }

    /// Watches that are open, without the one of control's own.
    fn open(&self) -> usize {
        self.zone.open.load(Ordering::SeqCst) - 1
    }

    /// Changes something; gives how long it took to come.
    async fn change(&mut self) -> Duration {
        let (revision, began) = (self.zone.change(), Instant::now());
        let (came, at) = timeout(Duration::from_secs(120), self.events.recv()).await.unwrap().unwrap();
        assert_eq!(came, revision, "each comes once, and in order");
        at - began
    }

    async fn until_closed(&self) {
        timeout(Duration::from_secs(600), async {
            while self.zone.opened.load(Ordering::SeqCst) < 2 || self.open() > 0 {
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_notices_each_change_comes_once_and_in_time() {
    let ways = [Way::Faithful, Way::Lossy, Way::Repeating, Way::Reordering, Way::Stale, Way::Forged];
    for way in ways {
        let mut world = World::new(way).await;
        let began = Instant::now();
        let random = Random::seeded(9);
        for _ in 0..40 {
            sleep(Duration::from_millis(random.below(8000))).await;
            let took = world.change().await;
            // At worst with the second beat after it.
            assert!(took <= Duration::from_millis(2100), "{way:?}: {took:?}");
        }
        assert!(*world.relied_on.borrow(), "{way:?}");
        let opened = world.zone.opened.load(Ordering::SeqCst) as u128;
        let most = (Instant::now() - began).as_millis() / LINGER.as_millis() + 2;
        assert!(opened <= most, "{way:?}: opened {opened} times, more than {most}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_closed_while_nothing_changes_and_a_change_opens_it_once() {
    let mut world = World::new(Way::Faithful).await;
    world.until_closed().await;
    let opened = world.zone.opened.load(Ordering::SeqCst);
    let took = world.change().await;
    assert!(took < Duration::from_millis(50), "{took:?}");
    world.until_closed().await;
    assert_eq!(world.zone.opened.load(Ordering::SeqCst), opened + 1);
}

#[tokio::test(start_paused = true)]
async fn when_control_is_not_heard_watches_take_over_until_it_is() {
    let mut world = World::new(Way::Faithful).await;
    world.until_closed().await;
    world.carrier.is_cut.store(true, Ordering::SeqCst);
    let took = world.change().await;
    assert!(took <= SILENCE + SPREAD, "{took:?}");
    for _ in 0..5 {
        sleep(Duration::from_secs(7)).await;
        assert_eq!(world.open(), 1);
        assert!(world.change().await < Duration::from_millis(50));
    }
    world.carrier.is_cut.store(false, Ordering::SeqCst);
    let back = Instant::now();
    world.until_closed().await;
    let took = Instant::now() - back;
    assert!(took >= STEADY && took < STEADY + 3 * LINGER, "{took:?}");
    assert!(world.change().await < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn whoever_plays_control_holds_a_change_up_once() {
    let mut world = World::new(Way::Faithful).await;
    world.until_closed().await;
    // Control is cut off, and somebody else is heard in its place.
    world.telling.cancel();
    let forger = Arc::clone(&world.carrier);
    let forging = tokio::spawn(async move {
        loop {
            forger.publish(subjects().beat(), Notice::default().encode()).await;
            sleep(Duration::from_millis(900)).await;
        }
    });
    let began = Instant::now();
    let took = world.change().await;
    assert!(took <= SWEEP + Duration::from_secs(1), "{took:?}");
    sleep(LINGER + SILENCE).await;
    while Instant::now() - began < DISTRUST {
        assert!(world.change().await < Duration::from_millis(50), "the watch stays open");
        sleep(Duration::from_secs(20)).await;
    }
    forging.abort();
}

#[tokio::test(start_paused = true)]
async fn a_control_without_its_store_is_not_heard() {
    let carrier = Memory::new(Way::Faithful);
    let mut beats = carrier.subscribe(vec![subjects().beat()]);
    let sources = Sources {
        tables: stream::pending().boxed(),
        nodes: stream::pending().boxed(),
        instances: stream::pending().boxed(),
        revision: Arc::new(|| Box::pin(std::future::pending())),
    };
    let stop = CancellationToken::new();
    tokio::spawn(Publisher::new(Arc::clone(&carrier) as _, subjects()).run(sources, stop.clone()));
    assert!(timeout(Duration::from_secs(10), beats.next()).await.is_err());
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn the_instances_of_a_node_are_told_to_it_alone_also_when_they_go() {
    let carrier = Memory::new(Way::Faithful);
    let of = |node: &str| subjects().of(&Topic::Instances(node.parse().unwrap()));
    let (mut first, mut second) = (carrier.subscribe(vec![of("n1")]), carrier.subscribe(vec![of("n2")]));
    let (sender, instances) = mpsc::unbounded_channel();
    let sources = Sources {
        tables: stream::pending().boxed(),
        nodes: stream::pending().boxed(),
        instances: tokio_stream::wrappers::UnboundedReceiverStream::new(instances).boxed(),
        revision: Arc::new(|| Box::pin(async { Ok(1) })),
    };
    tokio::spawn(
        Publisher::new(Arc::clone(&carrier) as _, subjects()).run(sources, CancellationToken::new()),
    );
    let instance: Resource<InstanceSpec> = serde_json::from_value(serde_json::json!({
        "kind": "instance", "name": "i-1", "uid": Uid::from_bits(1), "generation": 1, "created_at": 0,
        "spec": {
            "instance": InstanceId::from_bits(1), "version": "example.com:web@1.0",
            "artifact": tutti_model::Digest::from_sha256(&[7; 32]), "isolate": "wasm", "manifest": {},
            "node": "n1", "goal": { "goal": "serve" },
        },
    }))
    .unwrap();
    let changes = |revision, change| Ok(WatchEvent::Changes { revision, changes: vec![change] });
    sender.send(changes(7, Change::Put(Box::new(instance)))).unwrap();
    sender.send(changes(8, Change::Delete { name: "i-1".into() })).unwrap();
    for revision in [7, 8] {
        let notice = Notice::decode(&first.next().await.unwrap()).unwrap();
        assert_eq!(notice.of("instances.n1"), Some(revision));
    }
    assert!(timeout(Duration::from_secs(3), second.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_cannot_resume_begins_anew() {
    let zone = Zone::new();
    let carrier = Memory::new(Way::Faithful);
    let (hearing, run) =
        Hearing::start(Arc::clone(&carrier) as _, &subjects(), &[Topic::Nodes], CancellationToken::new());
    tokio::spawn(run);
    let beats = Arc::clone(&carrier);
    tokio::spawn(async move {
        loop {
            beats.publish(subjects().beat(), Notice::default().encode()).await;
            sleep(Duration::from_millis(500)).await;
        }
    });
    let followed = NoticedZone::new(Arc::clone(&zone) as _, hearing, Random::seeded(5));
    let mut events = followed.watch_nodes(None);
    let mut next = async || timeout(Duration::from_secs(60), events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await, WatchEvent::Init);
    assert_eq!(next().await, WatchEvent::InitDone { revision: 1 });
    timeout(Duration::from_secs(60), async {
        while zone.open.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    zone.is_compacted.store(true, Ordering::SeqCst);
    let revision = zone.change();
    let notice = Notice { changed: [("nodes".to_owned(), revision)].into(), everything: None };
    carrier.publish(subjects().of(&Topic::Nodes), notice.encode()).await;
    assert_eq!(next().await, WatchEvent::Init);
    assert_eq!(next().await, WatchEvent::InitDone { revision });
}

#[tokio::test]
async fn over_a_server_that_is_killed_every_change_comes_once_and_in_time() {
    let Some(mut server) = Server::start(&[]) else { return };
    server.listens().await;
    let nats = Nats::connect(&server.address("nats"), None, None).await.unwrap();
    let mut world = World::over(Arc::new(nats)).await;
    for _ in 0..2 {
        world.until_closed().await;
        // Over loopback it takes a millisecond; a machine that is busy may take longer, but no sweep comes to help.
        let took = world.change().await;
        assert!(took < SILENCE, "{took:?}");
        world.until_closed().await;
        server.kill();
        let took = world.change().await;
        assert!(took < SILENCE + SPREAD + Duration::from_secs(2), "{took:?}");
        assert_eq!(world.open(), 1, "watches have taken over");
        server.run();
    }
    world.until_closed().await;
}
