//! A small cloud: two services, three nodes that fall silent, two ingresses that lag and are replaced, users who change
//! their minds, and a control that is killed now and then.

mod temper;

use temper::LATE;
pub use temper::Temper;

use crate::{
    Authored, Authors, Checker, Fault, Planted,
    planted::control::Wrong,
    user::{SERVICES, VERSIONS, version},
};
use std::{collections::BTreeMap, sync::Arc};
use tutti_api::{
    ZoneApi as _,
    zone::{IngressReport, InstanceReport, NodeFigures, NodeHeartbeat},
};
use tutti_base::{Clock as _, Random, Tasks, clock::VirtualClock};
use tutti_control::{Objects, leadership, observed::Observed, reconcile::ReconcileOptions, zone::LocalZone};
use tutti_model::{
    Millis, Problem, Resource, Timestamp,
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec, InstanceState},
    name::{NodeName, ZoneName},
    node::{Fingerprint, Held, NodeSpec, NodeStatus, Readiness, Resources},
    quantity::{Bandwidth, ByteSize, MilliCpu},
    stats::{ServiceStats, VersionStats},
    table::TableSpec,
    version::Isolate,
};
use tutti_store::{
    MemoryStore, Store,
    faulty::{Faults, Faulty, Rates},
};

/// Turns that every task gets after each event: more than the longest chain of tasks that wake one another.
const TURNS: usize = 200;
/// Names of controls: one that takes over, one that is stopped, and another.
const CONTROLS: [&str; 4] = ["one", "two", "three", "four"];
/// What a node has: room for six instances, so that services are in each other's way.
const NODE: Resources = Resources {
    cpu: MilliCpu(64_000),
    memory: ByteSize::mib(6 * 128),
    bandwidth: Bandwidth(0),
    disk: ByteSize(0),
};

/// A simulated cloud.
pub struct World {
    clock: VirtualClock,
    pub(crate) random: Random,
    /// The store as it is, for looking.
    pub(crate) real: Objects,
    memory: Arc<MemoryStore>,
    seed: u64,
    /// The control that agents and ingresses talk to.
    control: Option<Control>,
    /// Those that were stopped in the middle of what they did and go on later, not knowing what has happened since.
    paused: Vec<Paused>,
    /// Revisions at which controls were stopped that have gone on since the last look.
    resumed: Option<u64>,
    /// How many controls there ever were.
    controls: u64,
    rates: Rates,
    nodes: Vec<Node>,
    ingresses: Vec<Ingress>,
    /// How many ingresses there ever were.
    started: u64,
    /// How often, in a thousandth, an instance fails rather than becoming ready.
    broken: u64,
    /// The most requests of one version that run at one ingress.
    load: u64,
    /// Says what else runs on the machines of nodes, while something does.
    neighbours: Option<Random>,
    temper: Temper,
    planted: Option<Planted>,
    authors: Authors,
    checker: Checker,
    /// What happened, for the story of a failing seed.
    pub story: Vec<String>,
}

/// One of several controls over the store.
struct Control {
    name: NodeName,
    tasks: Tasks,
    zone: LocalZone,
    /// What happens between it and the store.
    faults: Faults,
}

/// A control that was stopped.
struct Paused {
    until: Timestamp,
    /// The store's revision when it was.
    revision: u64,
    control: Control,
}

struct Node {
    name: NodeName,
    /// Cut off until then: its agent says and hears nothing.
    silent_until: Timestamp,
    /// What it goes by instead of what it is told, if that is the bug it has.
    yesterday: BTreeMap<String, Resource<InstanceSpec>>,
}

struct Ingress {
    name: String,
    reached: u64,
    answers: u64,
    /// Cut off until then.
    silent_until: Timestamp,
    /// Since when it has said nothing, if it was cut off. What it says first is what it holds.
    silent_since: Option<Timestamp>,
}

impl World {
    /// A cloud with two services of three workers each and nothing deployed.
    ///
    /// # Errors
    /// None but a fault of the simulation itself.
    pub async fn new(seed: u64) -> Result<World, Problem> {
        World::with(seed, Temper::Even, None).await
    }

    /// The same, with this temper, and perhaps with a bug.
    ///
    /// # Errors
    /// None but a fault of the simulation itself.
    pub async fn with(seed: u64, temper: Temper, planted: Option<Planted>) -> Result<World, Problem> {
        let clock = VirtualClock::at(Timestamp(1_000_000));
        let random = Random::seeded(seed);
        let memory = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let store = Arc::clone(&memory) as Arc<dyn Store>;
        let real = Objects::new(store, ZoneName::local(), Arc::new(clock.clone()), random.clone());
        let authors = Authors::default();
        let checker = Checker::start(memory.as_ref(), authors.clone()).await;
        let first = CONTROLS[0].parse()?;
        let names = ["a", "b", "c"].iter().filter_map(|name| name.parse().ok());
        let mut world = World {
            clock,
            random,
            real,
            memory,
            seed,
            control: None,
            paused: Vec::new(),
            resumed: None,
            controls: 0,
            rates: Rates::default(),
            nodes: names
                .map(|name| Node { name, silent_until: Timestamp(0), yesterday: BTreeMap::new() })
                .collect(),
            ingresses: Vec::new(),
            started: 0,
            broken: 0,
            load: temper.load(),
            neighbours: None,
            temper,
            planted,
            authors,
            checker,
            story: Vec::new(),
        };
        world.start_ingress();
        world.start_ingress();
        world.make_quota().await?;
        for name in SERVICES {
            world.make_service(name).await?;
        }
        world.start_control(first).await;
        Ok(world)
    }

    /// Kills control, if it runs, and starts it again: it knows only what is stored.
    pub async fn restart_control(&mut self) {
        let Some(control) = self.control.take() else { return };
        control.tasks.stop();
        self.turns().await;
        self.start_control(control.name).await;
    }

    /// Another control takes over from one that is killed, or stopped for a while and goes on.
    async fn replace_control(&mut self) {
        let Some(before) = self.control.take() else { return };
        // It must not have the name of one that still lives.
        let taken = |name: &&&str| self.paused.iter().all(|paused| paused.control.name.as_str() != **name);
        let mut free = CONTROLS.iter().filter(|name| **name != before.name.as_str());
        let Some(name) = free.find(taken).and_then(|name| name.parse().ok()) else {
            self.control = Some(before);
            return;
        };
        if self.random.below(2) == 0 {
            self.note(format!("control {} is killed; {name} takes over", before.name));
            before.tasks.stop();
            self.turns().await;
        } else {
            let until = self.clock.now().plus(Millis(self.random.below(40_000)));
            self.note(format!("control {} is stopped until {}; {name} takes over", before.name, until.0));
            before.faults.pause();
            let revision = self.checker.revision();
            self.paused.push(Paused { until, revision, control: before });
        }
        self.start_control(name).await;
    }

    /// Controls that were stopped go on where they were; they end once they know that another leads.
    async fn resume_controls(&mut self, now: Timestamp) {
        let (due, paused) =
            std::mem::take(&mut self.paused).into_iter().partition(|paused| paused.until <= now);
        self.paused = paused;
        for Paused { revision, control, .. } in due {
            self.resumed = Some(self.resumed.map_or(revision, |resumed| resumed.min(revision)));
            self.note(format!("control {} goes on", control.name));
            control.faults.resume();
            self.turns().await;
            control.tasks.stop();
            self.turns().await;
        }
    }

    async fn start_control(&mut self, name: NodeName) {
        self.controls += 1;
        let random = Random::seeded(self.seed ^ (0xfa << 32) ^ self.controls);
        let authored = Authored {
            control: name.clone(),
            authors: self.authors.clone(),
            inner: Arc::clone(&self.memory),
        };
        let faulty = Faulty::new(Arc::new(authored), random, Arc::new(self.clock.clone()));
        let faults = faulty.faults();
        faults.set_rates(self.rates);
        let mut store = Arc::new(faulty) as Arc<dyn Store>;
        if let Some(planted) = self.planted {
            store = Arc::new(Wrong::new(planted, self.clock.clone(), store));
        }
        let objects =
            Objects::new(store, ZoneName::local(), Arc::new(self.clock.clone()), self.random.clone());
        let observed = Observed::new();
        let tasks = Tasks::new();
        let zone = LocalZone::new(
            objects.clone(),
            observed.clone(),
            // No version here names a secret.
            tutti_seal::Keyring::at(tutti_seal::Source::File("no-key".into())),
        );
        let options = ReconcileOptions {
            objects,
            observed,
            host_suffixes: vec!["localhost".into()],
            loops: Default::default(),
            machines: Default::default(),
        };
        leadership::start(name.clone(), options, &tasks);
        self.control = Some(Control { name, tasks, zone, faults });
        self.register_nodes().await;
    }

    async fn register_nodes(&mut self) {
        let Some(Control { zone, .. }) = &self.control else { return };
        let now = self.clock.now();
        for node in self.nodes.iter().filter(|node| node.silent_until <= now) {
            let status = NodeStatus {
                ready: true,
                registered_at: Timestamp(1),
                release: "sim".into(),
                capacity: self.node(),
                isolates: vec![Fingerprint { isolate: Isolate::Wasm, usable: true, notes: Vec::new() }],
                address: None,
                held: holds(&self.real, &self.random, &node.name).await,
                ..NodeStatus::default()
            };
            // A store that fails now is asked again with the next heartbeat.
            if zone.register_node(&node.name, status).await.is_ok() {
                self.checker.heard(&node.name, now);
            }
        }
    }

    /// Faults from now on happen so often, in a thousandth; if ever, machines have others' programs on them, too.
    pub fn set_faults(&mut self, rate: u64) {
        self.neighbours = (rate > 0).then(|| Random::seeded(self.seed ^ (0xfb << 32)));
        self.rates = Rates {
            before: rate,
            after: rate,
            no_space: rate / 2,
            watch_breaks: rate,
            // They do little harm by themselves, and every order in which watches can tell of things is to be had.
            watch_stalls: rate * 5,
            stall: LATE,
            latency: Millis(0),
        };
        let controls = self.control.iter().chain(self.paused.iter().map(|paused| &paused.control));
        controls.for_each(|control| control.faults.set_rates(self.rates));
        self.broken = if self.temper == Temper::Frail { rate * 4 } else { rate };
    }

    /// Nobody is cut off any more, and no request runs.
    pub(crate) fn everyone_is_well(&mut self) {
        self.load = 0;
        for node in &mut self.nodes {
            node.silent_until = Timestamp(0);
        }
        for ingress in &mut self.ingresses {
            ingress.silent_until = Timestamp(0);
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) const fn ingress_count(&self) -> usize {
        self.ingresses.len()
    }

    pub(crate) async fn turns(&self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// Holds all that was written by now against what must be so.
    pub(crate) fn check(&mut self) {
        // Where the store is stands in the story, so that two tellings that differ in anything differ there.
        let revision = self.checker.revision();
        let stopped = self.resumed.take();
        self.checker.catch_up(&self.real, self.node(), stopped);
        if self.checker.revision() != revision {
            self.note(format!("the store is at {}", self.checker.revision()));
        }
    }

    /// One event, by chance, and everything that follows from it at once.
    pub async fn step(&mut self) {
        if self.random.below(8) == 0 {
            self.favourite_event().await;
        }
        match self.random.below(100) {
            0..=31 => self.agents_act().await,
            32..=59 => {
                let (at, slow) = (self.any(self.ingresses.len()), self.temper == Temper::CutOff);
                let caught_up = self.random.below(3) > if slow { 1 } else { 0 };
                self.ingress_reports(at, caught_up).await;
            }
            60..=79 => self.time_passes(Millis(1 + self.random.below(3000))).await,
            80..=89 => self.user_acts().await,
            90..=92 => self.user_changes_mind().await,
            93 => self.node_falls_silent().await,
            94..=95 => self.ingress_falls_silent(),
            96 => self.ingress_is_replaced().await,
            97 => {
                if self.random.below(2) == 0 {
                    self.note("control is killed, and starts again");
                    self.restart_control().await;
                } else {
                    self.replace_control().await;
                }
            }
            _ => {
                self.note("watches break");
                self.control.iter().for_each(|control| control.faults.break_watches());
            }
        }
        self.turns().await;
        self.check();
    }

    /// What the checker found.
    #[must_use]
    pub fn faults_found(&self) -> &[Fault] {
        &self.checker.faults
    }

    /// The most times that controls wrote one object between two looks.
    #[must_use]
    pub const fn busiest(&self) -> usize {
        self.checker.busiest
    }

    /// How many instances went early to make room.
    #[must_use]
    pub const fn went_early(&self) -> usize {
        self.checker.early
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.story.push(format!("{} {}", self.clock.now().0, text.into()));
    }

    fn any(&self, count: usize) -> usize {
        usize::try_from(self.random.below(count as u64)).unwrap_or(0)
    }

    fn is_heard(&self, silent_until: Timestamp) -> bool {
        silent_until <= self.clock.now()
    }

    pub(crate) async fn time_passes(&mut self, span: Millis) {
        self.clock.advance(span);
        self.memory.expire_leases();
        self.turns().await;
        self.resume_controls(self.clock.now()).await;
        let now = self.clock.now();
        let Some(Control { zone, .. }) = &self.control else { return };
        for node in self.nodes.iter().filter(|node| node.silent_until <= now) {
            // Now and then what else runs there takes the room of up to three instances.
            let neighbours = self.neighbours.as_ref().filter(|random| random.below(4) == 0);
            let measured = neighbours.map(|random| NodeFigures {
                memory: ByteSize::mib(random.below(400)),
                ..NodeFigures::default()
            });
            let heartbeat = NodeHeartbeat { measured, ..NodeHeartbeat::default() };
            if zone.heartbeat(&node.name, heartbeat).await.is_ok() {
                self.checker.heard(&node.name, now);
            }
        }
    }

    async fn node_falls_silent(&mut self) {
        // Now and then for longer than it takes to be replaced.
        let most = if self.random.below(2) == 0 { 30_000 } else { 120_000 };
        let (at, span) = (self.any(self.nodes.len()), Millis(self.random.below(most)));
        let until = self.clock.now().plus(span);
        let all = match self.planted {
            Some(Planted::YesterdaysGoals) => self.real.list::<InstanceSpec>("").await,
            _ => Err(Problem::not_found("bug", "none")),
        };
        if let Some(node) = self.nodes.get_mut(at) {
            node.silent_until = until;
            let of = all.into_iter().flat_map(|all| all.items).filter(|it| it.spec.node == node.name);
            node.yesterday.extend(of.map(|instance| (instance.name.clone(), instance)));
            let text = format!("node {} falls silent until {}", node.name, until.0);
            self.note(text);
        }
    }

    fn ingress_falls_silent(&mut self) {
        // Now and then for longer than what is replaced stands by.
        let long = self.temper == Temper::CutOff || self.random.below(2) == 0;
        let most = if long { 30_000 } else { 10_000 };
        let span = Millis(most / 2 + self.random.below(most));
        let now = self.clock.now();
        let (at, until) = (self.any(self.ingresses.len()), now.plus(span));
        if let Some(ingress) = self.ingresses.get_mut(at) {
            ingress.silent_until = until;
            ingress.silent_since = ingress.silent_since.or(Some(now));
            let text = format!("{} falls silent until {}", ingress.name, until.0);
            self.note(text);
        }
    }

    fn start_ingress(&mut self) {
        self.started += 1;
        let name = format!("ingress-{}", self.started);
        self.ingresses.push(Ingress {
            name,
            reached: 0,
            answers: 0,
            silent_until: Timestamp(0),
            silent_since: None,
        });
    }

    /// One ingress ends, in order or not, and another starts.
    async fn ingress_is_replaced(&mut self) {
        let gone = self.ingresses.remove(self.any(self.ingresses.len()));
        let in_order = self.random.below(2) > 0;
        self.note(format!("{} ends, in order: {in_order}", gone.name));
        self.start_ingress();
        if let Some(Control { zone, .. }) = &self.control
            && in_order
        {
            let _ = zone.leave_ingress(&gone.name).await;
        }
    }

    /// Instances move on, most of them, on every node that is not cut off.
    pub(crate) async fn agents_act(&mut self) {
        if self.random.below(4) == 0 {
            self.register_nodes().await;
        }
        let Ok(all) = self.real.list::<InstanceSpec>("").await else { return };
        for instance in all.items {
            let node = self.nodes.iter().find(|node| node.name == instance.spec.node);
            let heard = node.is_some_and(|node| self.is_heard(node.silent_until));
            if !heard || self.random.below(3) == 0 {
                continue;
            }
            let told = node.and_then(|node| node.yesterday.get(&instance.name));
            let (goal, generation) = told
                .map_or((instance.spec.goal, instance.generation), |told| (told.spec.goal, told.generation));
            let next = self.moves_on(&instance, goal).unwrap_or(instance.status.state);
            let mut status = instance.status.clone();
            if status.state != next {
                status.state = next;
                status.since = self.clock.now();
            }
            status.observed_generation = generation;
            status.reason = (next == InstanceState::Failed).then(|| "it was told to".into());
            let report = InstanceReport { instance: instance.spec.instance.clone(), status };
            if let Some(Control { zone, .. }) = &self.control {
                // An agent tries again until it is heard; here that is its next turn.
                let _ = zone.report_instances(&instance.spec.node, vec![report]).await;
            }
        }
    }

    fn moves_on(&self, instance: &Resource<InstanceSpec>, goal: Goal) -> Option<InstanceState> {
        use InstanceState as S;
        let unlucky = self.random.below(1000) < self.broken;
        let sleepy = self.broken > 0 && instance.spec.manifest.min == 0 && self.random.below(8) == 0;
        match (goal, instance.status.state) {
            (_, S::Stopped) => None,
            (Goal::Stop, _) | (Goal::Drain, S::Draining | S::Failed) => Some(S::Stopped),
            (Goal::Drain, _) => Some(S::Draining),
            (_, S::Pending) => Some(S::Preloading),
            (_, S::Preloading) => Some(S::Starting),
            (_, S::Starting | S::Backoff) if unlucky => Some(S::Failed),
            (_, S::Starting | S::Backoff) => Some(S::Ready),
            (_, S::Ready) if unlucky => Some(S::Backoff),
            // What sleeps may find no room when it is to wake.
            (_, S::Asleep) if unlucky => Some(S::Failed),
            (_, S::Ready) if sleepy => Some(S::Asleep),
            (_, S::Asleep) if self.random.below(4) == 0 => Some(S::Ready),
            _ => None,
        }
    }

    /// An ingress reports, and has applied what it has been told if it has `caught_up`.
    pub(crate) async fn ingress_reports(&mut self, at: usize, caught_up: bool) {
        let Ok(tables) = self.real.list::<TableSpec>("").await else { return };
        let newest = tables.items.iter().map(|table| table.revision).max().unwrap_or(0);
        let running = self.random.below(self.load + 1);
        let now = self.clock.now();
        let Some(ingress) = self.ingresses.get_mut(at).filter(|ingress| ingress.silent_until <= now) else {
            return;
        };
        ingress.answers += 40;
        let comes_back = ingress.silent_since.take();
        if caught_up && comes_back.is_none() {
            ingress.reached = ingress.reached.max(newest);
        }
        let mut stats = Vec::new();
        for service in SERVICES.iter().filter_map(|name| name.parse().ok()) {
            for version in (0..VERSIONS).filter_map(|index| version(index).ok()) {
                let figures = VersionStats { answers: ingress.answers, running, ..VersionStats::default() };
                stats.push(ServiceStats {
                    service: tutti_model::ServiceRef::clone(&service),
                    version: Some(version),
                    stats: figures,
                });
            }
        }
        let report = IngressReport {
            ingress: ingress.name.clone(),
            spec: IngressSpec::default(),
            reached: ingress.reached,
            stats,
        };
        if let Some(Control { zone, .. }) = &self.control {
            let _ = zone.report_ingress(report).await;
        }
    }
}

/// A node holds ready what it was asked to, but for what cannot be run.
async fn holds(objects: &Objects, random: &Random, node: &NodeName) -> Vec<Held> {
    let Ok(Some(node)) = objects.find::<NodeSpec>(node.as_str()).await else { return Vec::new() };
    let held = node.spec.preload.into_iter().map(|version| Held {
        artifact: version.artifact,
        readiness: match random.below(8) {
            0 => Readiness::Unrunnable { reason: "it was told to".into() },
            _ => Readiness::Ready { took: Millis(71) },
        },
    });
    held.collect()
}
