//! Finds a node for each new instance, with the reason for every node that was refused.
//!
//! Instances of a service spread over the values of the label that it names, then over nodes; among equals one that
//! holds the version ready wins, then one that is not busy, then the one with the most free memory, then the most free
//! bandwidth, then the name, so that the same snapshot always gives the same plan. A service that is packed goes to the
//! fullest node instead, so that others stay empty.

mod draft;
mod measure;
mod nodes;
mod queue;
mod ranking;

pub use self::{
    draft::Draft,
    measure::{Beside, MEASURE_HOLDS, Measure},
    nodes::Nodes,
};

use queue::Queue;
use std::{collections::BTreeMap, sync::Arc};
use tutti_model::{
    Digest, Resource,
    instance::{InstanceSpec, InstanceState},
    manifest::Manifest,
    name::NodeName,
    node::Resources,
    quantity::{Bandwidth, ByteSize, MilliCpu},
    scheduling::{Effect, LabelValue, Labels, Taint},
    version::{Isolate, VersionSpec},
};

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub node: NodeName,
    /// Whether its agent has been heard of lately: what its instances are said to be still holds.
    pub heard: bool,
    /// Whether its agent has said that it is ready for new instances. One that takes up what it ran before may need a
    /// while; what has run on undisturbed serves meanwhile.
    pub ready: bool,
    /// Whether it takes new instances.
    pub cordoned: bool,
    /// Whether what it runs is to run elsewhere.
    pub draining: bool,
    /// What it has.
    pub capacity: Resources,
    /// What the manifests of its instances add up to.
    pub promised: Resources,
    /// What was measured to be in use beside that.
    pub beside: Beside,
    /// The isolates that it can run.
    pub isolates: Vec<Isolate>,
    /// Ports that instances insist on there.
    pub ports: Vec<u16>,
    /// Artifacts that it holds ready though nothing runs them there.
    pub holds: Vec<Digest>,
    /// Its labels, shared since views are copied for each plan.
    pub labels: Arc<Labels>,
    /// What keeps instances away that do not tolerate it.
    pub taints: Arc<[Taint]>,
}

impl NodeView {
    /// Why instances of this manifest that run here are to run elsewhere; `None` if they may stay.
    #[must_use]
    pub fn evicts(&self, manifest: &Manifest) -> Option<String> {
        if self.draining {
            return Some(format!("node {} drains", self.node));
        }
        let evicting = self.taints.iter().filter(|taint| taint.effect == Effect::NoExecute);
        let taint = evicting.into_iter().find(|taint| !is_tolerated(taint, manifest))?;
        Some(format!("node {} has the taint {taint}, which is not tolerated", self.node))
    }

    /// Its value of the label that a service spreads over; `None` if either has none.
    fn label(&self, manifest: &Manifest) -> Option<&LabelValue> {
        self.labels.get(manifest.placement.spread.as_ref()?)
    }
}

fn is_tolerated(taint: &Taint, manifest: &Manifest) -> bool {
    manifest.placement.tolerations.iter().any(|toleration| toleration.tolerates(taint))
}

/// The nodes found, and why there are no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placed {
    /// One node for each instance that found one, in order.
    pub nodes: Vec<NodeName>,
    /// Why it was each of these, one sentence each.
    pub why: Vec<String>,
    /// Why each refused node was refused, one sentence each; empty if all found one.
    pub refusals: Vec<String>,
}

/// Finds nodes for `count` new instances of a version. `spread` holds how many instances of the service each node has
/// already. What is found is added to the nodes' promises in the draft, and to `spread`.
///
/// The nodes are those that looking at every node for each instance would find. Those are looked at that are chosen, that
/// run the service or hold the version ready, and that the draft has changed; all of them only where one finds none.
#[must_use]
pub fn place(
    version: &VersionSpec,
    count: u32,
    draft: &mut Draft<'_>,
    spread: &mut BTreeMap<NodeName, u32>,
) -> Placed {
    let mut placed = Placed::default();
    if count == 0 {
        return placed;
    }
    let mut queue = Queue::new(version, draft, spread);
    for _ in 0..count {
        let candidates = queue.len;
        let Some(place) = queue.take() else {
            placed.refusals = draft.iter().filter_map(|node| refusal(version, node)).collect();
            if placed.refusals.is_empty() {
                placed.refusals.push("the zone has no nodes".into());
            }
            return placed;
        };
        let Some(node) = draft.get_mut(&place.node) else { continue };
        let here = spread.entry(node.node.clone()).or_default();
        placed.why.push(why(version, node, *here, candidates));
        promise(node, &version.manifest);
        *here += 1;
        placed.nodes.push(node.node.clone());
        if let Some(node) = draft.shared(&place.node) {
            queue.put_back(&place, node, *here);
        }
    }
    placed
}

/// How much of a node is left, by whichever of memory and cpu is shorter, in thousandths.
fn room_per_mille(node: &NodeView) -> u32 {
    let free = compared(node);
    let part = |free: u64, all: u64| free.saturating_mul(1000).checked_div(all).unwrap_or(0);
    let memory = part(free.memory.0, node.capacity.memory.0);
    let cpu = part(free.cpu.0.into(), node.capacity.cpu.0.into());
    u32::try_from(memory.min(cpu)).unwrap_or(u32::MAX)
}

/// Why it was this node: what it has free, and what else told it from the others.
fn why(version: &VersionSpec, node: &NodeView, here: u32, candidates: usize) -> String {
    let free = free(node);
    let mut why = format!("{} of memory", mebibytes(free.memory));
    if !node.capacity.bandwidth.is_none() {
        why.push_str(&format!(" and {} of bandwidth", free.bandwidth));
    }
    why.push_str(" free");
    if node.beside.is_busy {
        why.push_str(", is busy");
    }
    if node.holds.contains(&version.artifact) {
        why.push_str(", holds it ready");
    }
    if here > 0 {
        why.push_str(&format!(", has {here} of the service"));
    }
    if let (Some(key), Some(value)) = (&version.manifest.placement.spread, node.label(&version.manifest)) {
        why.push_str(&format!(", is of {key} {value}"));
    }
    let noun = if candidates == 1 { "candidate" } else { "candidates" };
    format!("{why}; the best of {candidates} {noun}")
}

/// Counts an instance with this manifest among a node's promises.
pub fn promise(node: &mut NodeView, manifest: &Manifest) {
    node.promised.memory = ByteSize(node.promised.memory.0.saturating_add(manifest.memory.0));
    node.promised.cpu = MilliCpu(node.promised.cpu.0.saturating_add(manifest.cpu.0));
    node.promised.bandwidth = Bandwidth(node.promised.bandwidth.0.saturating_add(manifest.bandwidth.0));
    node.promised.disk = ByteSize(node.promised.disk.0.saturating_add(manifest.disk.0));
    node.ports.extend(manifest.port);
}

/// Counts an instance among a node's promises. One that sleeps has but its port: the rest is others' until it wakes.
pub fn promise_to(node: &mut NodeView, instance: &Resource<InstanceSpec>) {
    if instance.status.state == InstanceState::Asleep {
        node.ports.extend(instance.spec.manifest.port);
    } else {
        promise(node, &instance.spec.manifest);
    }
}

/// Takes an instance with this manifest out of a node's promises.
pub fn release(node: &mut NodeView, manifest: &Manifest) {
    node.promised.memory = ByteSize(node.promised.memory.0.saturating_sub(manifest.memory.0));
    node.promised.cpu = MilliCpu(node.promised.cpu.0.saturating_sub(manifest.cpu.0));
    node.promised.bandwidth = Bandwidth(node.promised.bandwidth.0.saturating_sub(manifest.bandwidth.0));
    node.promised.disk = ByteSize(node.promised.disk.0.saturating_sub(manifest.disk.0));
    if let Some(held) = manifest.port.and_then(|port| node.ports.iter().position(|taken| *taken == port)) {
        node.ports.swap_remove(held);
    }
}

/// Whether this much is enough for an instance of this manifest.
fn has_room(free: &Resources, manifest: &Manifest) -> bool {
    free.memory >= manifest.memory
        && free.cpu >= manifest.cpu
        && free.bandwidth >= manifest.bandwidth
        && free.disk >= manifest.disk
}

/// What a node has left: neither promised nor, of memory and disk, in use beside that.
fn free(node: &NodeView) -> Resources {
    let NodeView { capacity, promised, beside, .. } = node;
    let left = |all: ByteSize, promised: ByteSize, beside: ByteSize| {
        ByteSize(all.0.saturating_sub(promised.0).saturating_sub(beside.0))
    };
    Resources {
        cpu: MilliCpu(capacity.cpu.0.saturating_sub(promised.cpu.0)),
        memory: left(capacity.memory, promised.memory, beside.memory),
        bandwidth: Bandwidth(capacity.bandwidth.0.saturating_sub(promised.bandwidth.0)),
        disk: left(capacity.disk, promised.disk, beside.disk),
    }
}

/// What a node has left, as nodes are compared: of what was measured only what is no chance.
fn compared(node: &NodeView) -> Resources {
    let NodeView { capacity, promised, beside, .. } = node;
    let in_use = (capacity.memory.0 / 4).saturating_mul(beside.quarters.into());
    let memory = ByteSize(capacity.memory.0.saturating_sub(promised.memory.0).saturating_sub(in_use));
    Resources { memory, ..free(node) }
}

/// What takes the room that is lacking, where it is not promises alone.
fn taken(promised: ByteSize, beside: ByteSize) -> String {
    if beside.0 == 0 {
        return String::new();
    }
    let (promised, beside) = (mebibytes(promised), mebibytes(beside));
    format!(": {promised} are promised, and {beside} were measured to be in use beside that")
}

/// Why a node cannot take an instance of this version.
pub(crate) fn refusal(version: &VersionSpec, node: &NodeView) -> Option<String> {
    unfit(version, node).or_else(|| lacks(&version.manifest, node))
}

/// Why a node cannot take an instance of this version however much room it has.
pub(crate) fn unfit(version: &VersionSpec, node: &NodeView) -> Option<String> {
    let (name, manifest) = (&node.node, &version.manifest);
    if !(node.ready && node.heard) {
        return Some(format!("node {name} is not ready"));
    }
    if node.cordoned {
        return Some(format!("node {name} is cordoned"));
    }
    if !node.isolates.contains(&version.isolate) {
        return Some(format!("node {name} cannot run {} isolates", version.isolate));
    }
    if let Some(constraint) = manifest.placement.constraints.iter().find(|it| !it.holds(&node.labels)) {
        let key = constraint.key();
        return Some(match node.labels.get(key) {
            Some(value) if value.as_str().is_empty() => {
                format!("node {name} has the label {key}, and {constraint} is asked")
            }
            Some(value) => format!("node {name} has {key}={value}, and {constraint} is asked"),
            None => format!("node {name} has no label {key}, and {constraint} is asked"),
        });
    }
    let taint = node.taints.iter().find(|taint| !is_tolerated(taint, manifest))?;
    Some(format!("node {name} has the taint {taint}, which is not tolerated"))
}

/// What a node has too little of for an instance of this manifest.
fn lacks(manifest: &Manifest, node: &NodeView) -> Option<String> {
    let (name, free) = (&node.node, free(node));
    if free.memory < manifest.memory {
        let capacity = node.capacity.memory;
        return Some(format!(
            "node {name} has {} of memory free of {}, and {} is needed{}",
            mebibytes(free.memory),
            mebibytes(capacity),
            manifest.memory,
            taken(node.promised.memory, node.beside.memory)
        ));
    }
    if free.cpu < manifest.cpu {
        return Some(format!(
            "node {name} has {} cpu free of {}, and {} is needed",
            free.cpu, node.capacity.cpu, manifest.cpu
        ));
    }
    if free.bandwidth < manifest.bandwidth {
        if node.capacity.bandwidth.is_none() {
            return Some(format!(
                "node {name} does not know its bandwidth, and {} is needed: it is told with --bandwidth",
                manifest.bandwidth
            ));
        }
        return Some(format!(
            "node {name} has {} of bandwidth free of {}, and {} is needed",
            free.bandwidth, node.capacity.bandwidth, manifest.bandwidth
        ));
    }
    if free.disk < manifest.disk {
        return Some(format!(
            "node {name} has {} of disk free of {}, and {} is needed{}",
            mebibytes(free.disk),
            mebibytes(node.capacity.disk),
            manifest.disk,
            taken(node.promised.disk, node.beside.disk)
        ));
    }
    let taken = manifest.port.filter(|port| node.ports.contains(port));
    taken.map(|port| format!("port {port} is taken on node {name} by an instance that insists on it"))
}

/// Rounded down to whole mebibytes, for people.
fn mebibytes(size: ByteSize) -> String {
    format!("{}Mi", size.0 >> 20)
}

#[cfg(test)]
mod tests;
