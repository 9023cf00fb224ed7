//! The zone's loop over a store in memory: what nodes measure is placed by, while it is new.

use super::*;
use crate::zone::LocalZone;
use std::sync::Arc;
use tutti_api::{
    ZoneApi as _,
    zone::{NodeFigures, NodeHeartbeat},
};
use tutti_base::{Clock as _, Random, clock::VirtualClock};
use tutti_model::{
    Digest, Split,
    name::ZoneName,
    node::{Fingerprint, Resources},
    quantity::{ByteSize, MilliCpu},
    report::ReportSpec,
    version::Isolate,
};
use tutti_plan::placement::MEASURE_HOLDS;
use tutti_store::MemoryStore;

/// Turns that every task gets after each event: more than the longest chain of tasks that wake one another.
const TURNS: usize = 200;
const SERVICE: &str = "example.com:web";

/// A zone of two nodes with room for eight instances each.
struct World {
    clock: VirtualClock,
    objects: Objects,
    zone: LocalZone,
    _stop: tokio_util::sync::DropGuard,
}

impl World {
    async fn new() -> World {
        let clock = VirtualClock::at(Timestamp(1_000_000));
        let store = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let objects = Objects::new(store, ZoneName::local(), Arc::new(clock.clone()), Random::seeded(1));
        let observed = Observed::new();
        let keyring = tutti_seal::Keyring::at(tutti_seal::Source::File("no-key".into()));
        let zone = LocalZone::new(objects.clone(), observed.clone(), keyring);
        let options = ReconcileOptions {
            objects: objects.clone(),
            observed,
            host_suffixes: Vec::new(),
            loops: Default::default(),
            machines: Default::default(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(run(options, stop.clone()));
        let world = World { clock, objects, zone, _stop: stop.drop_guard() };
        for node in ["a", "b"] {
            let status = NodeStatus {
                ready: true,
                capacity: Resources {
                    cpu: MilliCpu(4000),
                    memory: ByteSize::mib(8 * 128),
                    ..Resources::default()
                },
                isolates: vec![Fingerprint { isolate: Isolate::Wasm, usable: true, notes: Vec::new() }],
                ..NodeStatus::default()
            };
            world.zone.register_node(&node.parse().unwrap(), status).await.unwrap();
        }
        world
    }

    /// Both nodes are heard, with what the first measured if it did, and some time passes.
    async fn look(&self, memory: Option<u64>) {
        let measured =
            memory.map(|memory| NodeFigures { memory: ByteSize::mib(memory), ..NodeFigures::default() });
        let heartbeat = NodeHeartbeat { measured, ..NodeHeartbeat::default() };
        self.zone.heartbeat(&"a".parse().unwrap(), heartbeat).await.unwrap();
        self.zone.heartbeat(&"b".parse().unwrap(), NodeHeartbeat::default()).await.unwrap();
        self.clock.advance(SILENCE_CHECK);
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// Hands down that so many instances are to run, and gives how many are on each node then.
    async fn run(&self, workers: u32) -> [usize; 2] {
        self.hand_down(assignment(workers)).await;
        self.look(None).await;
        self.placed().await
    }

    async fn hand_down(&self, spec: AssignmentSpec) {
        let write = match self.objects.find::<AssignmentSpec>(SERVICE).await.unwrap() {
            Some(known) => self.objects.write().update(&Resource { spec, ..known }),
            None => self.objects.write().create(&self.objects.make(SERVICE, spec)),
        };
        write.commit().await.unwrap().unwrap();
    }

    async fn placed(&self) -> [usize; 2] {
        let all = self.objects.list::<InstanceSpec>("").await.unwrap().items;
        ["a", "b"].map(|node| all.iter().filter(|it| it.spec.node.as_str() == node).count())
    }

    async fn reasons(&self) -> String {
        let reports = self.objects.list::<ReportSpec>("").await.unwrap().items;
        reports.iter().flat_map(|report| report.spec.reasons.clone()).collect::<Vec<_>>().join("\n")
    }
}

fn version() -> VersionSpec {
    VersionSpec {
        version: format!("{SERVICE}@1.0").parse().unwrap(),
        artifact: Digest::from_sha256(&[7; 32]),
        size: 1,
        isolate: Isolate::Wasm,
        manifest: Default::default(),
    }
}

/// That so many instances are to run.
fn assignment(workers: u32) -> AssignmentSpec {
    let whole = Split::new([("1.0".parse().unwrap(), "100%".parse().unwrap())]).unwrap();
    AssignmentSpec {
        scales: false,
        service: SERVICE.parse().unwrap(),
        handed_down: u64::from(workers),
        round: u64::from(workers),
        matches: Vec::new(),
        split: if workers > 0 { whole } else { Split::empty() },
        hold: false,
        versions: if workers > 0 { vec![version()] } else { Vec::new() },
        preload: None,
        upstreams: Vec::new(),
        workers,
        deployment: None,
        from: Split::empty(),
        removed: false,
    }
}

#[tokio::test]
async fn a_node_with_a_hungry_neighbour_is_passed_over_until_that_is_gone() {
    let world = World::new().await;
    world.look(None).await;
    world.look(Some(1000)).await;
    assert_eq!(world.run(3).await, [0, 3], "the first would else be the best");
    assert_eq!(world.run(9).await, [0, 8]);
    let said = "node a has 16Mi of memory free of 1024Mi, and 128Mi is needed: 0Mi are promised, and 1008Mi were \
                measured to be in use beside that";
    let reasons = world.reasons().await;
    assert!(reasons.contains(said), "{reasons}");
    // A little less changes nothing; enough is room, and whoever waits for it is told by nobody else.
    world.look(Some(999)).await;
    assert_eq!(world.placed().await, [0, 8]);
    world.look(Some(700)).await;
    world.look(None).await;
    assert_eq!(world.placed().await, [1, 8]);
}

#[tokio::test]
async fn what_was_measured_long_ago_counts_no_longer() {
    let world = World::new().await;
    world.look(None).await;
    let measured = world.clock.now();
    world.look(Some(1000)).await;
    assert_eq!(world.run(9).await, [0, 8]);
    while world.clock.now().since(measured).0 <= MEASURE_HOLDS.0 {
        assert_eq!(world.placed().await, [0, 8]);
        world.look(None).await;
    }
    world.look(None).await;
    assert_eq!(world.placed().await, [1, 8]);
}

#[tokio::test]
async fn what_a_node_is_to_hold_ready_stays_there_while_measures_change() {
    let world = World::new().await;
    world.look(None).await;
    let version = version();
    let held = async |node: &str| {
        let node = world.objects.get::<NodeSpec>(node).await.unwrap();
        node.spec.preload.iter().map(|version| version.version.to_string()).collect::<Vec<_>>()
    };
    let assigned = AssignmentSpec { preload: Some(version.clone()), ..assignment(0) };
    world.hand_down(assigned.clone()).await;
    world.look(None).await;
    assert_eq!((held("a").await, held("b").await), (vec![version.version.to_string()], vec![]));
    // It prepares the version, and is the busier for it.
    world.look(Some(700)).await;
    world.hand_down(AssignmentSpec { round: 2, ..assigned.clone() }).await;
    world.look(None).await;
    assert_eq!((held("a").await.len(), held("b").await.len()), (1, 0));
    // Where it finds no room any more, it is to go elsewhere.
    world.look(Some(1000)).await;
    world.hand_down(AssignmentSpec { round: 3, ..assigned }).await;
    world.look(None).await;
    assert_eq!((held("a").await.len(), held("b").await.len()), (0, 1));
}
