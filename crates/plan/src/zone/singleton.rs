//! Singletons: services of which no two instances may run at once, whatever fails. A new instance is made only when every
//! other of the service has surely ended: its agent said so, or the lease has run out under which alone it may run.
//!
//! What gives leases and what ends an instance without one is not here (`control`, `agent`, and the shims).

use super::{Pass, ServiceView, earlier};
use crate::placement::{Draft, place, release};
use std::{borrow::Cow, collections::BTreeMap};
use tutti_model::{
    Millis, Resource, Timestamp, VersionName,
    instance::{Goal, InstanceSpec, InstanceState, LEASE, LEASE_MARGIN},
    manifest::Manifest,
    name::NodeName,
    version::VersionSpec,
};

/// How long it takes, from when an instance is to get no more leases, until it has surely ended.
pub(super) const ENDED_AFTER: Millis = Millis(LEASE.0 + LEASE_MARGIN.0);

/// The version that alone may run, of a service that has a singleton: the one with the largest share, of equals the
/// newest. `None` for a service that has none, or of which nothing is to run.
pub(super) fn only(
    view: &ServiceView<'_>,
    specs: &BTreeMap<VersionName, Cow<'_, VersionSpec>>,
) -> Option<VersionName> {
    let has_ended = |instance: &&&Resource<InstanceSpec>| said_to_have_ended(instance);
    let is_exclusive = specs.values().any(|spec| spec.manifest.singleton)
        || view.instances.iter().filter(|it| !has_ended(it)).any(|it| it.spec.manifest.singleton);
    let split = &view.assignment.split;
    let largest = || split.iter().max_by_key(|(name, share)| (*share, *name)).map(|(name, _)| name.clone());
    is_exclusive.then(largest).flatten()
}

/// How long a node may be silent before its instances of this manifest are given up. For a singleton that is so much
/// earlier that it runs elsewhere when `grace` is over.
pub(super) fn patience(manifest: &Manifest) -> Millis {
    let waits = if manifest.singleton { ENDED_AFTER } else { Millis(0) };
    Millis(manifest.grace.0.saturating_sub(waits.0))
}

/// Whether an agent may be given one more lease for an instance, by what the store holds of it: it is that node's, is not
/// to stop, and has not. Who decides it from anything older than the agent's question gives leases that nobody counts.
#[must_use]
pub fn is_leased(instance: &Resource<InstanceSpec>, node: &NodeName) -> bool {
    let is_over = instance.spec.goal == Goal::Stop || instance.deleted_at.is_some();
    instance.spec.node == *node && !is_over && instance.status.state != InstanceState::Stopped
}

fn said_to_have_ended(instance: &Resource<InstanceSpec>) -> bool {
    matches!(instance.status.state, InstanceState::Failed | InstanceState::Stopped)
}

impl<'a> Pass<'a> {
    /// Whether an instance may run now, or start to. One that is no singleton has no lease: with its node it is lost.
    pub(super) fn may_run(&self, instance: &Resource<InstanceSpec>) -> bool {
        if said_to_have_ended(instance) {
            return false;
        }
        let id = &instance.spec.instance;
        match instance.spec.manifest.singleton {
            true => self.ends_at(instance).is_none_or(|at| self.view.now < at),
            false => !self.lost.contains(id),
        }
    }

    /// When an instance that gets no more leases has ended at the latest.
    fn ends_at(&self, instance: &Resource<InstanceSpec>) -> Option<Timestamp> {
        let since = self.view.revoked.get(&instance.spec.instance)?;
        (instance.spec.goal == Goal::Stop).then(|| since.plus(ENDED_AFTER))
    }

    /// Whether a new instance of this version has to wait until others have ended. Those go at once if there is a node for
    /// the new one, counting their own room; else they stay, since nothing would be won.
    pub(super) fn await_others(
        &mut self,
        name: &VersionName,
        nodes: &Draft<'_>,
        spread: &BTreeMap<NodeName, u32>,
    ) -> bool {
        let Some(version) = self.versions.get(name) else { return false };
        let is_apart =
            |it: &&Resource<InstanceSpec>| version.spec.manifest.singleton || it.spec.manifest.singleton;
        let others: Vec<&'a Resource<InstanceSpec>> =
            self.view.instances.iter().copied().filter(is_apart).filter(|it| self.may_run(it)).collect();
        if others.is_empty() {
            return false;
        }
        let mut without = nodes.clone();
        // What sleeps holds no room.
        for other in others.iter().filter(|it| it.status.state != InstanceState::Asleep) {
            if let Some(node) = without.get_mut(&other.spec.node) {
                release(node, &other.spec.manifest);
            }
        }
        let placed = place(&version.spec, 1, &mut without, &mut spread.clone());
        if !placed.refusals.is_empty() {
            if let Some(version) = self.versions.get_mut(name) {
                version.unplaced = 1;
            }
            self.reasons.push(format!("a new instance of {name} would find no node"));
            self.reasons.extend(placed.refusals);
            return true;
        }
        for other in others {
            self.oust(other, name);
        }
        true
    }

    /// Has an instance go, for the only one to start: in order if its agent is heard, else by giving it no more leases.
    fn oust(&mut self, other: &Resource<InstanceSpec>, name: &VersionName) {
        let (id, now) = (&other.spec.instance, self.view.now);
        let until = self.ends_at(other);
        let at_most = until.map(|at| format!(", {} s at most", at.since(now).0.div_ceil(1000)));
        self.reasons.push(format!(
            "{name} waits until instance {id} of {} on node {} has ended{}",
            other.spec.version,
            other.spec.node,
            at_most.unwrap_or_default()
        ));
        if let Some(at) = until {
            self.wake = earlier(self.wake, at);
        }
        let goal = match other.spec.goal {
            _ if self.lost.contains(id) => Goal::Stop,
            Goal::Standby { until } if until <= now => return,
            Goal::Drain | Goal::Stop => return,
            Goal::Serve | Goal::Standby { .. } => Goal::Standby { until: now },
        };
        self.ousted.insert(id.clone());
        self.goals.insert(id.clone(), goal);
    }
}
