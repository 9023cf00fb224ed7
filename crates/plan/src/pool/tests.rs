use super::*;
use crate::{
    placement::promise,
    zone::fixtures::{node, place_on, version},
};
use proptest::prelude::*;
use tutti_model::{
    InstanceId, Uid,
    instance::Goal,
    pool::{PoolName, PoolStatus},
    quantity::{ByteSize, MilliCpu},
    version::Isolate,
};

/// How far apart looks are.
const LOOK: Millis = Millis::seconds(2);

fn spec(min: u32, max: u32) -> PoolSpec {
    PoolSpec {
        pool: "burst".parse::<PoolName>().unwrap(),
        min,
        max,
        offers: Resources { cpu: MilliCpu(4000), memory: ByteSize::mib(512), ..Resources::default() },
        isolates: vec![Isolate::Wasm],
        labels: Labels::new(),
        taints: Vec::new(),
        idle: Millis::seconds(60),
    }
}

/// A zone with one pool and no other node, whose services each ask for instances of 128Mi: four fit a machine.
struct World {
    now: Timestamp,
    pool: Resource<PoolSpec>,
    nodes: Vec<NodeView>,
    instances: Vec<Resource<InstanceSpec>>,
    waiting: u32,
    made: u32,
    /// How many looks a machine takes to come.
    slow: u32,
    coming: BTreeMap<NodeName, u32>,
}

impl World {
    fn new(min: u32, max: u32) -> World {
        let pool = Resource::new("burst", Uid::from_bits(1), Timestamp(0), spec(min, max));
        World {
            now: Timestamp(1_000_000),
            pool,
            nodes: Vec::new(),
            instances: Vec::new(),
            waiting: 0,
            made: 0,
            slow: 3,
            coming: BTreeMap::new(),
        }
    }

    fn views(&self) -> Vec<NodeView> {
        let mut views = self.nodes.clone();
        for instance in &self.instances {
            if let Some(view) = views.iter_mut().find(|view| view.node == instance.spec.node) {
                promise(view, &instance.spec.manifest);
            }
        }
        views
    }

    fn plan(&self) -> PoolsPlan {
        let waiting = match self.waiting {
            0 => Vec::new(),
            count => vec![Waiting { service: "example.com:web".into(), version: version("1.0"), count }],
        };
        plan_pools(PoolsView {
            now: self.now,
            pools: std::slice::from_ref(&self.pool),
            nodes: &self.views().into_iter().collect(),
            instances: &self.instances.iter().collect::<Vec<_>>(),
            waiting: &waiting,
        })
    }

    /// Runs this many instances more, or fewer.
    fn ask(&mut self, count: usize) {
        let has = self.instances.len() + usize::try_from(self.waiting).unwrap();
        if count < has {
            let fewer = has - count;
            let from_waiting = fewer.min(usize::try_from(self.waiting).unwrap());
            self.waiting -= u32::try_from(from_waiting).unwrap();
            self.instances.truncate(self.instances.len() - (fewer - from_waiting));
        } else {
            self.waiting += u32::try_from(count - has).unwrap();
        }
    }

    /// The zone's own loop: what waits is placed, and what drains is replaced elsewhere.
    fn zone(&mut self) {
        let mut views = self.views();
        let placed = place_on(&version("1.0"), self.waiting, &mut views, &mut BTreeMap::new());
        for node in placed.nodes {
            self.waiting -= 1;
            self.start(node);
        }
        let draining: Vec<NodeName> =
            self.nodes.iter().filter(|node| node.draining).map(|node| node.node.clone()).collect();
        for at in 0..self.instances.len() {
            if draining.contains(&self.instances[at].spec.node) {
                let placed = place_on(&version("1.0"), 1, &mut self.views(), &mut BTreeMap::new());
                if let Some(node) = placed.nodes.into_iter().next() {
                    self.instances[at].spec.node = node;
                }
            }
        }
    }

    fn start(&mut self, node: NodeName) {
        let of = version("1.0");
        let instance = InstanceId::from_bits(self.now.0 + u64::try_from(self.instances.len()).unwrap());
        let spec = InstanceSpec {
            instance: instance.clone(),
            version: of.version,
            artifact: of.artifact,
            isolate: of.isolate,
            manifest: of.manifest,
            node,
            goal: Goal::Serve,
            placed: String::new(),
        };
        self.instances.push(Resource::new(instance.to_string(), Uid::from_bits(1), self.now, spec));
    }

    /// One look, and all that follows from it.
    fn look(&mut self) {
        let plan = self.plan().pools.remove(0);
        self.pool.status = PoolStatus { machines: plan.machines };
        for why in plan.make {
            self.made += 1;
            let name: NodeName = format!("burst-{}", self.made).parse().unwrap();
            self.coming.insert(name.clone(), 0);
            self.pool.status.machines.push(PoolMachine {
                name,
                state: MachineState::Making,
                since: self.now,
                why,
                by_hand: false,
                idle_since: None,
                failure: None,
            });
        }
        for (nodes, drains) in [(plan.drain, true), (plan.keep, false)] {
            for node in self.nodes.iter_mut().filter(|node| nodes.contains(&node.node)) {
                (node.cordoned, node.draining) = (drains, drains);
            }
        }
        self.zone();
        let mut came = Vec::new();
        for (name, looks) in &mut self.coming {
            *looks += 1;
            if *looks > self.slow {
                came.push(name.clone());
            }
        }
        for name in came {
            self.coming.remove(&name);
            if self.pool.status.machines.iter().any(|it| it.name == name && it.state.is_coming()) {
                self.nodes.push(ideal(&self.pool.spec, name));
            }
        }
        let gone = |it: &PoolMachine| it.state == MachineState::Removing;
        let removed: Vec<NodeName> =
            self.pool.status.machines.iter().filter(|it| gone(it)).map(|it| it.name.clone()).collect();
        self.pool.status.machines.retain(|it| !gone(it));
        self.nodes.retain(|node| !removed.contains(&node.node));
        self.now = self.now.plus(LOOK);
    }

    fn looks(&mut self, count: usize) {
        (0..count).for_each(|_| self.look());
    }

    fn states(&self) -> Vec<&'static str> {
        self.pool.status.machines.iter().map(|machine| machine.state.as_str()).collect()
    }
}

#[test]
fn a_pool_grows_by_what_does_not_fit_and_shrinks_by_draining() {
    let mut world = World::new(0, 3);
    world.looks(50);
    assert_eq!(world.made, 0, "nothing waits");
    world.ask(6);
    world.look();
    assert_eq!(world.states(), ["making", "making"]);
    world.look();
    assert_eq!((world.made, world.waiting), (2, 6), "what is on its way is not asked for again");
    assert_eq!(world.plan().notes["example.com:web"].len(), 2);
    assert_eq!(world.plan().notes["example.com:web"][0], "pool burst makes machine burst-1 for it");
    world.looks(6);
    assert_eq!((world.states(), world.waiting), (vec!["joined", "joined"], 0));
    world.ask(3);
    world.looks(5);
    assert_eq!(world.states(), ["joined", "joined"], "not before it was idle for long");
    world.looks(40);
    assert_eq!((world.states(), world.instances.len()), (vec!["joined"], 3));
    world.ask(0);
    world.looks(40);
    assert_eq!(world.states(), Vec::<&str>::new());
    assert_eq!(world.made, 2);
}

#[test]
fn what_waits_is_told_why_no_machine_is_made() {
    let mut world = World::new(0, 1);
    world.ask(9);
    let notes = |world: &World| world.plan().notes["example.com:web"].clone();
    assert_eq!(notes(&world), ["pool burst makes another machine for it"]);
    world.looks(8);
    assert_eq!(world.waiting, 5);
    assert_eq!(notes(&world), ["pool burst makes no machine for it: it has 1 of at most 1"]);
    world.pool.spec.offers.memory = ByteSize::mib(64);
    let why = "a machine of pool burst would not do: it has 64Mi of memory free of 64Mi, and 128Mi is needed";
    assert_eq!(notes(&world), [why]);
    // One that failed says so.
    let mut world = World::new(0, 1);
    world.ask(1);
    world.look();
    world.pool.status.machines[0].failure =
        Some(MachineFailure { attempts: 2, reason: "no quota".into(), again_at: Timestamp(0) });
    assert_eq!(notes(&world), ["pool burst makes machine burst-1 for it; attempt 2 failed: no quota"]);
    world.looks(8);
    assert_eq!(world.pool.status.machines[0].failure, None, "it came all the same");
}

#[test]
fn a_machine_that_drains_is_taken_back_before_another_is_made() {
    let mut world = World::new(0, 2);
    // It cannot be emptied at once: what stands by there goes by itself.
    world.ask(1);
    world.looks(8);
    world.pool.spec.max = 0;
    world.look();
    assert_eq!(world.states(), ["draining"]);
    world.pool.spec.max = 2;
    world.ask(2);
    world.looks(2);
    assert_eq!((world.states(), world.waiting, world.made), (vec!["joined"], 0, 1));
    // One that an operator drains goes, and another is made for what runs there.
    world.nodes[0].draining = true;
    world.nodes[0].cordoned = true;
    world.ask(3);
    world.look();
    assert_eq!(world.states(), ["draining", "making"]);
    world.looks(10);
    assert_eq!((world.states(), world.waiting, world.instances.len()), (vec!["joined"], 0, 3));
}

#[test]
fn nothing_goes_while_something_waits_for_such_a_machine_or_stands_by_there() {
    let mut world = World::new(0, 1);
    world.ask(4);
    world.looks(8);
    world.ask(6);
    world.looks(60);
    assert_eq!((world.states(), world.waiting), (vec!["joined"], 2));
    world.ask(1);
    world.nodes.push(node("static"));
    world.instances[0].spec.goal = Goal::Standby { until: Timestamp(u64::MAX) };
    world.looks(60);
    assert_eq!(world.states(), ["joined"]);
    world.instances[0].spec.goal = Goal::Serve;
    world.instances[0].spec.manifest.singleton = true;
    world.looks(60);
    assert_eq!(world.states(), ["joined"], "it would have to stop");
    world.instances[0].spec.manifest.singleton = false;
    world.looks(60);
    assert_eq!((world.states(), world.instances[0].spec.node.as_str()), (vec![], "static"));
}

#[test]
fn a_machine_that_never_comes_is_made_again_and_one_that_is_lost_is_removed() {
    let mut world = World::new(1, 1);
    world.slow = u32::MAX;
    world.look();
    world.pool.status.machines[0].state = MachineState::Joining;
    world.looks(usize::try_from(JOIN_WAIT.0 / LOOK.0).unwrap() + 2);
    let machine = world.pool.status.machines[0].clone();
    assert_eq!(machine.state, MachineState::Making);
    assert!(machine.failure.unwrap().reason.contains("was not heard within 10 min"));
    world.pool.status.machines[0].state = MachineState::Joined;
    assert_eq!(world.plan().pools[0].machines[0].state, MachineState::Removing);
}

#[test]
fn a_pool_that_is_removed_lets_all_go() {
    let mut world = World::new(2, 4);
    world.nodes.push(node("static"));
    world.looks(8);
    assert_eq!(world.states(), ["joined", "joined"]);
    world.pool.deleted_at = Some(world.now);
    world.looks(6);
    assert_eq!((world.states(), world.made), (Vec::<&str>::new(), 2));
}

#[test]
fn what_fails_is_tried_less_and_less_often_and_never_given_up() {
    let pauses: Vec<u64> = [0, 1, 2, 3, 7, u32::MAX].map(|attempts| pause(attempts).0 / 1000).into();
    assert_eq!(pauses, [5, 5, 10, 20, 300, 300]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn never_beyond_its_limits_and_at_rest_when_nothing_changes(
        min in 0u32..3, more in 0u32..4, slow in 0u32..8, asked in proptest::collection::vec(0usize..24, 1..6),
    ) {
        let max = min + more;
        let mut world = World::new(min, max);
        world.slow = slow;
        for count in asked {
            world.ask(count);
            for look in 0..250 {
                let before = world.pool.status.machines.len();
                let made = world.made;
                world.look();
                let plan = world.plan().pools.remove(0);
                prop_assert!(plan.machines.len() + plan.make.len() <= wide(max));
                // Nobody who served has lost his place.
                prop_assert_eq!(world.instances.len() + usize::try_from(world.waiting).unwrap(), count);
                prop_assert!(
                    world.instances.iter().all(|it| world.nodes.iter().any(|node| node.node == it.spec.node))
                );
                if look > 200 {
                    prop_assert_eq!(world.pool.status.machines.len(), before, "it comes to rest");
                    prop_assert_eq!(world.made, made);
                }
            }
            prop_assert!(world.pool.status.machines.len() >= wide(min));
            // As many as fit serve, on no more machines than it takes.
            let needed = count.div_ceil(4).clamp(wide(min), wide(max));
            prop_assert_eq!(world.instances.len(), count.min(wide(max) * 4));
            prop_assert_eq!(world.pool.status.machines.len(), needed);
        }
    }
}
