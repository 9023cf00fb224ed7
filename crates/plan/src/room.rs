//! Finds room for new instances where none is left: which standing-by instances go before their time.
//!
//! A standing-by instance might be wanted again; a new one is wanted now. So the room of one that stands by counts as
//! room, in this order:
//!
//! 1. what is on its way out already is waited for, and nothing else goes for an instance that fits then;
//! 2. the service that needs the room gives up its own before those of others: while it is being deployed its rollback
//!    is protected, so what is left of it is the least likely to be wanted again, and nobody should lose the quick way
//!    back for another's deploy as long as that other has something to give;
//! 3. as few as will do, and those that have stood by longest.
//!
//! What a deployment that runs would take back at its rollback stays, whoever needs the room. How an instance leaves is
//! left to the plan of its own service: it drains as if its time were over, acknowledged like any other.

use crate::placement::{Draft, NodeView, place, promise, refusal, release};
use std::collections::{BTreeMap, BTreeSet};
use tutti_model::{
    Resource, ServiceRef, Share, Timestamp,
    assignment::AssignmentSpec,
    instance::{Goal, InstanceSpec, InstanceState},
    name::NodeName,
    version::VersionSpec,
};

/// An instance whose room can be had.
#[derive(Debug, Clone, Copy)]
pub struct Spare<'a> {
    /// The instance.
    pub instance: &'a Resource<InstanceSpec>,
    /// Whether it is on its way out already, so that its room comes by itself.
    pub leaving: bool,
}

/// Where a new instance can go once there is room.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// The node.
    pub node: NodeName,
    /// What leaves there by itself.
    pub leaving: Vec<&'a Resource<InstanceSpec>>,
    /// What has to go for it.
    pub going: Vec<&'a Resource<InstanceSpec>>,
}

/// An instance as a spare, if its room can be had. `assignment` is its own service's.
#[must_use]
pub fn spare<'a>(
    now: Timestamp,
    instance: &'a Resource<InstanceSpec>,
    assignment: &AssignmentSpec,
) -> Option<Spare<'a>> {
    let failed = instance.status.state == InstanceState::Failed;
    match instance.spec.goal {
        // It holds no room.
        _ if instance.status.state == InstanceState::Asleep => None,
        Goal::Drain => Some(Spare { instance, leaving: true }),
        Goal::Standby { until } if failed || until <= now => Some(Spare { instance, leaving: true }),
        Goal::Standby { .. } if is_held(instance, assignment) => None,
        Goal::Standby { .. } => Some(Spare { instance, leaving: false }),
        // What is to stop holds no room any more.
        Goal::Serve | Goal::Stop => None,
    }
}

/// Whether the deployment that runs may want it: it is of what is deployed, or of what a rollback returns to.
fn is_held(instance: &Resource<InstanceSpec>, assignment: &AssignmentSpec) -> bool {
    let version = &instance.spec.version.version;
    let shares = [assignment.from.share(version), assignment.split.share(version)];
    assignment.deployment.is_some() && shares.iter().any(|share| *share > Share::ZERO)
}

/// The room there will be, as far as it has been given away.
#[derive(Debug)]
pub struct Room<'a> {
    /// The service that needs it.
    service: &'a ServiceRef,
    /// The nodes, as if all that leaves had left.
    nodes: Draft<'a>,
    spread: BTreeMap<NodeName, u32>,
    leaving: BTreeMap<&'a NodeName, Vec<&'a Resource<InstanceSpec>>>,
    /// What can go on each node, in the order in which it is to go.
    standing_by: BTreeMap<&'a NodeName, Vec<&'a Resource<InstanceSpec>>>,
}

impl<'a> Room<'a> {
    /// The room on these nodes for a service, where nothing fits as they are.
    #[must_use]
    pub fn new(
        service: &'a ServiceRef,
        mut nodes: Draft<'a>,
        spread: BTreeMap<NodeName, u32>,
        spares: impl IntoIterator<Item = Spare<'a>>,
    ) -> Self {
        let mut leaving: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut standing_by: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for spare in spares {
            let node = &spare.instance.spec.node;
            let of_node = if spare.leaving { &mut leaving } else { &mut standing_by };
            of_node.entry(node).or_default().push(spare.instance);
            if spare.leaving
                && let Some(view) = nodes.get_mut(node)
            {
                release(view, &spare.instance.spec.manifest);
            }
        }
        for instances in standing_by.values_mut() {
            instances.sort_by_key(|instance| {
                (instance.spec.version.service != *service, age(instance), &instance.name)
            });
        }
        Room { service, nodes, spread, leaving, standing_by }
    }

    /// Finds room for one more instance of a version, with at most so many going for it, and gives it away.
    pub fn find(&mut self, version: &VersionSpec, most: usize) -> Option<Found<'a>> {
        if let Some(node) = place(version, 1, &mut self.nodes, &mut self.spread).nodes.pop() {
            let leaving = self.leaving.get(&node).cloned().unwrap_or_default();
            return Some(Found { node, leaving, going: Vec::new() });
        }
        let with_spares = self.standing_by.keys().filter_map(|node| self.nodes.get(node));
        let ways = with_spares.filter_map(|node| {
            let going = self.going(version, node).filter(|going| going.len() <= most)?;
            Some((node.node.clone(), going))
        });
        let (name, going) = ways.min_by_key(|(node, going)| {
            let others = going.iter().filter(|instance| instance.spec.version.service != *self.service);
            let youngest = going.iter().map(|instance| age(instance)).max();
            let here = self.spread.get(node).copied().unwrap_or(0);
            (others.count(), going.len(), youngest, here, node.clone())
        })?;
        let node = self.nodes.get_mut(&name)?;
        for instance in &going {
            release(node, &instance.spec.manifest);
        }
        promise(node, &version.manifest);
        let gone: BTreeSet<&String> = going.iter().map(|instance| &instance.name).collect();
        if let Some(left) = self.standing_by.get_mut(&name) {
            left.retain(|instance| !gone.contains(&instance.name));
        }
        *self.spread.entry(name.clone()).or_default() += 1;
        let leaving = self.leaving.get(&name).cloned().unwrap_or_default();
        Some(Found { node: name, leaving, going })
    }

    /// What has to go so that an instance of this version fits on this node; none if that cannot help.
    fn going(&self, version: &VersionSpec, node: &NodeView) -> Option<Vec<&'a Resource<InstanceSpec>>> {
        let mut view = node.clone();
        let mut going: Vec<&'a Resource<InstanceSpec>> = Vec::new();
        for instance in self.standing_by.get(&node.node)? {
            if refusal(version, &view).is_none() {
                break;
            }
            release(&mut view, &instance.spec.manifest);
            going.push(instance);
        }
        if refusal(version, &view).is_some() {
            return None;
        }
        // One that went early may not be needed beside a larger one that went after it. The last to go stay first.
        for instance in going.clone().into_iter().rev() {
            promise(&mut view, &instance.spec.manifest);
            if refusal(version, &view).is_none() {
                going.retain(|other| other.name != instance.name);
            } else {
                release(&mut view, &instance.spec.manifest);
            }
        }
        Some(going)
    }
}

/// Since when an instance stands by that is to do so until then.
pub(crate) fn stands_by_since(until: Timestamp, instance: &Resource<InstanceSpec>) -> Timestamp {
    Timestamp(until.0.saturating_sub(instance.spec.manifest.standby.0))
}

/// Tells which of those that stand by have done so longest: the lower, the longer.
fn age(instance: &Resource<InstanceSpec>) -> Timestamp {
    match instance.spec.goal {
        Goal::Standby { until } => stands_by_since(until, instance),
        Goal::Serve | Goal::Drain | Goal::Stop => Timestamp(0),
    }
}

#[cfg(test)]
mod tests;
