//! The nodes that can take an instance, best first. What makes one better than another is here; why one cannot take any is
//! [`super::refusal`]'s to say.
//!
//! Most nodes have nothing to do with a service. They lie in order already ([`Nodes`](super::Nodes)), and are read only as
//! far as they are taken. Those apart from them are looked at one by one: where the service runs, where its version is held
//! ready, what the plan has touched, and what the version's constraints name.

use super::{
    Draft, NodeView, compared, lacks,
    ranking::{Key, Walk},
    refusal, room_per_mille,
};
use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};
use tutti_model::{
    name::NodeName,
    scheduling::{LabelKey, LabelValue, Strategy},
    version::VersionSpec,
};

/// A node that can take one more.
#[derive(Debug)]
struct Candidate {
    key: Key,
    node: Arc<NodeView>,
    /// The walk that it was found on, which goes on once it is taken.
    walk: Option<usize>,
}

impl Candidate {
    fn rank(&self) -> (&Key, &NodeName) {
        (&self.key, &self.node.node)
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// The nodes that share a value of the label that a service spreads over; all of them where it names none.
#[derive(Debug, Default)]
struct Group {
    /// Instances of the service that run there.
    here: u32,
    /// Its candidates but the best, as far as they have been looked at.
    nodes: BinaryHeap<Reverse<Candidate>>,
}

/// A node that was chosen.
#[derive(Debug)]
pub(super) struct Place {
    /// Which.
    pub(super) node: NodeName,
    group: usize,
}

/// The nodes that can take an instance of one version.
#[derive(Debug)]
pub(super) struct Queue<'a> {
    version: &'a VersionSpec,
    groups: Vec<Group>,
    /// The best candidate of each group that has any, with what runs in the group, and which group it is.
    best: BinaryHeap<Reverse<(u32, Candidate, usize)>>,
    /// Through the nodes of each kind that could run the version, with the group that they are of.
    walks: Vec<(Walk<'a>, usize)>,
    /// Nodes that the walks pass over.
    apart: BTreeSet<&'a NodeName>,
    /// How many there are.
    pub(super) len: usize,
}

impl<'a> Queue<'a> {
    pub(super) fn new(
        version: &'a VersionSpec,
        draft: &Draft<'a>,
        spread: &BTreeMap<NodeName, u32>,
    ) -> Queue<'a> {
        let mut queue = Queue {
            version,
            groups: Vec::new(),
            best: BinaryHeap::new(),
            walks: Vec::new(),
            apart: BTreeSet::new(),
            len: 0,
        };
        let mut groups = Groups { over: version.manifest.placement.spread.as_ref(), known: BTreeMap::new() };
        let running = spread.iter().filter(|(_, here)| **here > 0).map(|(node, _)| node);
        let mut alone: BTreeSet<&NodeName> = running.chain(draft.changed()).collect();
        alone.extend(draft.nodes.holders(&version.artifact));
        alone.extend(draft.nodes.named(version));
        if groups.over.is_some_and(|key| draft.nodes.is_loose(key)) {
            // Hardly two nodes are of one group.
            alone.extend(draft.nodes.names());
        } else {
            queue.walk(draft, &mut groups, &alone);
        }
        for node in alone.into_iter().filter_map(|node| draft.shared(node)) {
            let here = spread.get(&node.node).copied().unwrap_or(0);
            let group = groups.of(&mut queue.groups, groups.over.and_then(|key| node.labels.get(key)));
            if let Some(group) = queue.groups.get_mut(group) {
                group.here += here;
            }
            queue.add(node, here, group);
        }
        for walk in 0..queue.walks.len() {
            queue.step(walk);
        }
        for group in 0..queue.groups.len() {
            queue.put_best(group);
        }
        queue
    }

    /// Begins a walk through the nodes of each kind that could run the version, past those that are looked at alone.
    fn walk(&mut self, draft: &Draft<'a>, groups: &mut Groups<'_>, alone: &BTreeSet<&NodeName>) {
        let manifest = &self.version.manifest;
        let mut walked = BTreeSet::new();
        for (number, kind) in draft.nodes.kinds().filter(|(_, kind)| kind.could_run(self.version)) {
            let group = groups.of(&mut self.groups, groups.over.and_then(|key| kind.label(key)));
            let ranking = kind.ranking(manifest.placement.strategy);
            self.len += ranking.count(manifest);
            self.walks.push((ranking.walk(), group));
            walked.insert(number);
        }
        for (node, kind) in alone.iter().filter_map(|node| draft.nodes.kept(node)) {
            let is_counted = kind.is_some_and(|kind| walked.contains(&kind));
            if is_counted && draft.nodes.get(node).is_some_and(|node| lacks(manifest, node).is_none()) {
                self.len -= 1;
            }
            self.apart.insert(node);
        }
    }

    /// Adds a node to its group, if it can take an instance.
    fn add(&mut self, node: &Arc<NodeView>, here: u32, group: usize) {
        if refusal(self.version, node).is_some() {
            return;
        }
        let holds = node.holds.contains(&self.version.artifact);
        let key = key(self.version.manifest.placement.strategy, node, here, holds);
        if let Some(group) = self.groups.get_mut(group) {
            group.nodes.push(Reverse(Candidate { key, node: node.clone(), walk: None }));
            self.len += 1;
        }
    }

    /// Goes on to the next node on a walk.
    fn step(&mut self, at: usize) {
        let Some((walk, group)) = self.walks.get_mut(at) else { return };
        while let Some(entry) = walk.next(&self.version.manifest) {
            if !self.apart.contains(&entry.node.node) {
                if let Some(group) = self.groups.get_mut(*group) {
                    let (key, node) = (entry.key, entry.node.clone());
                    group.nodes.push(Reverse(Candidate { key, node, walk: Some(at) }));
                }
                return;
            }
        }
    }

    /// Puts the best of a group among the best.
    fn put_best(&mut self, at: usize) {
        if let Some(group) = self.groups.get_mut(at)
            && let Some(Reverse(best)) = group.nodes.pop()
        {
            self.best.push(Reverse((group.here, best, at)));
        }
    }

    /// Takes the best out: of the group with the fewest of the service, and of equal ones the best node of all. Whether it
    /// can take another one is to be [said](Self::put_back) before the next is taken.
    pub(super) fn take(&mut self) -> Option<Place> {
        let Reverse((_, candidate, group)) = self.best.pop()?;
        self.len -= 1;
        if let Some(walk) = candidate.walk {
            self.step(walk);
        }
        Some(Place { node: candidate.node.node.clone(), group })
    }

    /// Puts a node back that was given one more and now has `here` of the service, if it can take yet another.
    pub(super) fn put_back(&mut self, place: &Place, node: &Arc<NodeView>, here: u32) {
        if let Some(group) = self.groups.get_mut(place.group) {
            group.here += 1;
        }
        self.add(node, here, place.group);
        self.put_best(place.group);
    }
}

/// The groups by the label that is spread over.
struct Groups<'a> {
    over: Option<&'a LabelKey>,
    known: BTreeMap<Option<LabelValue>, usize>,
}

impl Groups<'_> {
    /// The group of a value; of none, if the label is not there or none is spread over.
    fn of(&mut self, groups: &mut Vec<Group>, value: Option<&LabelValue>) -> usize {
        // Without a label there is one group, and no need to look for it.
        if self.over.is_none() && !groups.is_empty() {
            return 0;
        }
        *self.known.entry(value.cloned()).or_insert_with(|| {
            groups.push(Group::default());
            groups.len() - 1
        })
    }
}

/// Instances of a service spread over nodes, or fill one after the other; then one that holds the version ready wins, then
/// one that is not busy, then the one with the most free memory, then the most free bandwidth, then the name.
pub(super) fn key(strategy: Strategy, node: &NodeView, here: u32, holds: bool) -> Key {
    let first = match strategy {
        Strategy::Spread => here,
        Strategy::Pack => room_per_mille(node),
    };
    let free = compared(node);
    (first, !holds, node.beside.is_busy, Reverse((free.memory, free.bandwidth)))
}

#[cfg(test)]
mod tests;
