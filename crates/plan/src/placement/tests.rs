//! Which node is chosen, and why the others are not.

use super::*;
use crate::zone::fixtures::{node, place_on, version};
use proptest::{prop_assert, prop_assert_eq, proptest};
use std::sync::Arc;
use tutti_model::scheduling::Strategy;

#[test]
fn spreads_before_it_shares() {
    let mut nodes = vec![node("a"), node("b"), node("c")];
    let placed = place_on(&version("1.0"), 5, &mut nodes, &mut BTreeMap::new());
    let names: Vec<&str> = placed.nodes.iter().map(NodeName::as_str).collect();
    assert_eq!(names, ["a", "b", "c", "a", "b"]);
}

#[test]
fn prefers_a_node_that_holds_the_version_ready_but_spreads_first() {
    let mut nodes = vec![node("a"), node("b"), node("c")];
    let version = version("1.0");
    nodes[2].holds.push(version.artifact.clone());
    let placed = place_on(&version, 4, &mut nodes, &mut BTreeMap::new());
    let names: Vec<&str> = placed.nodes.iter().map(NodeName::as_str).collect();
    assert_eq!(names, ["c", "a", "b", "c"]);
}

#[test]
fn bandwidth_is_asked_for_and_told() {
    let mut wanted = version("1.0");
    wanted.manifest.bandwidth = Bandwidth::mbit(10);
    let (mut narrow, mut wide, unknown) = (node("narrow"), node("wide"), node("unknown"));
    (narrow.capacity.bandwidth, wide.capacity.bandwidth) = (Bandwidth::mbit(5), Bandwidth::mbit(25));
    let placed = place_on(&wanted, 3, &mut [narrow, wide, unknown], &mut BTreeMap::new());
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
            "node unknown does not know its bandwidth, and 10Mbit is needed: it is told with --bandwidth",
            "node wide has 5Mbit of bandwidth free of 25Mbit, and 10Mbit is needed",
        ]
    );
    // Who asks for none is placed anywhere, and prefers the wider of two alike.
    let (mut a, mut b) = (node("a"), node("b"));
    (a.capacity.bandwidth, b.capacity.bandwidth) = (Bandwidth::mbit(100), Bandwidth::mbit(1000));
    assert_eq!(place_on(&version("1.0"), 1, &mut [a, b], &mut BTreeMap::new()).nodes[0].as_str(), "b");
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
    let placed = place_on(&wanted, 1, &mut [small, cordoned, down, port], &mut BTreeMap::new());
    assert_eq!(
        placed.refusals,
        [
            "node down is not ready",
            "node held is cordoned",
            "port 9000 is taken on node port by an instance that insists on it",
            "node small has 64Mi of memory free of 64Mi, and 128Mi is needed",
        ]
    );
}

fn labelled(name: &str, labels: &[&str]) -> NodeView {
    let labels = labels.iter().map(|text| tutti_model::scheduling::label(text).unwrap()).collect();
    NodeView { labels: Arc::new(labels), ..node(name) }
}

fn asking(constraints: &[&str], tolerations: &[&str]) -> VersionSpec {
    let mut version = version("1.0");
    version.manifest.placement.constraints = constraints.iter().map(|text| text.parse().unwrap()).collect();
    version.manifest.placement.tolerations = tolerations.iter().map(|text| text.parse().unwrap()).collect();
    version
}

fn placed_on(version: &VersionSpec, count: u32, mut nodes: Vec<NodeView>) -> (Vec<String>, Vec<String>) {
    let placed = place_on(version, count, &mut nodes, &mut BTreeMap::new());
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
            "node dedicated has the taint team=ml:NoSchedule, which is not tolerated",
            "node slow has disk=hdd, and disk=ssd|nvme is asked",
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
        let placed = place_on(&version("1.0"), count, &mut nodes, &mut BTreeMap::new());
        for node in &nodes {
            prop_assert!(node.promised.memory <= node.capacity.memory);
            prop_assert!(node.promised.cpu <= node.capacity.cpu);
        }
        let all = placed.nodes.len() == usize::try_from(count).unwrap();
        prop_assert_eq!(all, placed.refusals.is_empty());
    }
}
