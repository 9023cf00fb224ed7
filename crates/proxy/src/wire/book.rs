//! Where nodes are reached.

use arc_swap::ArcSwap;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tutti_model::{name::NodeName, node::RoleAddress};

/// The addresses of nodes in other processes. Reading takes no lock; it is replaced as a whole when a node comes, moves
/// or goes, which is rare.
#[derive(Debug, Default)]
pub struct NodeBook(ArcSwap<HashMap<NodeName, Arc<RoleAddress>>>);

impl NodeBook {
    /// What is known now replaces all that was.
    pub fn replace(&self, nodes: BTreeMap<NodeName, RoleAddress>) {
        self.0.store(Arc::new(nodes.into_iter().map(|(node, address)| (node, Arc::new(address))).collect()));
    }

    /// One node is there now, or is not reached over the wire any more (`None`). Gives whether that is news.
    pub fn set(&self, node: &NodeName, address: Option<RoleAddress>) -> bool {
        let before = self.0.load_full();
        if before.get(node).map(AsRef::as_ref) == address.as_ref() {
            return false;
        }
        let mut after = HashMap::clone(&before);
        match address {
            Some(address) => after.insert(node.clone(), Arc::new(address)),
            None => after.remove(node),
        };
        self.0.store(Arc::new(after));
        true
    }

    /// Every node there is.
    #[must_use]
    pub fn all(&self) -> BTreeMap<NodeName, RoleAddress> {
        self.0.load().iter().map(|(node, address)| (node.clone(), RoleAddress::clone(address))).collect()
    }

    /// Where a node is reached.
    #[must_use]
    pub fn get(&self, node: &NodeName) -> Option<Arc<RoleAddress>> {
        self.0.load().get(node).cloned()
    }
}
