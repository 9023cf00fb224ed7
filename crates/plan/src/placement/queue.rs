//! The nodes that can take an instance, best first. What makes one better than another is here; why one cannot take any is
//! [`super::refusal`]'s to say.

use super::{NodeView, free, refusal, room_per_mille};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};
use tutti_model::{
    name::NodeName,
    quantity::{Bandwidth, ByteSize},
    scheduling::{LabelValue, Strategy},
    version::VersionSpec,
};

/// What a node is chosen by among those of its group: the least is the best. The last tells equals apart, so that the same
/// snapshot always gives the same plan.
type Key = (u32, bool, Reverse<(ByteSize, Bandwidth)>, usize);

/// The nodes that share a value of the label that a service spreads over; all of them where it names none.
#[derive(Debug, Default)]
struct Group {
    /// Instances of the service that run there.
    here: u32,
    /// The nodes that can take one more, with their index.
    nodes: BinaryHeap<Reverse<(Key, usize)>>,
}

/// A node that was chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Which.
    pub(super) index: usize,
    group: usize,
    rank: usize,
}

/// The nodes that can take an instance of one version.
#[derive(Debug)]
pub(super) struct Queue {
    groups: Vec<Group>,
    /// How many there are.
    pub(super) len: usize,
}

impl Queue {
    pub(super) fn new(version: &VersionSpec, nodes: &[NodeView], spread: &BTreeMap<NodeName, u32>) -> Queue {
        let ranks = ranks(nodes);
        let is_shared_out = version.manifest.placement.spread.is_some();
        let mut groups: Vec<Vec<Reverse<(Key, usize)>>> = Vec::new();
        let mut here: Vec<u32> = Vec::new();
        let mut known: BTreeMap<Option<LabelValue>, usize> = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let on_node = spread.get(&node.node).copied().unwrap_or(0);
            let label = if is_shared_out { node.label(&version.manifest) } else { None };
            // Without a label there is one group, and no need to look for it.
            let group = if is_shared_out || groups.is_empty() {
                *known.entry(label).or_insert_with(|| {
                    groups.push(Vec::new());
                    here.push(0);
                    groups.len() - 1
                })
            } else {
                0
            };
            if let Some(here) = here.get_mut(group) {
                *here += on_node;
            }
            if refusal(version, node).is_none()
                && let Some(group) = groups.get_mut(group)
            {
                let rank = ranks.as_ref().and_then(|ranks| ranks.get(index)).copied().unwrap_or(index);
                group.push(Reverse((key(version, node, on_node, rank), index)));
            }
        }
        let len = groups.iter().map(Vec::len).sum();
        let groups = groups.into_iter().zip(here);
        Queue { groups: groups.map(|(nodes, here)| Group { here, nodes: nodes.into() }).collect(), len }
    }

    /// Takes the best out: of the group with the fewest of the service, and of equal ones the best node of all.
    pub(super) fn take(&mut self) -> Option<Place> {
        let best = |group: &Group| group.nodes.peek().map(|Reverse((key, _))| (group.here, *key));
        let found = self.groups.iter().enumerate().filter_map(|(index, group)| Some((best(group)?, index)));
        let (_, at) = found.min()?;
        let group = self.groups.get_mut(at)?;
        let Reverse(((.., rank), index)) = group.nodes.pop()?;
        self.len -= 1;
        Some(Place { index, group: at, rank })
    }

    /// Puts a node back that was given one more and now has `here` of the service, if it can take yet another.
    pub(super) fn put_back(&mut self, version: &VersionSpec, place: Place, node: &NodeView, here: u32) {
        let Some(group) = self.groups.get_mut(place.group) else { return };
        group.here += 1;
        if refusal(version, node).is_none() {
            group.nodes.push(Reverse((key(version, node, here, place.rank), place.index)));
            self.len += 1;
        }
    }
}

/// The place of each node in the order of their names; `None` if that is the order they are in.
fn ranks(nodes: &[NodeView]) -> Option<Vec<usize>> {
    if nodes.is_sorted_by(|one, next| one.node <= next.node) {
        return None;
    }
    let mut order: Vec<(usize, &NodeName)> = nodes.iter().map(|node| &node.node).enumerate().collect();
    order.sort_by_key(|(_, name)| *name);
    let mut ranks = vec![0; nodes.len()];
    for (rank, (index, _)) in order.into_iter().enumerate() {
        if let Some(place) = ranks.get_mut(index) {
            *place = rank;
        }
    }
    Some(ranks)
}

/// Instances of a service spread over nodes, or fill one after the other; then one that holds the version ready wins, then
/// the one with the most free memory, then the most free bandwidth, then the name.
fn key(version: &VersionSpec, node: &NodeView, here: u32, rank: usize) -> Key {
    let first = match version.manifest.placement.strategy {
        Strategy::Spread => here,
        Strategy::Pack => room_per_mille(node),
    };
    let cold = !node.holds.contains(&version.artifact);
    let free = free(node);
    (first, cold, Reverse((free.memory, free.bandwidth)), rank)
}

#[cfg(test)]
mod tests;
