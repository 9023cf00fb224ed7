//! Nodes whose agents are not heard: noticed here, and marked as silent with all that runs there, so that nobody takes an
//! agent's last word for how things are. What becomes of their instances is the plan's to decide.

use super::Zone;
use crate::{Objects, observed::NODE_SILENCE};
use std::collections::BTreeSet;
use tutti_model::{
    Condition, Problem, Resource, Timestamp, event::EventSpec, instance::InstanceSpec, name::NodeName,
    node::HEARD, node::NodeSpec, resource::Object,
};
use tutti_plan::happened;

/// Most objects marked in one look: a lost rack must not keep the loop from placing anew what ran there. What is left
/// is marked at the next look.
const MARKS: usize = 64;

impl Zone {
    /// A node that falls silent, or is heard again, matters to all that may run there.
    pub(super) fn check_silence(&mut self) {
        let is_new = self.objects.clock().now().since(self.began) <= NODE_SILENCE;
        let silent: BTreeSet<NodeName> = self
            .nodes
            .iter()
            .filter(|node| self.presences.get(&node.name).is_none())
            // Whoever was called silent before stays so until it is heard.
            .filter(|node| !is_new || node.silent_since().is_some())
            .map(|node| node.spec.node.clone())
            .collect();
        if silent != self.silent {
            tracing::info!(?silent, "nodes that are not heard have changed");
            silent.symmetric_difference(&self.silent).for_each(|node| self.room.changed(node));
            self.silent = silent;
            self.preload_due = true;
            self.wake_all();
        }
    }

    /// Marks what is silent, and what is so no longer. Whatever is refused, since it has just changed, is tried at the
    /// next look.
    pub(super) async fn mark_silence(&self) -> Result<(), Problem> {
        let now = self.objects.clock().now();
        let nodes = self.nodes.iter().filter_map(|node| self.marked(now, &node.spec.node, node));
        let nodes: Vec<Resource<NodeSpec>> = nodes.take(MARKS).collect();
        let instances = self.instances.iter();
        let instances = instances.filter_map(|instance| self.marked(now, &instance.spec.node, instance));
        let instances: Vec<Resource<InstanceSpec>> = instances.take(MARKS - nodes.len()).collect();
        write(&self.objects, &nodes, |node| {
            let there = self.instances.iter().filter(|instance| instance.spec.node == node.spec.node);
            Some(happened::of_lost_node(now, node, there.count()))
        })
        .await?;
        write(&self.objects, &instances, |instance| happened::of_lost_instance(now, instance)).await
    }

    /// The object with its mark as it is to be, if it is another. A node that is neither heard nor called silent yet
    /// keeps the mark it has.
    fn marked<S: Object>(
        &self,
        now: Timestamp,
        node: &NodeName,
        object: &Resource<S>,
    ) -> Option<Resource<S>> {
        // Another control may have heard it last. It is asked only where something is to be marked: most never are.
        let heard = || self.observed.last_heartbeat(node).map_or(now, |(at, _)| at);
        let is_present = self.presences.get(node.as_str()).is_some();
        let condition = match (self.silent.contains(node), object.silent_since()) {
            (true, None) => Condition {
                r#type: HEARD.to_owned(),
                met: false,
                reason: format!("the agent of node {node} is silent"),
                since: heard(),
            },
            (false, Some(_)) if is_present => Condition {
                r#type: HEARD.to_owned(),
                met: true,
                reason: format!("the agent of node {node} is heard again"),
                since: heard(),
            },
            _ => return None,
        };
        let mut changed = object.clone();
        changed.set_condition(condition);
        Some(changed)
    }
}

async fn write<S: Object>(
    objects: &Objects,
    changed: &[Resource<S>],
    event: impl Fn(&Resource<S>) -> Option<EventSpec>,
) -> Result<(), Problem> {
    for object in changed {
        objects.write().update(object).tell(event(object)).commit().await?;
    }
    Ok(())
}
