//! The queue gives what looking at every node for each instance would, whatever happens between two plans.

use super::*;
use crate::{
    placement::{Nodes, place, promise, why},
    zone::fixtures::{node, version},
};
use proptest::prelude::{Strategy as Drawing, any, prop, prop_assert_eq, prop_oneof, proptest};
use tutti_model::{
    Digest,
    quantity::{Bandwidth, ByteSize, MilliCpu},
    scheduling::{Strategy, label},
    version::Isolate,
};

/// Looks at every node for each instance: which, and why.
fn slowly(
    version: &VersionSpec,
    count: u32,
    nodes: &mut [NodeView],
    spread: &mut BTreeMap<NodeName, u32>,
) -> Vec<(NodeName, String)> {
    let mut found = Vec::new();
    for _ in 0..count {
        let mut groups: BTreeMap<Option<&LabelValue>, u32> = BTreeMap::new();
        for node in nodes.iter() {
            let here = spread.get(&node.node).copied().unwrap_or(0);
            *groups.entry(node.label(&version.manifest)).or_default() += here;
        }
        let candidates: Vec<usize> =
            (0..nodes.len()).filter(|at| refusal(version, &nodes[*at]).is_none()).collect();
        let best = candidates.iter().min_by_key(|at| {
            let node = &nodes[**at];
            let here = spread.get(&node.node).copied().unwrap_or(0);
            let holds = node.holds.contains(&version.artifact);
            let key = key(version.manifest.placement.strategy, node, here, holds);
            (groups[&node.label(&version.manifest)], key, &node.node)
        });
        let Some(best) = best else { break };
        let node = &mut nodes[*best];
        let here = spread.entry(node.node.clone()).or_default();
        found.push((node.node.clone(), why(version, node, *here, candidates.len())));
        promise(node, &version.manifest);
        *here += 1;
    }
    found
}

/// A node: its room, its rack if it has one, what it runs of the service, and what is special about it.
#[derive(Debug, Clone)]
struct Drawn {
    number: u8,
    memory: u64,
    cpu: u32,
    rack: u8,
    here: u32,
    holds: bool,
    special: u8,
}

fn any_node() -> impl Drawing<Value = Drawn> {
    (0u8..12, 0u64..8, 0u32..8, 0u8..4, 0u32..3, any::<bool>(), 0u8..16).prop_map(
        |(number, memory, cpu, rack, here, holds, special)| Drawn {
            number,
            memory,
            cpu,
            rack,
            here,
            holds,
            special,
        },
    )
}

fn drawn(drawn: &Drawn, artifact: &Digest) -> NodeView {
    let name = format!("n{}", drawn.number);
    let mut view = node(&name);
    view.capacity.memory = ByteSize::mib(128 * drawn.memory + 64);
    view.capacity.cpu = MilliCpu(drawn.cpu * 250);
    view.capacity.bandwidth = Bandwidth::mbit(u64::from(drawn.special / 8));
    let rack = (drawn.rack > 0).then(|| format!("rack=r{}", drawn.rack));
    // Most have their names as a label, as all in a real zone have. One has another's.
    let own = match drawn.special {
        0 => None,
        1 => Some("node=n3".to_owned()),
        _ => Some(format!("node={name}")),
    };
    view.labels = Arc::new(rack.iter().chain(&own).map(|text| label(text).unwrap()).collect());
    view.holds.extend(drawn.holds.then(|| artifact.clone()));
    match drawn.special {
        2 => view.cordoned = true,
        3 => view.heard = false,
        4 => view.isolates = vec![Isolate::Process],
        5 | 6 => view.taints = vec!["spot:NoSchedule".parse().unwrap()].into(),
        7 | 8 => view.ports.push(9000),
        9 | 10 => view.beside.is_busy = true,
        11 => (view.beside.memory, view.beside.quarters) = (ByteSize::mib(96), drawn.rack),
        _ => {}
    }
    view
}

/// What is asked for: how many, packed or not, spread over what, and with which demands.
fn any_wanted() -> impl Drawing<Value = (u32, VersionSpec)> {
    let spreads = prop::option::of(prop::sample::select(vec!["rack", "node", "floor"]));
    let constraints = prop::sample::subsequence(
        vec!["rack=r1|r2", "rack!=r3", "!rack", "node=n1|n2|n5", "node!=n2|n3", "node", "!node"],
        0..2,
    );
    (0u32..24, any::<bool>(), spreads, constraints, 0u8..16, 0u64..3).prop_map(
        |(count, packs, over, constraints, flags, memory)| {
            let mut wanted = version("1.0");
            let manifest = &mut wanted.manifest;
            let placement = &mut manifest.placement;
            placement.strategy = if packs { Strategy::Pack } else { Strategy::Spread };
            placement.spread = over.map(|key| key.parse().unwrap());
            placement.constraints = constraints.iter().map(|text| text.parse().unwrap()).collect();
            if flags & 1 > 0 {
                placement.tolerations = vec!["spot".parse().unwrap()];
            }
            manifest.port = (flags & 2 > 0).then_some(9000);
            if flags & 4 > 0 {
                manifest.cpu = MilliCpu(500);
            }
            manifest.memory = ByteSize::mib(64 << memory);
            (count, wanted)
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Set(Drawn),
    Remove(u8),
    Plan(u32, Box<VersionSpec>),
}

fn any_step() -> impl Drawing<Value = Step> {
    prop_oneof![
        3 => any_node().prop_map(Step::Set),
        1 => (0u8..12).prop_map(Step::Remove),
        4 => any_wanted().prop_map(|(count, wanted)| Step::Plan(count, Box::new(wanted))),
    ]
}

proptest! {
    #[test]
    fn the_same_nodes_in_the_same_order_as_by_looking_at_all(
        first in proptest::collection::vec(any_node(), 0..12),
        kinds in prop::sample::select(vec![1usize, 3, 1000]),
        steps in proptest::collection::vec(any_step(), 1..14),
    ) {
        let artifact = version("1.0").artifact;
        let (mut nodes, mut views, mut spread) = (Nodes::with_kinds(kinds), BTreeMap::new(), BTreeMap::new());
        for step in first.into_iter().map(Step::Set).chain(steps) {
            match step {
                Step::Set(node) => {
                    let view = drawn(&node, &artifact);
                    spread.insert(view.node.clone(), node.here);
                    views.insert(view.node.clone(), view.clone());
                    nodes.set(view);
                }
                Step::Remove(number) => {
                    let name: NodeName = format!("n{number}").parse().unwrap();
                    views.remove(&name);
                    nodes.remove(&name);
                }
                Step::Plan(count, wanted) => {
                    let mut all: Vec<NodeView> = views.values().cloned().collect();
                    let mut expected_spread = spread.clone();
                    let mut expected = slowly(&wanted, count / 2, &mut all, &mut expected_spread);
                    expected.extend(slowly(&wanted, count - count / 2, &mut all, &mut expected_spread));
                    // Twice in one plan, so that the second sees what the first has promised.
                    let mut draft = Draft::new(&nodes);
                    let mut placed = place(&wanted, count / 2, &mut draft, &mut spread);
                    let more = place(&wanted, count - count / 2, &mut draft, &mut spread);
                    placed.nodes.extend(more.nodes);
                    placed.why.extend(more.why);
                    let found: Vec<_> = placed.nodes.into_iter().zip(placed.why).collect();
                    prop_assert_eq!(&found, &expected);
                    prop_assert_eq!(&spread, &expected_spread);
                    prop_assert_eq!(more.refusals.is_empty(), found.len() == usize::try_from(count).unwrap());
                    prop_assert_eq!(draft.iter().cloned().collect::<Vec<_>>(), all);
                    // A plan by itself changes nothing.
                    prop_assert_eq!(nodes.iter().cloned().collect::<Vec<_>>(), views.values().cloned().collect::<Vec<_>>());
                    for (node, _) in found {
                        promise(views.get_mut(&node).unwrap(), &wanted.manifest);
                        nodes.promise(&node, &wanted.manifest);
                    }
                }
            }
        }
    }
}
