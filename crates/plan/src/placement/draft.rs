//! The nodes as a plan leaves them, while it is being made.

use super::{NodeView, Nodes};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};
use tutti_model::name::NodeName;

/// A zone's nodes with what a plan has promised, released, added and left out so far. The nodes themselves stay as they
/// are; only those that the plan touches are copied.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    pub(super) nodes: &'a Nodes,
    /// The nodes that are other than they were; `None` for one that is left out.
    changed: BTreeMap<NodeName, Option<Arc<NodeView>>>,
}

impl<'a> Draft<'a> {
    /// A plan in which nothing is decided yet.
    #[must_use]
    pub const fn new(nodes: &'a Nodes) -> Draft<'a> {
        Draft { nodes, changed: BTreeMap::new() }
    }

    /// A node as it is in this plan.
    #[must_use]
    pub fn get(&self, node: &NodeName) -> Option<&NodeView> {
        self.shared(node).map(AsRef::as_ref)
    }

    /// A node, to change it.
    pub fn get_mut(&mut self, node: &NodeName) -> Option<&mut NodeView> {
        let changed = match self.changed.entry(node.clone()) {
            Entry::Occupied(changed) => changed.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(Some(self.nodes.shared(node)?.clone())),
        };
        changed.as_mut().map(Arc::make_mut)
    }

    /// Adds a node, or makes one of this name such as this.
    pub fn insert(&mut self, view: NodeView) {
        self.changed.insert(view.node.clone(), Some(Arc::new(view)));
    }

    /// Leaves a node out.
    pub fn remove(&mut self, node: &NodeName) {
        self.changed.insert(node.clone(), None);
    }

    /// Every node, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &NodeView> {
        let names: BTreeSet<&NodeName> = self.nodes.names().chain(self.changed.keys()).collect();
        names.into_iter().filter_map(|name| self.get(name))
    }

    pub(super) fn shared(&self, node: &NodeName) -> Option<&Arc<NodeView>> {
        match self.changed.get(node) {
            Some(changed) => changed.as_ref(),
            None => self.nodes.shared(node),
        }
    }

    /// The names of nodes that are other than they were.
    pub(super) fn changed(&self) -> impl Iterator<Item = &NodeName> {
        self.changed.keys()
    }
}
