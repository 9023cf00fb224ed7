//! Finds a node for each new instance, with the reason for every node that was refused.
//!
//! Instances of a service spread over the values of the label that it names, then over nodes; among equals one that
//! holds the version ready wins, then the one with the most free memory, then the most free bandwidth, then the name, so
//! that the same snapshot always gives the same plan. A service that is packed goes to the fullest node instead, so that
//! others stay empty.

mod queue;

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
    fn label(&self, manifest: &Manifest) -> Option<LabelValue> {
        self.labels.get(manifest.placement.spread.as_ref()?).cloned()
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
/// already. What is found is added to the nodes' promises and to `spread`.
///
/// Each node is looked at once, and again only when it was chosen.
#[must_use]
pub fn place(
    version: &VersionSpec,
    count: u32,
    nodes: &mut [NodeView],
    spread: &mut BTreeMap<NodeName, u32>,
) -> Placed {
    let mut placed = Placed::default();
    if count == 0 {
        return placed;
    }
    let mut queue = Queue::new(version, nodes, spread);
    for _ in 0..count {
        let candidates = queue.len;
        let Some((place, node)) = queue.take().and_then(|place| Some((place, nodes.get_mut(place.index)?)))
        else {
            placed.refusals = nodes.iter().filter_map(|node| refusal(version, node)).collect();
            if placed.refusals.is_empty() {
                placed.refusals.push("the zone has no nodes".into());
            }
            return placed;
        };
        let here = spread.entry(node.node.clone()).or_default();
        placed.why.push(why(version, node, *here, candidates));
        promise(node, &version.manifest);
        *here += 1;
        placed.nodes.push(node.node.clone());
        queue.put_back(version, place, node, *here);
    }
    placed
}

/// How much of a node is left, by whichever of memory and cpu is shorter, in thousandths.
fn room_per_mille(node: &NodeView) -> u32 {
    let free = free(node);
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

/// What a node has left.
fn free(node: &NodeView) -> Resources {
    Resources {
        cpu: MilliCpu(node.capacity.cpu.0.saturating_sub(node.promised.cpu.0)),
        memory: ByteSize(node.capacity.memory.0.saturating_sub(node.promised.memory.0)),
        bandwidth: Bandwidth(node.capacity.bandwidth.0.saturating_sub(node.promised.bandwidth.0)),
        disk: ByteSize(node.capacity.disk.0.saturating_sub(node.promised.disk.0)),
    }
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
            "node {name} has {} of memory free of {}, and {} is needed",
            mebibytes(free.memory),
            mebibytes(capacity),
            manifest.memory
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
            "node {name} has {} of disk free of {}, and {} is needed",
            mebibytes(free.disk),
            mebibytes(node.capacity.disk),
            manifest.disk
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
mod tests {
    use super::*;
    use crate::zone::fixtures::{node, version};
    use proptest::{prop_assert, prop_assert_eq, proptest};
    use tutti_model::scheduling::Strategy;

    #[test]
    fn spreads_before_it_shares() {
        let mut nodes = vec![node("a"), node("b"), node("c")];
        let placed = place(&version("1.0"), 5, &mut nodes, &mut BTreeMap::new());
        let names: Vec<&str> = placed.nodes.iter().map(NodeName::as_str).collect();
        assert_eq!(names, ["a", "b", "c", "a", "b"]);
    }

    #[test]
    fn prefers_a_node_that_holds_the_version_ready_but_spreads_first() {
        let mut nodes = vec![node("a"), node("b"), node("c")];
        let version = version("1.0");
        nodes[2].holds.push(version.artifact.clone());
        let placed = place(&version, 4, &mut nodes, &mut BTreeMap::new());
        let names: Vec<&str> = placed.nodes.iter().map(NodeName::as_str).collect();
        assert_eq!(names, ["c", "a", "b", "c"]);
    }

    #[test]
    fn bandwidth_is_asked_for_and_told() {
        let mut wanted = version("1.0");
        wanted.manifest.bandwidth = Bandwidth::mbit(10);
        let (mut narrow, mut wide, unknown) = (node("narrow"), node("wide"), node("unknown"));
        (narrow.capacity.bandwidth, wide.capacity.bandwidth) = (Bandwidth::mbit(5), Bandwidth::mbit(25));
        let placed = place(&wanted, 3, &mut [narrow, wide, unknown], &mut BTreeMap::new());
        let names: Vec<&str> = placed.nodes.iter().map(NodeName::as_str).collect();
        assert_eq!(names, ["wide", "wide"]);
        assert_eq!(
            placed.why,
            [
                "65536Mi of memory and 25Mbit of bandwidth free; the best of 1 candidate",
                "65408Mi of memory and 15Mbit of bandwidth free, has 1 of the service; the best of 1 candidate",
            ]
        );
        assert_eq!(
            placed.refusals,
            [
                "node narrow has 5Mbit of bandwidth free of 5Mbit, and 10Mbit is needed",
                "node wide has 5Mbit of bandwidth free of 25Mbit, and 10Mbit is needed",
                "node unknown does not know its bandwidth, and 10Mbit is needed: it is told with --bandwidth",
            ]
        );
        // Who asks for none is placed anywhere, and prefers the wider of two alike.
        let (mut a, mut b) = (node("a"), node("b"));
        (a.capacity.bandwidth, b.capacity.bandwidth) = (Bandwidth::mbit(100), Bandwidth::mbit(1000));
        assert_eq!(place(&version("1.0"), 1, &mut [a, b], &mut BTreeMap::new()).nodes[0].as_str(), "b");
    }

    #[test]
    fn says_why_each_node_is_refused() {
        let mut small = node("small");
        small.capacity.memory = ByteSize::mib(64);
        let mut cordoned = node("held");
        cordoned.cordoned = true;
        let mut down = node("down");
        down.ready = false;
        let mut port = node("port");
        port.ports.push(9000);
        let mut wanted = version("1.0");
        wanted.manifest.port = Some(9000);
        let placed = place(&wanted, 1, &mut [small, cordoned, down, port], &mut BTreeMap::new());
        assert_eq!(
            placed.refusals,
            [
                "node small has 64Mi of memory free of 64Mi, and 128Mi is needed",
                "node held is cordoned",
                "node down is not ready",
                "port 9000 is taken on node port by an instance that insists on it",
            ]
        );
    }

    fn labelled(name: &str, labels: &[&str]) -> NodeView {
        let labels = labels.iter().map(|text| tutti_model::scheduling::label(text).unwrap()).collect();
        NodeView { labels: Arc::new(labels), ..node(name) }
    }

    fn asking(constraints: &[&str], tolerations: &[&str]) -> VersionSpec {
        let mut version = version("1.0");
        version.manifest.placement.constraints =
            constraints.iter().map(|text| text.parse().unwrap()).collect();
        version.manifest.placement.tolerations =
            tolerations.iter().map(|text| text.parse().unwrap()).collect();
        version
    }

    fn placed_on(version: &VersionSpec, count: u32, mut nodes: Vec<NodeView>) -> (Vec<String>, Vec<String>) {
        let placed = place(version, count, &mut nodes, &mut BTreeMap::new());
        (placed.nodes.iter().map(ToString::to_string).collect(), placed.refusals)
    }

    #[test]
    fn constraints_and_taints_leave_nodes_out_and_say_why() {
        let mut dedicated = labelled("dedicated", &["disk=ssd"]);
        dedicated.taints = vec!["team=ml:NoSchedule".parse().unwrap()].into();
        let nodes = || vec![labelled("bare", &[]), labelled("slow", &["disk=hdd"]), dedicated.clone()];
        let (found, refusals) = placed_on(&asking(&["disk=ssd|nvme"], &[]), 1, nodes());
        assert!(found.is_empty());
        assert_eq!(
            refusals,
            [
                "node bare has no label disk, and disk=ssd|nvme is asked",
                "node slow has disk=hdd, and disk=ssd|nvme is asked",
                "node dedicated has the taint team=ml:NoSchedule, which is not tolerated",
            ]
        );
        assert_eq!(placed_on(&asking(&["disk=ssd|nvme"], &["team=ml"]), 1, nodes()).0, ["dedicated"]);
        assert_eq!(placed_on(&asking(&["!disk"], &[]), 1, nodes()).0, ["bare"]);
    }

    #[test]
    fn only_untolerated_taints_that_say_so_evict() {
        let mut node = node("a");
        node.taints = vec!["slow:NoSchedule".parse().unwrap(), "spot:NoExecute".parse().unwrap()].into();
        let evicted = node.evicts(&asking(&[], &["slow"]).manifest);
        assert_eq!(evicted.as_deref(), Some("node a has the taint spot:NoExecute, which is not tolerated"));
        assert_eq!(node.evicts(&asking(&[], &["spot"]).manifest), None);
    }

    #[test]
    fn spreads_over_a_label_before_it_spreads_over_nodes() {
        let mut wanted = version("1.0");
        wanted.manifest.placement.spread = Some("rack".parse().unwrap());
        let nodes = || {
            let mut large = labelled("a2", &["rack=a"]);
            large.capacity.memory = ByteSize::mib(1 << 20);
            vec![labelled("a1", &["rack=a"]), large, labelled("b1", &["rack=b"]), labelled("c1", &["rack=c"])]
        };
        let (found, _) = placed_on(&wanted, 6, nodes());
        assert_eq!(found, ["a2", "b1", "c1", "a1", "b1", "c1"]);
    }

    #[test]
    fn packing_fills_a_node_before_it_takes_another() {
        let mut wanted = version("1.0");
        wanted.manifest.placement.strategy = Strategy::Pack;
        let nodes = || {
            let mut nodes = vec![node("a"), node("b"), node("c")];
            for node in &mut nodes {
                node.capacity.memory = ByteSize::mib(3 * 128);
            }
            promise(&mut nodes[1], &version("0.9").manifest);
            nodes
        };
        let (found, refusals) = placed_on(&wanted, 9, nodes());
        assert_eq!(found, ["b", "b", "a", "a", "a", "c", "c", "c"]);
        assert_eq!(refusals.len(), 3);
    }

    #[test]
    fn disk_is_promised_like_memory() {
        let mut wanted = version("1.0");
        wanted.manifest.disk = ByteSize::mib(1024);
        let mut node = node("a");
        node.capacity.disk = ByteSize::mib(1536);
        let (found, refusals) = placed_on(&wanted, 2, vec![node]);
        assert_eq!(found, ["a"]);
        assert_eq!(refusals, ["node a has 512Mi of disk free of 1536Mi, and 1Gi is needed"]);
    }

    proptest! {
        #[test]
        fn never_promises_more_than_there_is(count in 0u32..60, memories in proptest::collection::vec(0u64..2000, 0..5)) {
            let mut nodes: Vec<NodeView> = memories
                .iter()
                .enumerate()
                .map(|(index, memory)| {
                    let mut view = node(&format!("n{index}"));
                    view.capacity.memory = ByteSize::mib(*memory);
                    view
                })
                .collect();
            let placed = place(&version("1.0"), count, &mut nodes, &mut BTreeMap::new());
            for node in &nodes {
                prop_assert!(node.promised.memory <= node.capacity.memory);
                prop_assert!(node.promised.cpu <= node.capacity.cpu);
            }
            let all = placed.nodes.len() == usize::try_from(count).unwrap();
            prop_assert_eq!(all, placed.refusals.is_empty());
        }
    }
}
