use super::*;
use crate::observed::Observed;
use std::sync::Arc;
use tutti_base::{Random, clock::VirtualClock};
use tutti_model::{domain::DomainSpec, name::ZoneName};
use tutti_store::{
    MemoryStore, Store,
    faulty::{Faults, Faulty},
};

/// Turns of the scheduler in which a change must have been noticed.
const TURNS: usize = 2000;

/// Several controls over one store.
struct World {
    clock: VirtualClock,
    memory: Arc<MemoryStore>,
    real: Objects,
}

impl World {
    fn new() -> World {
        let clock = VirtualClock::at(Timestamp(1_000_000));
        let memory = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let real = Self::objects(Arc::clone(&memory) as _, &clock);
        World { clock, memory, real }
    }

    fn objects(store: Arc<dyn Store>, clock: &VirtualClock) -> Objects {
        Objects::new(store, ZoneName::local(), Arc::new(clock.clone()), Random::seeded(7))
    }

    fn start(&self, name: &str) -> (Tasks, Faults) {
        let faulty = Faulty::new(Arc::clone(&self.memory), Random::seeded(1), Arc::new(self.clock.clone()));
        let faults = faulty.faults();
        let options = ReconcileOptions {
            objects: Self::objects(Arc::new(faulty), &self.clock),
            observed: Observed::new(),
            host_suffixes: Vec::new(),
            loops: Default::default(),
            machines: Default::default(),
        };
        let tasks = Tasks::new();
        super::start(name.parse().unwrap(), options, &tasks);
        (tasks, faults)
    }

    async fn leader(&self) -> Option<Resource<LeaderSpec>> {
        self.real.find(LEADER).await.unwrap()
    }

    /// Waits until this one leads.
    async fn led_by(&self, name: &str) -> Resource<LeaderSpec> {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
            if let Some(leader) = self.leader().await
                && leader.spec.control.as_str() == name
            {
                return leader;
            }
        }
        panic!("{name} does not lead, but {:?}", self.leader().await)
    }

    async fn turns(&self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    async fn pass(&self, span: Millis) {
        for _ in 0..span.0.div_ceil(1000) {
            self.clock.advance(Millis::seconds(1));
            self.memory.expire_leases();
            self.turns().await;
        }
    }
}

#[tokio::test]
async fn one_leads_and_hands_over_in_order() {
    let world = World::new();
    let (one, _) = world.start("one");
    let first = world.led_by("one").await;
    let (_two, _) = world.start("two");
    // It is kept alive for as long as it lasts.
    world.pass(Millis(2 * TTL.0)).await;
    assert_eq!(world.leader().await.unwrap().revision, first.revision);
    one.stop();
    // Nobody waits for the lease of one that ends in order.
    world.led_by("two").await;
}

#[tokio::test]
async fn who_starts_anew_takes_its_own_office_over() {
    let world = World::new();
    let (before, faults) = world.start("one");
    let first = world.led_by("one").await;
    // Killed: it gives nothing back.
    faults.pause();
    let (_again, _) = world.start("one");
    world.turns().await;
    let now = world.leader().await.unwrap();
    assert!(now.revision > first.revision && now.uid == first.uid);
    before.stop();
}

#[tokio::test]
async fn a_leader_that_was_stopped_for_a_while_writes_nothing_more() {
    let world = World::new();
    let (one, faults) = world.start("one");
    let old = world.led_by("one").await;
    let (_two, _) = world.start("two");
    faults.pause();
    world.pass(TTL).await;
    let new = world.led_by("two").await;

    // What the old one had decided comes to the store now, and is refused; so is it after the new one is gone.
    let domain = world.real.make("example.com", DomainSpec::default());
    let late = world.real.fenced(&old).write().create(&domain);
    assert_eq!(late.commit().await.unwrap(), None);
    let timely = world.real.fenced(&new).write().create(&domain);
    assert!(timely.commit().await.unwrap().is_some());

    faults.resume();
    world.pass(TTL).await;
    assert_eq!(world.leader().await.unwrap().revision, new.revision, "the old one stands by");
    drop(one);
}

#[tokio::test]
async fn a_store_that_is_away_ends_an_office_and_the_next_begins_when_it_is_back() {
    let world = World::new();
    let (_one, faults) = world.start("one");
    let old = world.led_by("one").await;
    faults.pause();
    world.pass(TTL).await;
    assert_eq!(world.leader().await, None, "its lease has run out");
    faults.resume();
    world.pass(Millis::seconds(3)).await;
    let now = world.led_by("one").await;
    assert!(now.revision > old.revision);
}
