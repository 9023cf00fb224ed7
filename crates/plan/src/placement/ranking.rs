//! Nodes in the order in which a strategy takes them, with the means to pass over at once those that lack room.
//!
//! They lie in blocks of a few dozen. A block knows the most and the least that its nodes have free of each thing: where
//! none has enough it is passed over whole, and where all have it is counted whole. Otherwise each of its nodes is read;
//! for one plan none more than twice.

use super::{NodeView, free, has_room};
use std::{cmp::Reverse, slice, sync::Arc};
use tutti_model::{
    manifest::Manifest,
    node::Resources,
    quantity::{Bandwidth, ByteSize},
};

/// Most nodes in a block. Blocks are as many as a thousand nodes have of them, so that either is read in no time.
const BLOCK: usize = 64;

/// What a node is chosen by: the least is the best. The name tells equals apart, so that the same nodes always give the
/// same plan.
pub(super) type Key = (u32, bool, bool, Reverse<(ByteSize, Bandwidth)>);

/// A node in its place.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) node: Arc<NodeView>,
    free: Resources,
}

impl Entry {
    pub(super) fn new(key: Key, node: Arc<NodeView>) -> Entry {
        let free = free(&node);
        Entry { key, node, free }
    }

    fn is_before(&self, other: &Entry) -> bool {
        (self.key, &self.node.node) < (other.key, &other.node.node)
    }

    fn takes(&self, manifest: &Manifest) -> bool {
        has_room(&self.free, manifest) && manifest.port.is_none_or(|port| !self.node.ports.contains(&port))
    }
}

/// Some nodes in a row.
#[derive(Debug, Clone)]
struct Block {
    entries: Vec<Entry>,
    /// The most that any of them has free of each thing, and the least.
    most: Resources,
    least: Resources,
    /// Whether a port is taken on any of them.
    ports: bool,
}

impl Block {
    fn of(entries: Vec<Entry>) -> Block {
        let mut block =
            Block { entries, most: Resources::default(), least: Resources::default(), ports: false };
        block.measure();
        block
    }

    fn measure(&mut self) {
        let mut all = self.entries.iter().map(|entry| entry.free);
        let first = all.next().unwrap_or_default();
        (self.most, self.least) = all.fold((first, first), |(most, least), free| {
            (by_each(most, free, Pick { larger: true }), by_each(least, free, Pick { larger: false }))
        });
        self.ports = self.entries.iter().any(|entry| !entry.node.ports.is_empty());
    }

    fn count(&self, manifest: &Manifest) -> usize {
        if !has_room(&self.most, manifest) {
            return 0;
        }
        if has_room(&self.least, manifest) && (manifest.port.is_none() || !self.ports) {
            return self.entries.len();
        }
        self.entries.iter().filter(|entry| entry.takes(manifest)).count()
    }
}

/// Which of two amounts is taken.
#[derive(Clone, Copy)]
struct Pick {
    larger: bool,
}

impl Pick {
    fn of<T: Ord>(self, one: T, other: T) -> T {
        if self.larger { one.max(other) } else { one.min(other) }
    }
}

fn by_each(one: Resources, other: Resources, pick: Pick) -> Resources {
    Resources {
        cpu: pick.of(one.cpu, other.cpu),
        memory: pick.of(one.memory, other.memory),
        bandwidth: pick.of(one.bandwidth, other.bandwidth),
        disk: pick.of(one.disk, other.disk),
    }
}

/// Nodes in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranking {
    blocks: Vec<Block>,
}

impl Ranking {
    pub(super) const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The block that the entry is in, or would be.
    fn block_of(&self, entry: &Entry) -> usize {
        let is_behind = |block: &Block| block.entries.last().is_some_and(|last| last.is_before(entry));
        self.blocks.partition_point(is_behind).min(self.blocks.len().saturating_sub(1))
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let at = self.block_of(&entry);
        let Some(block) = self.blocks.get_mut(at) else {
            self.blocks.push(Block::of(vec![entry]));
            return;
        };
        let place = block.entries.partition_point(|known| known.is_before(&entry));
        block.entries.insert(place, entry);
        if block.entries.len() > BLOCK {
            let behind = Block::of(block.entries.split_off(BLOCK / 2));
            block.measure();
            self.blocks.insert(at + 1, behind);
        } else {
            block.measure();
        }
    }

    /// Takes out the entry that was put in with this key and name.
    pub(super) fn remove(&mut self, entry: &Entry) {
        let at = self.block_of(entry);
        let Some(block) = self.blocks.get_mut(at) else { return };
        let place = block.entries.partition_point(|known| known.is_before(entry));
        if block.entries.get(place).is_none_or(|found| entry.is_before(found)) {
            return;
        }
        block.entries.remove(place);
        if block.entries.is_empty() {
            self.blocks.remove(at);
            return;
        }
        block.measure();
        // What is left of many must not become many small blocks.
        self.join_with_next(at);
        if let Some(before) = at.checked_sub(1) {
            self.join_with_next(before);
        }
    }

    /// Makes one block of two that are small.
    fn join_with_next(&mut self, at: usize) {
        let (one, next) = (self.blocks.get(at), self.blocks.get(at + 1));
        let together = one.zip(next).map(|(one, next)| one.entries.len() + next.entries.len());
        if together.is_none_or(|together| together > BLOCK / 2) {
            return;
        }
        let next = self.blocks.remove(at + 1);
        if let Some(block) = self.blocks.get_mut(at) {
            block.entries.extend(next.entries);
            block.measure();
        }
    }

    /// How many have room for an instance of this manifest.
    pub(super) fn count(&self, manifest: &Manifest) -> usize {
        self.blocks.iter().map(|block| block.count(manifest)).sum()
    }

    /// All of them, the best first.
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk { blocks: self.blocks.iter(), entries: [].iter() }
    }
}

/// A way through a ranking.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    blocks: slice::Iter<'a, Block>,
    entries: slice::Iter<'a, Entry>,
}

impl<'a> Walk<'a> {
    /// The next that has room for an instance of this manifest.
    pub(super) fn next(&mut self, manifest: &Manifest) -> Option<&'a Entry> {
        loop {
            let found = self.entries.find(|entry| entry.takes(manifest));
            if found.is_some() {
                return found;
            }
            let block = self.blocks.find(|block| has_room(&block.most, manifest))?;
            self.entries = block.entries.iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::fixtures::node;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::collections::BTreeMap;
    use tutti_model::quantity::MilliCpu;

    fn entry(name: u16, memory: u64, cpu: u32, port: bool) -> Entry {
        let mut view = node(&format!("n{name}"));
        (view.capacity.memory, view.capacity.cpu) = (ByteSize::mib(memory), MilliCpu(cpu));
        view.ports.extend(port.then_some(9000));
        let key = (0, true, false, Reverse((view.capacity.memory, Bandwidth(0))));
        Entry::new(key, Arc::new(view))
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_it_is_in_order_and_finds_and_counts_what_fits(
            changes in proptest::collection::vec((0u16..250, 0u64..40, 0u32..40, any::<bool>()), 0..500),
            asked in (0u64..40, 0u32..40, any::<bool>()),
        ) {
            let (mut ranking, mut known) = (Ranking::default(), BTreeMap::new());
            for (name, memory, cpu, port) in changes {
                if let Some(before) = known.remove(&name) {
                    ranking.remove(&before);
                }
                // What is not there is not taken out.
                ranking.remove(&entry(name, memory, cpu, port));
                if cpu % 4 > 0 {
                    let entry = entry(name, memory, cpu, port);
                    known.insert(name, entry.clone());
                    ranking.insert(entry);
                }
            }
            let manifest = Manifest {
                memory: ByteSize::mib(asked.0),
                cpu: MilliCpu(asked.1),
                port: asked.2.then_some(9000),
                ..Manifest::default()
            };
            let mut expected: Vec<_> = known.values().filter(|entry| entry.takes(&manifest)).collect();
            expected.sort_by_key(|entry| (entry.key, entry.node.node.clone()));
            let mut walk = ranking.walk();
            let found: Vec<_> = std::iter::from_fn(|| walk.next(&manifest)).collect();
            let names = |entries: &[&Entry]| entries.iter().map(|it| it.node.node.clone()).collect::<Vec<_>>();
            prop_assert_eq!(names(&found), names(&expected));
            prop_assert_eq!(ranking.count(&manifest), expected.len());
            prop_assert_eq!(ranking.is_empty(), known.is_empty());
            // Two neighbours are more than half a block, so there are never more than twice as many as need be.
            prop_assert!(ranking.blocks.len() <= 1 + known.len() / (BLOCK / 4));
        }
    }
}
