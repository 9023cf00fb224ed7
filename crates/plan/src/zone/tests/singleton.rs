//! Singletons: one version after the other, one node after the other, and never two at once, whatever nodes do.

use super::*;
use proptest::prelude::*;
use tutti_model::instance::{LEASE, LEASE_MARGIN};

impl World {
    fn singleton(&mut self) -> &mut Self {
        for version in &mut self.assignment.versions {
            (version.manifest.singleton, version.manifest.max) = (true, 1);
        }
        self
    }

    fn versions_there(&self) -> Vec<(&str, Goal)> {
        let all = self.instances.iter();
        all.map(|instance| (instance.spec.version.version.as_str(), instance.spec.goal)).collect()
    }

    fn reasons(&self) -> String {
        self.last.as_ref().unwrap().reasons.join("; ")
    }
}

#[test]
fn the_next_version_starts_when_the_last_has_ended_and_a_rollback_is_the_same_again() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).singleton().settle();
    for (from, to) in [("1.0", "2.0"), ("2.0", "1.0")] {
        world.assign(&[(to, "100%")], true).singleton().pass();
        assert_eq!(world.versions_there(), [(from, Goal::Standby { until: world.now })]);
        assert!(world.reasons().contains(&format!("{to} waits until instance ")), "{}", world.reasons());
        world.pass().acknowledge().pass();
        assert_eq!(world.versions_there(), [(from, Goal::Drain)], "it leaves the table first");
        assert_eq!(world.serving(), "nothing", "and nothing serves meanwhile");
        world.settle();
        assert_eq!(
            (world.versions_there(), world.serving()),
            (vec![(to, Goal::Serve)], format!("{to} 100%"))
        );
    }
}

#[test]
fn what_runs_stays_while_no_node_could_take_the_next() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).singleton().settle();
    world.assign(&[("2.0", "100%")], true).singleton();
    world.assignment.versions[1].manifest.memory = tutti_model::quantity::ByteSize::mib(1 << 20);
    for _ in 0..5 {
        world.pass().agents().acknowledge();
    }
    assert_eq!((world.serving().as_str(), world.progress()), ("1.0 100%", &Progress::Placing));
    assert!(world.reasons().contains("a new instance of 2.0 would find no node"), "{}", world.reasons());
    // Its own room counts as room.
    world.nodes.truncate(1);
    world.nodes[0].capacity.memory = world.assignment.versions[0].manifest.memory;
    world.assignment.versions[1].manifest.memory = world.nodes[0].capacity.memory;
    world.instances[0].spec.node = world.nodes[0].node.clone();
    world.settle();
    assert_eq!(world.serving(), "2.0 100%");
}

#[test]
fn on_a_silent_node_it_gets_no_more_leases_so_early_that_it_is_replaced_after_its_grace() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).singleton().settle();
    let at = world.instances[0].spec.node.to_string();
    falls_silent(&mut world, &at);
    let grace = Manifest::default().grace;
    let ended_after = Millis(LEASE.0 + LEASE_MARGIN.0);
    let given_up = world.now.plus(Millis(grace.0 - ended_after.0));
    world.now = Timestamp(given_up.0 - 1);
    assert_eq!(world.pass().versions_there(), [("1.0", Goal::Serve)]);
    assert_eq!(world.plan().wake, Some(given_up));
    world.now = given_up;
    assert_eq!(world.pass().versions_there(), [("1.0", Goal::Stop)]);
    assert_eq!(world.plan().wake, Some(given_up.plus(ended_after)));
    assert!(world.pass().reasons().contains(", 17 s at most"), "{}", world.reasons());
    world.now = Timestamp(given_up.plus(ended_after).0 - 1);
    assert_eq!(world.pass().instances.len(), 1);
    // Nor is it forgotten, should its node be removed: it is what the next one waits for.
    world.nodes.retain(|node| node.node.as_str() != at);
    assert_eq!(world.pass().instances.len(), 1);
    world.now = given_up.plus(ended_after);
    world.settle();
    assert_eq!((world.versions_there(), world.serving().as_str()), (vec![("1.0", Goal::Serve)], "1.0 100%"));
}

/// What happens within a second.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    /// A node is cut off, or joined again.
    Cut(usize),
    /// A node begins to drain, or takes instances again.
    Drain(usize),
    /// A version is deployed.
    Deploy(usize),
    /// Another control takes over: it knows for itself what is to stop, from now on.
    Elect,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Nothing),
        2 => (0usize..3).prop_map(Event::Cut),
        1 => (0usize..3).prop_map(Event::Drain),
        1 => (0usize..2).prop_map(Event::Deploy),
        1 => Just(Event::Elect),
    ]
}

/// The world as it is beside what control knows of it.
struct Truth {
    world: World,
    /// Since when nodes have been cut off.
    cut: BTreeMap<String, Timestamp>,
    /// Until when each instance that was ever made may run; those that have ended are not in it.
    leases: BTreeMap<InstanceId, Timestamp>,
}

impl Truth {
    fn second(&mut self, event: Event) {
        let world = &mut self.world;
        world.now = world.now.plus(Millis::seconds(1));
        match event {
            Event::Nothing => {}
            Event::Cut(at) => {
                let name = world.nodes[at].node.to_string();
                if self.cut.remove(&name).is_some() {
                    is_heard_again(world, &name);
                } else {
                    self.cut.insert(name, world.now);
                }
            }
            Event::Drain(at) => _ = world.drain(at),
            Event::Deploy(at) => _ = world.assign(&[(["1.0", "2.0"][at], "100%")], true).singleton(),
            Event::Elect => world.revoked.values_mut().for_each(|since| *since = world.now),
        }
        // Silence is noticed late, and counts from the last sign of life.
        let noticed: Vec<_> =
            self.cut.iter().filter(|(_, since)| world.now.since(**since) == Millis::seconds(10)).collect();
        for (name, since) in noticed {
            falls_silent(world, name);
            let there = world.instances.iter_mut().filter(|instance| instance.spec.node.as_str() == name);
            there.flat_map(|instance| &mut instance.conditions).for_each(|it| it.since = *since);
        }
        for instance in world.instances.iter_mut().filter(|it| !self.cut.contains_key(it.spec.node.as_str()))
        {
            let id = instance.spec.instance.clone();
            match instance.spec.goal {
                Goal::Serve | Goal::Standby { .. } => {
                    instance.status.state = InstanceState::Ready;
                    if is_leased(instance, &instance.spec.node) {
                        self.leases.insert(id, world.now.plus(LEASE));
                    }
                }
                Goal::Drain | Goal::Stop => {
                    instance.status.state = InstanceState::Stopped;
                    self.leases.remove(&id);
                }
            }
            instance.status.observed_generation = instance.generation;
        }
        let now = world.now;
        self.leases.retain(|_, until| *until > now);
        assert!(self.leases.len() <= 1, "{:?} run at once; {:#?}", self.leases, world.instances);
        world.pass().acknowledge();
    }
}

proptest! {
    #[test]
    fn never_two_at_once_and_in_the_end_one(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = World::new(1);
        world.assign(&[("1.0", "100%")], false).singleton();
        let mut truth = Truth { world, cut: BTreeMap::new(), leases: BTreeMap::new() };
        for event in events {
            truth.second(event);
        }
        let cut: Vec<usize> = (0..3)
            .filter(|at| truth.cut.contains_key(truth.world.nodes[*at].node.as_str()))
            .collect();
        for at in cut {
            truth.second(Event::Cut(at));
        }
        for at in 0..3 {
            if truth.world.nodes[at].draining {
                truth.second(Event::Drain(at));
            }
        }
        for _ in 0..60 {
            truth.second(Event::Nothing);
        }
        prop_assert_eq!(truth.leases.len(), 1);
        prop_assert_eq!(truth.world.serving(), truth.world.assignment.split.to_string());
    }
}
