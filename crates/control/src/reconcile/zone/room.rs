//! The room there is in a zone: its nodes with what is promised on them, and what other services can spare.

use super::Zone;
use crate::reconcile::index::Index;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tutti_api::zone::{MEASURED_INSTANCES, NodeFigures};
use tutti_model::{
    Resource, Timestamp,
    instance::{Goal, InstanceSpec},
    manifest::Manifest,
    name::NodeName,
    node::{Held, NodeSpec, Resources},
    quantity::Bandwidth,
};
use tutti_plan::{
    placement::{Beside, Measure, NodeView, Nodes, promise, promise_to},
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
    /// What each node last measured, while that counts.
    measures: BTreeMap<NodeName, Measure>,
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

    /// Takes what a node measured.
    fn measured(&mut self, node: NodeName, measure: Measure) {
        self.changed(&node);
        self.measures.insert(node, measure);
    }

    /// Forgets what was measured too long ago.
    fn forget_measures(&mut self, now: Timestamp) {
        let changed = &mut self.changed;
        self.measures.retain(|node, measure| {
            let counts = measure.is_fresh(now);
            if !counts {
                changed.insert(node.clone());
            }
            counts
        });
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

    /// Takes what agents measured since the last look: where less is in use than before, there may be room for what
    /// waits for some.
    pub(super) fn look_at_measures(&mut self) {
        let now = self.objects.clock().now();
        self.room.forget_measures(now);
        for (node, at) in self.observed.measured_at() {
            let known = self.room.measures.get(&node).map(|measure| measure.at);
            if known != Some(at)
                && let Some((at, figures)) = self.observed.measured(&node)
            {
                let measure = measure(at, figures);
                if measure.is_fresh(now) {
                    self.room.measured(node, measure);
                }
            }
        }
        if self.enter_changed() {
            self.wake_waiting();
        }
    }

    /// Enters anew the nodes of which something has changed since it was last done: what is promised or in use there, or
    /// what they are. So a look reads what has changed, and not every node and instance of the zone. Says whether less is
    /// in use somewhere beside what was promised.
    pub(super) fn enter_changed(&mut self) -> bool {
        let told = self.instances.revision();
        let mut is_less = false;
        for node in self.room.take_changed(told) {
            let Some(known) = self.nodes.get(node.as_str()) else {
                self.room.nodes.remove(&node);
                continue;
            };
            let mut view = self.node_view(known);
            let there: Vec<&Resource<InstanceSpec>> =
                self.room.by_node.of(node.as_str()).filter_map(|name| self.instances.get(name)).collect();
            for instance in there.iter().filter(|instance| instance.spec.goal != Goal::Stop) {
                promise_to(&mut view, instance);
            }
            for (_, manifest) in self.room.promised.get(&node).into_iter().flatten() {
                promise(&mut view, manifest);
            }
            let was = self.room.nodes.get(&node).map(|view| view.beside).unwrap_or_default();
            if let Some(measure) = self.room.measures.get(&node) {
                view.beside = measure.beside(&view.capacity, was, there);
            }
            is_less |= view.beside.memory < was.memory || view.beside.disk < was.disk;
            // Most of what agents measure is what they measured before.
            if self.room.nodes.get(&node) != Some(&view) {
                self.room.nodes.set(view);
            }
        }
        is_less
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
            beside: Beside::default(),
            isolates: usable.map(|isolate| isolate.isolate).collect(),
            ports: Vec::new(),
            labels: Arc::new(node.labels()),
            taints: node.spec.taints.clone().into(),
            holds: node.status.held.iter().filter_map(Held::ready).cloned().collect(),
        }
    }
}

/// What an agent measured, as placement goes by it.
fn measure(at: Timestamp, figures: NodeFigures) -> Measure {
    let traffic = Bandwidth(figures.received.max(figures.sent).saturating_mul(8));
    Measure {
        at,
        used: Resources { cpu: figures.cpu, memory: figures.memory, bandwidth: traffic, disk: figures.disk },
        is_whole: figures.instances.len() < MEASURED_INSTANCES,
        instances: figures.instances.into_iter().map(|of| (of.instance, of.memory)).collect(),
    }
}
