//! The queue gives what looking at every node for each instance would.

use super::*;
use crate::{
    placement::{place, promise},
    zone::fixtures::{node, version},
};
use proptest::prelude::{any, prop_assert_eq, proptest};
use std::sync::Arc;
use tutti_model::scheduling::label;

/// Looks at every node for each instance.
fn slowly(
    version: &VersionSpec,
    count: u32,
    nodes: &mut [NodeView],
    spread: &mut BTreeMap<NodeName, u32>,
) -> Vec<NodeName> {
    let mut found = Vec::new();
    for _ in 0..count {
        let mut groups: BTreeMap<Option<LabelValue>, u32> = BTreeMap::new();
        for node in nodes.iter() {
            let here = spread.get(&node.node).copied().unwrap_or(0);
            *groups.entry(node.label(&version.manifest)).or_default() += here;
        }
        let best = nodes.iter_mut().filter(|node| refusal(version, node).is_none()).min_by_key(|node| {
            let group = match version.manifest.placement.spread {
                Some(_) => groups[&node.label(&version.manifest)],
                None => 0,
            };
            let here = spread.get(&node.node).copied().unwrap_or(0);
            (group, key(version, node, here, 0), node.node.clone())
        });
        let Some(node) = best else { break };
        promise(node, &version.manifest);
        *spread.entry(node.node.clone()).or_default() += 1;
        found.push(node.node.clone());
    }
    found
}

proptest! {
    #[test]
    fn the_same_nodes_in_the_same_order_as_by_looking_at_all(
        rooms in proptest::collection::vec((0u64..8, 0u8..4, 0u32..3, any::<bool>()), 0..9),
        count in 0u32..24,
        packs in any::<bool>(),
        by_rack in any::<bool>(),
        turned in any::<bool>(),
    ) {
        let mut wanted = version("1.0");
        wanted.manifest.placement.strategy = if packs { Strategy::Pack } else { Strategy::Spread };
        wanted.manifest.placement.spread = by_rack.then(|| "rack".parse().unwrap());
        let mut spread = BTreeMap::new();
        let mut nodes: Vec<NodeView> = rooms.iter().enumerate().map(|(index, (room, rack, here, holds))| {
            let mut view = node(&format!("n{index}"));
            view.capacity.memory = ByteSize::mib(128 * room + 64);
            if *rack > 0 {
                view.labels = Arc::new([label(&format!("rack=r{rack}")).unwrap()].into());
            }
            if *holds {
                view.holds = vec![wanted.artifact.clone()];
            }
            spread.insert(view.node.clone(), *here);
            view
        }).collect();
        if turned {
            nodes.reverse();
        }
        let expected = slowly(&wanted, count, &mut nodes.clone(), &mut spread.clone());
        let placed = place(&wanted, count, &mut nodes, &mut spread);
        prop_assert_eq!(&placed.nodes, &expected);
        prop_assert_eq!(placed.refusals.is_empty(), placed.nodes.len() == usize::try_from(count).unwrap());
    }
}
