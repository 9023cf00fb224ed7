//! The room there is in a zone: its nodes with what is promised on them, and what other services can spare.

use super::Zone;
use std::{collections::BTreeMap, sync::Arc};
use tutti_model::{
    Resource, Timestamp,
    instance::Goal,
    name::NodeName,
    node::{Held, NodeSpec, Resources},
};
use tutti_plan::{
    placement::{NodeView, promise, promise_to},
    room::{Spare, spare},
};

impl Zone {
    /// Every instance whose room can be had.
    pub(super) fn spares(&self, now: Timestamp) -> Vec<Spare<'_>> {
        let spares = self.instances.iter().filter_map(|instance| {
            let assignment = self.assignments.get(&instance.spec.version.service.to_string())?;
            spare(now, instance, &assignment.spec)
        });
        spares.collect()
    }

    /// Every node with what is promised there. Counted once a pass, and kept up as the pass makes new promises.
    pub(super) fn node_views(&mut self) -> Vec<NodeView> {
        let views = match self.views.take() {
            Some(views) => views,
            None => self.count_promises(),
        };
        let nodes = views.values().cloned().collect();
        self.views = Some(views);
        nodes
    }

    fn count_promises(&mut self) -> BTreeMap<NodeName, NodeView> {
        let mut views: BTreeMap<NodeName, NodeView> =
            self.nodes.iter().map(|node| (node.spec.node.clone(), self.node_view(node))).collect();
        for instance in self.instances.iter().filter(|instance| instance.spec.goal != Goal::Stop) {
            if let Some(view) = views.get_mut(&instance.spec.node) {
                promise_to(view, instance);
            }
        }
        let told = self.instances.revision();
        self.promised.retain(|(revision, ..)| *revision > told);
        for (_, node, manifest) in &self.promised {
            if let Some(view) = views.get_mut(node) {
                promise(view, manifest);
            }
        }
        views
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
