mod any_order;
mod draining;
mod making_room;
mod singleton;

use super::*;
use crate::{
    placement::{NodeView, promise},
    room::spare,
    zone::fixtures::{node, version},
};
use tutti_model::{
    Condition, Uid, deployment::Failure, manifest::Manifest, node::HEARD, report::Progress, table::Backend,
};

/// A zone of three nodes that does what it is told, one event at a time.
struct World {
    now: Timestamp,
    revision: u64,
    ids: u64,
    assignment: AssignmentSpec,
    table: Option<Resource<TableSpec>>,
    instances: Vec<Resource<InstanceSpec>>,
    nodes: Vec<NodeView>,
    /// Instances of another service, and its hand-down.
    others: (Vec<Resource<InstanceSpec>>, AssignmentSpec),
    ingress: Resource<IngressSpec>,
    load: Load,
    revoked: BTreeMap<InstanceId, Timestamp>,
    last: Option<ReportSpec>,
}

impl World {
    fn new(workers: u32) -> Self {
        let assignment = AssignmentSpec {
            scales: false,
            service: "example.com:web".parse().unwrap(),
            handed_down: 1,
            round: 1,
            matches: vec!["web.example.com".parse().unwrap()],
            split: Split::empty(),
            hold: false,
            versions: Vec::new(),
            preload: None,
            upstreams: Vec::new(),
            workers,
            deployment: None,
            from: Split::empty(),
            removed: false,
        };
        let other = AssignmentSpec { service: "example.com:api".parse().unwrap(), ..assignment.clone() };
        World {
            others: (Vec::new(), other),
            now: Timestamp(1_000_000),
            revision: 1,
            ids: 0,
            assignment,
            table: None,
            instances: Vec::new(),
            nodes: vec![node("a"), node("b"), node("c")],
            ingress: Resource::new("ingress", Uid::from_bits(1), Timestamp(0), IngressSpec::default()),
            load: Load::default(),
            revoked: BTreeMap::new(),
            last: None,
        }
    }

    /// Hands down a split, with a deployment that keeps the versions of now.
    fn assign(&mut self, shares: &[(&str, &str)], deploying: bool) -> &mut Self {
        let split =
            Split::new(shares.iter().map(|(name, share)| (name.parse().unwrap(), share.parse().unwrap())))
                .unwrap();
        let mut names: BTreeSet<VersionName> = split.iter().map(|(name, _)| name.clone()).collect();
        self.assignment.from = if deploying { self.assignment.split.clone() } else { Split::empty() };
        if deploying {
            names.extend(self.assignment.versions.iter().map(|version| version.version.version.clone()));
        }
        self.assignment.versions = names.iter().map(|name| version(name.as_str())).collect();
        self.assignment.split = split;
        self.assignment.deployment = deploying.then(|| tutti_model::DeploymentId::from_bits(1));
        self.assignment.round += 1;
        self
    }

    fn plan(&self) -> ServicePlan {
        let instances: Vec<_> = self.instances.iter().collect();
        let spares: Vec<_> = self
            .instances
            .iter()
            .filter_map(|instance| spare(self.now, instance, &self.assignment))
            .chain(self.others.0.iter().filter_map(|other| spare(self.now, other, &self.others.1)))
            .collect();
        let mut nodes = self.nodes.clone();
        for instance in self.instances.iter().chain(&self.others.0).filter(|i| i.spec.goal != Goal::Stop) {
            if let Some(node) = nodes.iter_mut().find(|node| node.node == instance.spec.node) {
                promise(node, &instance.spec.manifest);
            }
        }
        plan_service(ServiceView {
            now: self.now,
            zone: &ZoneName::local(),
            assignment: &self.assignment,
            table: self.table.as_ref(),
            instances: &instances,
            nodes: &nodes.into_iter().collect(),
            ingresses: &[&self.ingress],
            load: self.load,
            revoked: &self.revoked,
            spares: &spares,
        })
    }

    /// Plans once and does what the plan says, checking what must hold of every plan.
    fn pass(&mut self) -> &mut Self {
        let plan = self.plan();
        self.check(&plan);
        self.revision += 1;
        for (id, goal) in plan.goals {
            let instance = self.instances.iter_mut().find(|instance| instance.spec.instance == id).unwrap();
            instance.spec.goal = goal;
            instance.generation += 1;
            instance.revision = self.revision;
            if goal == Goal::Stop && instance.spec.manifest.singleton {
                self.revoked.entry(id).or_insert(self.now);
            }
        }
        for id in plan.make_room {
            let other = self.others.0.iter_mut().find(|other| other.spec.instance == id).unwrap();
            other.spec.goal = Goal::Standby { until: self.now };
        }
        self.instances.retain(|instance| !plan.forget.contains(&instance.spec.instance));
        for new in plan.create {
            let (version, node) = (new.version, new.node);
            self.ids += 1;
            let id = InstanceId::from_bits(self.ids);
            let spec = InstanceSpec {
                instance: id.clone(),
                version: version.version.clone(),
                artifact: version.artifact,
                isolate: version.isolate,
                manifest: version.manifest,
                node,
                goal: Goal::Serve,
                placed: new.placed,
            };
            let mut instance =
                Resource::new(id.to_string(), Uid::from_bits(u128::from(self.ids)), self.now, spec);
            instance.revision = self.revision;
            self.instances.push(instance);
        }
        match plan.table {
            TablePlan::Keep => {}
            TablePlan::Remove => self.table = None,
            TablePlan::Put(spec) => {
                let mut table = Resource::new("example.com:web", Uid::from_bits(3), Timestamp(0), spec);
                table.revision = self.revision;
                self.table = Some(table);
            }
        }
        self.last = Some(plan.report);
        self
    }

    fn check(&self, plan: &ServicePlan) {
        for (id, goal) in &plan.goals {
            if *goal == Goal::Drain {
                let table = self.table.as_ref();
                let named = table.is_some_and(|table| endpoints(&table.spec).contains(id));
                let behind = table.is_some_and(|table| self.ingress.status.reached < table.revision);
                assert!(!named && !behind, "{id} drains while an ingress may still send to it");
            }
        }
        if let TablePlan::Put(table) = &plan.table {
            let sum: u32 = table.versions().iter().map(|backend| backend.weight.millionths()).sum();
            assert!(table.versions().is_empty() || sum == 1_000_000);
            for backend in table.versions() {
                assert!(!backend.endpoints.is_empty(), "{} has a weight and no endpoint", backend.version);
            }
            for id in endpoints(table) {
                let instance = self.instances.iter().find(|instance| instance.spec.instance == id).unwrap();
                assert_eq!(instance.status.state, InstanceState::Ready);
            }
        }
        let operations = plan.create.len() + plan.goals.len().min(32) + 2;
        assert!(operations <= tutti_model::limits::STORE_TXN_OPERATIONS);
    }

    /// Every instance moves as its goal says, all the way.
    fn agents(&mut self) -> &mut Self {
        self.agents_reach(InstanceState::Ready)
    }

    fn agents_reach(&mut self, state: InstanceState) -> &mut Self {
        for instance in &mut self.instances {
            let next = match instance.spec.goal {
                Goal::Serve | Goal::Standby { .. } if instance.status.state != InstanceState::Failed => state,
                Goal::Drain | Goal::Stop => InstanceState::Stopped,
                _ => continue,
            };
            let recovers = instance.status.state < InstanceState::Ready
                || instance.status.state == InstanceState::Backoff;
            if recovers || matches!(instance.spec.goal, Goal::Drain | Goal::Stop) {
                instance.status.state = next;
                instance.status.since = self.now;
            }
            instance.status.observed_generation = instance.generation;
        }
        self
    }

    fn acknowledge(&mut self) -> &mut Self {
        self.ingress.status.reached = self.revision;
        self
    }

    /// Until nothing changes any more.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..40 {
            let before = (self.instances.clone(), self.table.clone());
            self.pass().agents().acknowledge();
            if before == (self.instances.clone(), self.table.clone()) {
                return self;
            }
        }
        panic!("it does not settle: {:?}", self.last);
    }

    /// A node begins to drain, or takes instances again.
    fn drain(&mut self, at: usize) -> &mut Self {
        let node = &mut self.nodes[at];
        node.draining = !node.draining;
        node.cordoned = node.draining;
        self
    }

    fn progress(&self) -> &Progress {
        &self.last.as_ref().unwrap().progress
    }

    fn serving(&self) -> String {
        self.last.as_ref().unwrap().split.to_string()
    }

    fn count(&self, name: &str, goal: impl Fn(Goal) -> bool) -> usize {
        self.instances.iter().filter(|i| i.spec.version.version.as_str() == name && goal(i.spec.goal)).count()
    }
}

fn endpoints(table: &TableSpec) -> Vec<InstanceId> {
    table
        .versions()
        .iter()
        .flat_map(|backend| &backend.endpoints)
        .map(|endpoint| endpoint.instance.clone())
        .collect()
}

fn serve(goal: Goal) -> bool {
    goal == Goal::Serve
}

fn standby(goal: Goal) -> bool {
    matches!(goal, Goal::Standby { .. })
}

#[test]
fn a_first_deploy_reports_each_stage() {
    let mut world = World::new(2);
    world.assign(&[("1.0", "100%")], true).pass();
    assert_eq!((world.progress(), world.instances.len()), (&Progress::Preloading, 2));
    assert!(matches!(world.table.as_ref().unwrap().spec.backend, Backend::None { .. }));
    world.agents_reach(InstanceState::Starting).pass();
    assert_eq!(world.progress(), &Progress::Starting);
    world.agents().pass();
    assert_eq!((world.progress(), world.serving().as_str()), (&Progress::Shifting, "1.0 100%"));
    world.pass();
    assert_eq!(world.progress(), &Progress::Shifting, "written, not acknowledged");
    world.acknowledge().pass();
    assert_eq!(world.progress(), &Progress::Settled);
}

#[test]
fn old_weights_stay_until_the_new_version_has_its_workers() {
    let mut world = World::new(4);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("1.0", "50%"), ("2.0", "50%")], true).pass();
    assert_eq!(world.count("2.0", serve), 2);
    let second = world.instances.iter_mut().find(|i| i.spec.version.version.as_str() == "2.0").unwrap();
    second.status.state = InstanceState::Ready;
    world.pass();
    assert_eq!(world.serving(), "1.0 100%", "one of two is not enough");
    world.settle();
    assert_eq!(world.serving(), "1.0 50%, 2.0 50%");
    assert_eq!((world.count("1.0", serve), world.count("1.0", standby)), (2, 2));
}

#[test]
fn a_rollback_takes_standing_by_instances_back_at_once() {
    let mut world = World::new(3);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("2.0", "100%")], true).settle();
    assert_eq!((world.count("1.0", standby), world.count("2.0", serve)), (3, 3));
    world.assign(&[("1.0", "100%")], true).pass();
    assert_eq!(world.serving(), "1.0 100%", "in the very first pass");
    assert_eq!(world.instances.len(), 6, "nothing new is started");
}

#[test]
fn standing_by_ends_in_draining_once_acknowledged_and_then_nothing_is_left() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("2.0", "100%")], true).settle();
    world.assign(&[("2.0", "100%")], false).settle();
    assert_eq!(world.count("1.0", standby), 1);
    let plan = world.plan();
    assert_eq!(plan.wake, Some(world.now.plus(Millis::seconds(300))));
    world.now = world.now.plus(Millis::seconds(300));
    world.settle();
    assert_eq!(world.count("1.0", |_| true), 0);
}

#[test]
fn redeploying_often_keeps_few_standing_by() {
    let mut world = World::new(1);
    for round in 0..20 {
        world.assign(&[(&format!("{round}.0"), "100%")], true).settle();
        world.now = world.now.plus(Millis(10));
    }
    world.settle();
    assert!(world.instances.len() <= 3, "{} instances", world.instances.len());
}

#[test]
fn a_failed_instance_fails_the_rollout_with_its_reason_and_the_old_weights_stay() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("2.0", "100%")], true).pass();
    let new = world.instances.iter_mut().find(|i| i.spec.version.version.as_str() == "2.0").unwrap();
    new.status.state = InstanceState::Failed;
    new.status.reason = Some("GET / answered 500".into());
    new.status.last_lines = vec!["boom".into()];
    world.pass().pass();
    let Progress::Failed { failure: Failure { reason, last_lines, .. } } = world.progress() else { panic!() };
    assert!(reason.ends_with("of 2.0 failed: GET / answered 500"), "{reason}");
    assert_eq!(last_lines, &["boom"]);
    assert_eq!(world.serving(), "1.0 100%");
    assert_eq!(world.count("2.0", |_| true), 1, "a rollout does not try again by itself");
    world.assign(&[("1.0", "100%")], true).settle();
    assert_eq!((world.progress(), world.count("2.0", |_| true)), (&Progress::Settled, 0));
}

#[test]
fn what_cannot_be_placed_says_why_for_each_node() {
    let mut world = World::new(1);
    for node in &mut world.nodes {
        node.cordoned = true;
    }
    world.assign(&[("1.0", "100%")], true).pass();
    assert_eq!(world.progress(), &Progress::Placing);
    let reasons = &world.last.as_ref().unwrap().reasons;
    assert_eq!(reasons[..2], ["1 of 1 new instances of 1.0 found no node", "node a is cordoned"]);
}

#[test]
fn a_lost_version_gives_its_share_to_the_others_and_gets_it_back() {
    let mut world = World::new(2);
    world.assign(&[("1.0", "50%"), ("2.0", "50%")], false).settle();
    let lost = world.instances.iter_mut().find(|i| i.spec.version.version.as_str() == "2.0").unwrap();
    lost.status.state = InstanceState::Backoff;
    world.pass();
    assert_eq!(world.serving(), "1.0 100%");
    world.settle();
    assert_eq!(world.serving(), "1.0 50%, 2.0 50%");
}

#[test]
fn a_share_rises_only_with_room_for_the_load_of_today() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.load = Load { running: 250 };
    world.assign(&[("2.0", "100%")], true).pass();
    assert_eq!(world.count("2.0", serve), 3, "250 running at a concurrency of 100");
}

#[test]
fn held_weights_stay_though_everything_is_ready() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("2.0", "100%")], true).assignment.hold = true;
    world.settle();
    assert_eq!((world.serving().as_str(), world.progress()), ("1.0 100%", &Progress::Starting));
}

#[test]
fn a_removed_service_leaves_nothing() {
    let mut world = World::new(2);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assignment.removed = true;
    world.pass().pass().pass();
    assert_eq!(world.count("1.0", |goal| goal == Goal::Drain), 0, "an ingress may still send there");
    world.settle();
    assert!(world.instances.is_empty() && world.table.is_none());
    assert!(world.plan().gone);
}

#[test]
fn what_serves_stays_until_what_is_to_serve_can_even_if_nobody_hands_it_down_any_more() {
    let mut world = World::new(1);
    world.assign(&[("2.0", "100%")], false).settle();
    world.assign(&[("1.0", "100%")], false).pass();
    assert_eq!((world.serving().as_str(), world.count("2.0", serve)), ("2.0 100%", 1));
    world.settle();
    assert_eq!((world.serving().as_str(), world.count("2.0", serve)), ("1.0 100%", 0));
}

#[test]
fn a_version_that_only_gives_to_the_others_is_replaced_while_they_are_deployed() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("1.0", "90%"), ("2.0", "10%")], true).settle();
    let old = world.instances.iter_mut().find(|i| i.spec.version.version.as_str() == "1.0").unwrap();
    old.status.state = InstanceState::Failed;
    old.status.since = world.now;
    world.pass().pass();
    assert_eq!(world.serving(), "2.0 100%");
    assert!(
        !matches!(world.progress(), Progress::Failed { .. }),
        "it is not the old version that is on trial"
    );
    world.now = world.now.plus(REPLACE_AFTER);
    world.settle();
    assert_eq!((world.serving().as_str(), world.progress()), ("1.0 90%, 2.0 10%", &Progress::Settled));
}

#[test]
fn a_load_that_comes_and_goes_starts_nothing_and_retires_only_when_it_has_gone() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.load = Load { running: 250 };
    world.settle();
    assert_eq!(world.instances.len(), 1, "no share rises");
    world.assign(&[("2.0", "100%")], true).settle();
    assert_eq!(world.count("2.0", serve), 3);
    world.load = Load { running: 110 };
    world.settle();
    assert_eq!(world.count("2.0", serve), 3, "a dip retires nothing");
    assert_eq!(world.plan().wake, Some(world.now.plus(Millis::seconds(30))));
    world.load = Load::default();
    world.settle();
    assert_eq!(world.count("2.0", serve), 1);
}

#[test]
fn instances_of_a_removed_node_are_forgotten_and_replaced() {
    let mut world = World::new(3);
    world.assign(&[("1.0", "100%")], false).settle();
    world.nodes.remove(0);
    world.settle();
    assert_eq!(world.instances.len(), 3);
    assert!(world.instances.iter().all(|instance| instance.spec.node.as_str() != "a"));
}

#[test]
fn a_node_that_takes_up_what_it_ran_keeps_the_traffic_of_what_ran_on() {
    let mut world = World::new(1);
    world.nodes.truncate(1);
    world.assign(&[("1.0", "100%")], false).settle();
    let before = world.instances.clone();
    // In the middle of a deploy, which is when what serves is no longer what is wanted.
    world.nodes[0].ready = false;
    world.assign(&[("1.1", "100%")], true);
    for _ in 0..5 {
        world.pass();
    }
    assert_eq!((world.serving().as_str(), &world.instances), ("1.0 100%", &before));
    // One that is silent has nothing to carry traffic with.
    world.nodes[0].heard = false;
    world.pass();
    assert_ne!(world.serving(), "1.0 100%");
}

#[test]
fn nothing_stands_by_for_a_removed_service() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.assign(&[("2.0", "100%")], true).settle();
    assert_eq!(world.count("1.0", standby), 1);
    world.assignment.removed = true;
    world.settle();
    assert!(world.instances.is_empty(), "without waiting for the end of its standby");
}

#[test]
fn what_stood_by_last_is_not_crowded_out_by_what_may_stand_by_longer() {
    let mut world = World::new(1);
    for name in ["0.8", "0.9", "1.0", "2.0"] {
        world.assign(&[(name, "100%")], true);
        for version in &mut world.assignment.versions {
            let brief = version.version.version.as_str() == "1.0";
            version.manifest.standby = Millis::seconds(if brief { 60 } else { 3600 });
        }
        world.settle();
        world.now = world.now.plus(Millis(10));
    }
    assert_eq!((world.count("0.8", |_| true), world.count("1.0", standby)), (0, 1));
}

#[test]
fn what_a_rollback_returns_to_is_not_crowded_out_by_what_a_smaller_service_does_without() {
    let mut world = World::new(1);
    world.assign(&[("1.0", "100%")], false).settle();
    world.now = world.now.plus(Millis(10));
    world.assignment.workers = 4;
    world.assign(&[("2.0", "100%")], true).settle();
    world.now = world.now.plus(Millis(10));
    world.assignment.workers = 1;
    world.assignment.round += 1;
    world.settle();
    assert_eq!((world.count("1.0", standby), world.count("2.0", standby)), (1, 1));
}

/// Marks a node, and what runs there, as silent since now.
fn falls_silent(world: &mut World, at: &str) {
    world.nodes.iter_mut().filter(|node| node.node.as_str() == at).for_each(|node| node.heard = false);
    let since = world.now;
    for instance in world.instances.iter_mut().filter(|instance| instance.spec.node.as_str() == at) {
        instance.set_condition(Condition {
            r#type: HEARD.to_owned(),
            met: false,
            reason: "for a test".to_owned(),
            since,
        });
    }
}

fn is_heard_again(world: &mut World, at: &str) {
    world.nodes.iter_mut().filter(|node| node.node.as_str() == at).for_each(|node| node.heard = true);
    for instance in world.instances.iter_mut().filter(|instance| instance.spec.node.as_str() == at) {
        instance.conditions.clear();
    }
}

fn of_node(world: &World, at: &str) -> Vec<Goal> {
    let there = world.instances.iter().filter(|instance| instance.spec.node.as_str() == at);
    there.map(|instance| instance.spec.goal).collect()
}

#[test]
fn a_silent_nodes_instances_are_replaced_after_their_grace_and_stop_if_it_comes_back() {
    let mut world = World::new(3);
    world.assign(&[("1.0", "100%")], false).settle();
    assert_eq!(of_node(&world, "a"), [Goal::Serve]);
    falls_silent(&mut world, "a");
    let grace = Manifest::default().grace;
    assert_eq!(world.plan().wake, Some(world.now.plus(grace)), "time alone will change something");
    world.pass();
    assert_eq!(world.instances.len(), 3, "for now it is only left out of the table");
    world.now = world.now.plus(Millis(grace.0 - 1));
    world.pass();
    assert_eq!(world.instances.len(), 3);

    world.now = world.now.plus(Millis(1));
    world.pass();
    assert_eq!(world.instances.len(), 4);
    assert_eq!(of_node(&world, "a"), [Goal::Serve], "welcome until another is ready in its place");
    for instance in world.instances.iter_mut().filter(|instance| instance.spec.node.as_str() != "a") {
        instance.status.state = InstanceState::Ready;
    }
    for _ in 0..3 {
        world.pass();
    }
    assert_eq!(of_node(&world, "a"), [Goal::Stop]);
    is_heard_again(&mut world, "a");
    world.settle();
    assert_eq!(world.instances.len(), 3);
    assert!(of_node(&world, "a").is_empty(), "what it ran yesterday has stopped");
}

#[test]
fn a_node_that_is_back_before_its_instances_are_replaced_keeps_them() {
    let mut world = World::new(3);
    world.assign(&[("1.0", "100%")], false).settle();
    let before: Vec<String> = world.instances.iter().map(|instance| instance.name.clone()).collect();
    falls_silent(&mut world, "a");
    world.now = world.now.plus(Manifest::default().grace);
    world.pass();
    assert_eq!(world.instances.len(), 4, "another is on its way");
    is_heard_again(&mut world, "a");
    world.settle();
    let now: Vec<String> = world.instances.iter().map(|instance| instance.name.clone()).collect();
    assert_eq!(now, before, "what is ready stays; what only starts goes");
}
