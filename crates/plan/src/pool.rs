//! Decides what becomes of the machines of node pools: how many are made for instances that found no node, and which one
//! is drained and removed when nothing needs it.
//!
//! Level-triggered like all plans: it looks at what waits, at the nodes, and at how far each machine is. A machine that is
//! on its way counts as if it were there, so that nothing is made twice for one need. How a machine is made, when a
//! command that failed is tried again, and what a machine is called, is left to whoever executes the plan.

mod retire;
#[cfg(test)]
mod tests;

use crate::placement::{Draft, NodeView, Nodes, place, refusal};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tutti_model::{
    Millis, Resource, Timestamp,
    instance::InstanceSpec,
    name::NodeName,
    node::{NODE_LABEL, Resources},
    pool::{MachineFailure, MachineState, POOL_LABEL, PoolMachine, PoolSpec},
    scheduling::Labels,
    version::VersionSpec,
};

/// Most machines of one pool that one look asks for: a sudden need must not be a stampede at the operator's provider.
pub const MAKES: usize = 8;
/// How long a machine that was made may take until its agent is heard; then it is made again.
pub const JOIN_WAIT: Millis = Millis::seconds(600);
/// The pause after the first failure of a machine's command, and the longest.
const PAUSES: (Millis, Millis) = (Millis::seconds(5), Millis::seconds(300));
/// Most notes on one service.
const NOTES: usize = 4;

/// Instances of one version that found no node.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The service, as its assignment is called.
    pub service: String,
    /// What they run.
    pub version: VersionSpec,
    /// How many.
    pub count: u32,
}

/// What is known when pools are planned.
#[derive(Debug, Clone, Copy)]
pub struct PoolsView<'a> {
    /// Now.
    pub now: Timestamp,
    /// Every pool of the zone, in name order.
    pub pools: &'a [Resource<PoolSpec>],
    /// Every node of the zone, with what is promised to all services.
    pub nodes: &'a Nodes,
    /// Every instance of the zone.
    pub instances: &'a [&'a Resource<InstanceSpec>],
    /// What found no node.
    pub waiting: &'a [Waiting],
}

/// What is to be done for all pools.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoolsPlan {
    /// For each pool, in their order.
    pub pools: Vec<PoolPlan>,
    /// What those who wait are told, by service: which machine they wait for, or why none is made.
    pub notes: BTreeMap<String, Vec<String>>,
}

/// What is to be done for one pool.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoolPlan {
    /// Its machines, as they are to be.
    pub machines: Vec<PoolMachine>,
    /// Why one more is to be made, one sentence for each.
    pub make: Vec<String>,
    /// Nodes that are to drain from now on.
    pub drain: Vec<NodeName>,
    /// Nodes that drain and are wanted again.
    pub keep: Vec<NodeName>,
}

/// Plans all pools of a zone.
#[must_use]
pub fn plan_pools(view: PoolsView<'_>) -> PoolsPlan {
    let mut pass = Pass::new(view);
    pass.place_waiting();
    pass.keep_the_fewest();
    retire::retire(&mut pass);
    PoolsPlan { pools: pass.pools.into_iter().map(|pool| pool.plan).collect(), notes: pass.notes }
}

/// How long a machine rests after so many failures in a row: twice as long after each.
#[must_use]
pub const fn pause(attempts: u32) -> Millis {
    let doubled = PAUSES.0.0.saturating_mul(1 << if attempts > 16 { 15 } else { attempts.saturating_sub(1) });
    if doubled > PAUSES.1.0 { PAUSES.1 } else { Millis(doubled) }
}

/// A node of a pool as it will be, before it is there.
#[must_use]
pub fn ideal(spec: &PoolSpec, name: NodeName) -> NodeView {
    let mut labels = labels(spec);
    if let (Ok(key), Ok(value)) = (NODE_LABEL.parse(), name.as_str().parse()) {
        labels.insert(key, value);
    }
    NodeView {
        node: name,
        heard: true,
        ready: true,
        cordoned: false,
        draining: false,
        capacity: spec.offers,
        promised: Resources::default(),
        beside: Default::default(),
        isolates: spec.isolates.clone(),
        ports: Vec::new(),
        holds: Vec::new(),
        labels: Arc::new(labels),
        taints: spec.taints.clone().into(),
    }
}

/// The labels that a pool gives its nodes.
#[must_use]
pub fn labels(spec: &PoolSpec) -> Labels {
    let mut labels = spec.labels.clone();
    if let (Ok(key), Ok(value)) = (POOL_LABEL.parse(), spec.pool.as_str().parse()) {
        labels.insert(key, value);
    }
    labels
}

/// One pool in one pass.
#[derive(Debug)]
struct PoolPass<'a> {
    pool: &'a Resource<PoolSpec>,
    plan: PoolPlan,
    /// Machines on their way that something waits for.
    awaited: BTreeSet<NodeName>,
    /// Whether something waits that a machine of this pool would do for.
    is_wanted: bool,
}

impl PoolPass<'_> {
    /// Whether it is to have no machines any more.
    const fn is_going(&self) -> bool {
        self.pool.deleted_at.is_some()
    }

    /// Machines there are or will be, in whatever state.
    fn total(&self) -> usize {
        self.plan.machines.len() + self.plan.make.len()
    }

    /// Machines that take instances, or will.
    fn active(&self) -> usize {
        let going = |state| matches!(state, MachineState::Draining | MachineState::Removing);
        self.plan.machines.iter().filter(|machine| !going(machine.state)).count() + self.plan.make.len()
    }

    fn may_make(&self) -> bool {
        !self.is_going() && self.total() < wide(self.pool.spec.max) && self.plan.make.len() < MAKES
    }

    fn set(&mut self, at: usize, state: MachineState, now: Timestamp, why: impl Into<String>) {
        if let Some(machine) = self.plan.machines.get_mut(at) {
            (machine.state, machine.since, machine.why) = (state, now, why.into());
            (machine.idle_since, machine.failure) = (None, None);
        }
    }
}

#[derive(Debug)]
struct Pass<'a> {
    view: PoolsView<'a>,
    pools: Vec<PoolPass<'a>>,
    /// Every node, and every machine on its way as if it were one, with what this pass has promised there.
    nodes: Draft<'a>,
    notes: BTreeMap<String, Vec<String>>,
}

impl<'a> Pass<'a> {
    fn new(view: PoolsView<'a>) -> Self {
        let mut nodes = Draft::new(view.nodes);
        let mut pools = Vec::new();
        for pool in view.pools {
            let follow = |machine: &PoolMachine| followed(&view, machine);
            let plan = PoolPlan {
                machines: pool.status.machines.iter().map(follow).collect(),
                ..PoolPlan::default()
            };
            let pass = PoolPass { pool, plan, awaited: BTreeSet::new(), is_wanted: false };
            let coming = pass.plan.machines.iter().filter(|machine| machine.state.is_coming());
            for machine in coming.filter(|_| !pass.is_going()) {
                nodes.insert(ideal(&pool.spec, machine.name.clone()));
            }
            pools.push(pass);
        }
        Pass { view, pools, nodes, notes: BTreeMap::new() }
    }

    /// Finds a node for all that waits: one that there is or will be, one that drains, or one that is to be made.
    fn place_waiting(&mut self) {
        for waiting in self.view.waiting {
            let mut left = self.place(waiting, waiting.count);
            if left > 0 {
                left = self.take_back(waiting, left);
            }
            for at in 0..self.pools.len() {
                left = self.make_for(at, waiting, left);
            }
        }
    }

    /// Places some of what waits on the nodes of this pass; gives how many are left over.
    fn place(&mut self, waiting: &Waiting, count: u32) -> u32 {
        let placed = place(&waiting.version, count, &mut self.nodes, &mut BTreeMap::new());
        for node in &placed.nodes {
            let mut note = None;
            for pool in &mut self.pools {
                let machine = pool.plan.machines.iter().find(|machine| machine.name == *node);
                if let Some(machine) = machine.filter(|machine| machine.state.is_coming()) {
                    note = Some(awaits(pool.pool, machine));
                    pool.awaited.insert(node.clone());
                    pool.is_wanted = true;
                }
            }
            self.note(&waiting.service, note);
        }
        count.saturating_sub(u32::try_from(placed.nodes.len()).unwrap_or(u32::MAX))
    }

    /// Lets machines that drain stay.
    fn take_back(&mut self, waiting: &Waiting, mut left: u32) -> u32 {
        for at in 0..self.pools.len() {
            let Some(pool) = self.pools.get(at) else { continue };
            for index in 0..pool.plan.machines.len() {
                let Some(pool) = self.pools.get_mut(at) else { continue };
                let Some(machine) = pool.plan.machines.get(index) else { continue };
                let has_room = !pool.is_going() && pool.active() < wide(pool.pool.spec.max);
                if left == 0 || machine.state != MachineState::Draining || machine.by_hand || !has_room {
                    continue;
                }
                let name = machine.name.clone();
                let Some(node) = self.nodes.get(&name) else { continue };
                let kept = NodeView { cordoned: false, draining: false, ..node.clone() };
                if refusal(&waiting.version, &kept).is_none() {
                    self.nodes.insert(kept);
                    let why = format!("{} needs it again", waiting.service);
                    pool.set(index, MachineState::Joined, self.view.now, why);
                    pool.plan.keep.push(name);
                    left = self.place(waiting, left);
                }
            }
        }
        left
    }

    /// Asks for new machines of a pool, for as much of what waits as they have room for.
    fn make_for(&mut self, at: usize, waiting: &Waiting, mut left: u32) -> u32 {
        let Some(pool) = self.pools.get_mut(at).filter(|pool| !pool.is_going()) else { return left };
        let (spec, service) = (&pool.pool.spec, waiting.service.clone());
        let Some(name) = placeholder(spec, pool.plan.make.len()) else { return left };
        let unfit = refusal(&waiting.version, &ideal(spec, name.clone()));
        pool.is_wanted |= unfit.is_none() && waiting.count > 0;
        if left == 0 {
            return left;
        }
        if let Some(why) = unfit {
            let why = why.replace(&format!("node {name}"), "it");
            self.note(&service, Some(format!("a machine of pool {} would not do: {why}", spec.pool)));
            return left;
        }
        let mut made = 0;
        while left > 0 && pool.may_make() {
            let Some(name) = placeholder(spec, pool.plan.make.len()) else { break };
            let none = Nodes::default();
            let mut alone = Draft::new(&none);
            alone.insert(ideal(spec, name));
            let placed = place(&waiting.version, left, &mut alone, &mut BTreeMap::new());
            left = left.saturating_sub(u32::try_from(placed.nodes.len()).unwrap_or(u32::MAX));
            pool.plan.make.push(format!("an instance of {} found no node", waiting.version.version));
            alone.iter().for_each(|node| self.nodes.insert(node.clone()));
            made += 1;
        }
        let (most, has) = (spec.max, pool.plan.machines.len());
        let is_full = pool.total() >= wide(most);
        let text = match (made, is_full && left > 0) {
            (0, true) => {
                Some(format!("pool {} makes no machine for it: it has {has} of at most {most}", spec.pool))
            }
            (0, false) => None,
            _ => Some(format!("pool {} makes another machine for it", spec.pool)),
        };
        self.note(&service, text);
        left
    }

    /// Makes as many machines as a pool is to have at least.
    fn keep_the_fewest(&mut self) {
        for pool in &mut self.pools {
            let min = pool.pool.spec.min;
            while pool.active() < wide(min) && pool.may_make() {
                pool.plan.make.push(format!("the pool keeps at least {min}"));
            }
        }
    }

    fn note(&mut self, service: &str, text: Option<String>) {
        let Some(text) = text else { return };
        let notes = self.notes.entry(service.to_owned()).or_default();
        if notes.len() < NOTES && !notes.contains(&text) {
            notes.push(text);
        }
    }
}

/// A machine, as far as its node has brought it.
fn followed(view: &PoolsView<'_>, machine: &PoolMachine) -> PoolMachine {
    let node = view.nodes.get(&machine.name);
    let to = |state, why: &str| PoolMachine {
        state,
        since: view.now,
        why: why.to_owned(),
        by_hand: false,
        idle_since: None,
        failure: None,
        name: machine.name.clone(),
    };
    let has_instances = || view.instances.iter().any(|instance| instance.spec.node == machine.name);
    match (machine.state, node) {
        (state, Some(node)) if state.is_coming() && node.ready && node.heard => {
            to(MachineState::Joined, "its agent is heard")
        }
        (MachineState::Joining, _) if view.now.since(machine.since) >= JOIN_WAIT => {
            let attempts = machine.failure.as_ref().map_or(0, |failure| failure.attempts).saturating_add(1);
            let minutes = JOIN_WAIT.0 / 60_000;
            let reason = format!("it was made, and its agent was not heard within {minutes} min");
            let failure = Some(MachineFailure { attempts, reason, again_at: view.now });
            let made = to(MachineState::Making, &machine.why);
            PoolMachine { failure, idle_since: machine.idle_since, ..made }
        }
        (MachineState::Joined | MachineState::Draining, None) => {
            to(MachineState::Removing, "its node was removed")
        }
        (MachineState::Joined, Some(node)) if node.draining => {
            PoolMachine { by_hand: true, ..to(MachineState::Draining, "its node was drained by hand") }
        }
        (MachineState::Draining, Some(node)) if !node.draining => {
            to(MachineState::Joined, "its node drains no longer")
        }
        (MachineState::Draining, Some(_)) if !has_instances() => {
            to(MachineState::Removing, "nothing runs there any more")
        }
        _ => machine.clone(),
    }
}

/// What those are told who wait for a machine.
fn awaits(pool: &Resource<PoolSpec>, machine: &PoolMachine) -> String {
    let (pool, name) = (&pool.name, &machine.name);
    match (&machine.failure, machine.state) {
        (Some(failure), _) => format!(
            "pool {pool} makes machine {name} for it; attempt {} failed: {}",
            failure.attempts, failure.reason
        ),
        (None, MachineState::Joining) => {
            format!("pool {pool} has made machine {name} for it, whose agent is not heard yet")
        }
        (None, _) => format!("pool {pool} makes machine {name} for it"),
    }
}

/// What a machine is called that has no name yet.
fn placeholder(spec: &PoolSpec, number: usize) -> Option<NodeName> {
    format!("{}-new-{number}", spec.pool).parse().ok()
}

fn wide(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
