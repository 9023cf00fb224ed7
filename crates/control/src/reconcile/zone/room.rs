//! The room there is in a zone: its nodes with what is promised on them, and what other services can spare.

use super::Zone;
use crate::reconcile::index::Index;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tutti_model::{
    Resource, Timestamp,
    instance::{Goal, InstanceSpec},
    manifest::Manifest,
    name::NodeName,
    node::{Held, NodeSpec, Resources},
};
use tutti_plan::{
    placement::{NodeView, Nodes, promise, promise_to},
    room::{Spare, spare},
};

/// The nodes with what is promised on each, kept from look to look.
#[derive(Debug, Default)]
pub(super) struct KnownRoom {
    /// The nodes, as they were when they were last entered.
    pub(super) nodes: Nodes,
    /// Nodes of which something has changed since.
    changed: BTreeSet<NodeName>,
    /// Instances by node.
    by_node: Index,
    /// New instances by node, with the revision that made them, that have not come back by watch: another service must
    /// not be promised the same room.
    promised: BTreeMap<NodeName, Vec<(u64, Manifest)>>,
}

impl KnownRoom {
    /// Something of a node has changed.
    pub(super) fn changed(&mut self, node: &NodeName) {
        self.changed.insert(node.clone());
    }

    /// An instance has come, changed, or gone.
    pub(super) fn instance(&mut self, instance: &Resource<InstanceSpec>, is_there: bool) {
        self.by_node.set(&instance.name, is_there.then_some(instance.spec.node.as_str()));
        self.changed(&instance.spec.node);
    }

    /// A new instance was written for a node.
    pub(super) fn promise(&mut self, revision: u64, node: NodeName, manifest: Manifest) {
        self.nodes.promise(&node, &manifest);
        self.promised.entry(node).or_default().push((revision, manifest));
    }

    /// What was written is read again.
    pub(super) fn forget_promised(&mut self) {
        self.changed.extend(std::mem::take(&mut self.promised).into_keys());
    }

    /// The nodes that have changed, now that instances are known up to this revision.
    fn take_changed(&mut self, told: u64) -> BTreeSet<NodeName> {
        let changed = &mut self.changed;
        self.promised.retain(|node, promised| {
            let before = promised.len();
            promised.retain(|(revision, _)| *revision > told);
            if promised.len() < before {
                changed.insert(node.clone());
            }
            !promised.is_empty()
        });
        std::mem::take(changed)
    }
}

impl Zone {
    /// Every instance whose room can be had.
    pub(super) fn spares(&self, now: Timestamp) -> Vec<Spare<'_>> {
        let spares = self.instances.iter().filter_map(|instance| {
            let assignment = self.assignments.get(&instance.spec.version.service.to_string())?;
            spare(now, instance, &assignment.spec)
        });
        spares.collect()
    }

    /// Enters anew the nodes of which something has changed since it was last done: what is promised there, or what they
    /// are. So a look reads what has changed, and not every node and instance of the zone.
    pub(super) fn enter_changed(&mut self) {
        let told = self.instances.revision();
        for node in self.room.take_changed(told) {
            let Some(known) = self.nodes.get(node.as_str()) else {
                self.room.nodes.remove(&node);
                continue;
            };
            let mut view = self.node_view(known);
            let there = self.room.by_node.of(node.as_str()).filter_map(|name| self.instances.get(name));
            for instance in there.filter(|instance| instance.spec.goal != Goal::Stop) {
                promise_to(&mut view, instance);
            }
            for (_, manifest) in self.room.promised.get(&node).into_iter().flatten() {
                promise(&mut view, manifest);
            }
            self.room.nodes.set(view);
        }
    }

    fn node_view(&self, node: &Resource<NodeSpec>) -> NodeView {
        let usable = node.status.isolates.iter().filter(|isolate| isolate.usable);
        NodeView {
            node: node.spec.node.clone(),
            heard: !self.silent.contains(&node.spec.node),
            ready: node.status.ready,
            cordoned: node.spec.cordoned,
            draining: node.spec.draining,
            capacity: node.status.capacity,
            promised: Resources::default(),
            isolates: usable.map(|isolate| isolate.isolate).collect(),
            ports: Vec::new(),
            labels: Arc::new(node.labels()),
            taints: node.spec.taints.clone().into(),
            holds: node.status.held.iter().filter_map(Held::ready).cloned().collect(),
        }
    }
}
