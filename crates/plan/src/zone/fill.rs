//! Gets every version its workers: standing-by instances are taken back, new ones are placed, and where no node has room
//! for one, what stands by makes some.

use super::{BATCH, NewInstance, Pass, REPLACE_AFTER, earlier, is_standing_by};
use crate::{
    placement::{Draft, place},
    room::{Room, Spare},
};
use std::collections::{BTreeMap, BTreeSet};
use tutti_model::{
    Share, VersionName,
    instance::{Goal, InstanceState},
    name::NodeName,
};

impl<'a> Pass<'a> {
    /// Takes back standing-by instances, then places new ones, until every version has its workers.
    pub(super) fn fill(&mut self) {
        let names: Vec<VersionName> = self.versions.keys().cloned().collect();
        let mut missing = Vec::new();
        for name in names {
            self.take_back(&name);
            let count = self.missing(&name);
            if count > 0 {
                missing.push((name, count));
            }
        }
        if missing.is_empty() {
            return;
        }
        let mut nodes = Draft::new(self.view.nodes);
        let mut spread: BTreeMap<NodeName, u32> = BTreeMap::new();
        for instance in self.view.instances.iter().filter(|instance| instance.spec.goal.runs()) {
            *spread.entry(instance.spec.node.clone()).or_default() += 1;
        }
        let mut refusals = Vec::new();
        for (name, count) in missing {
            if !self.await_others(&name, &nodes, &spread) {
                refusals.extend(self.place_new(&name, count, &mut nodes, &mut spread));
            }
        }
        self.make_room(nodes, spread);
        self.reasons.extend(refusals);
    }

    fn take_back(&mut self, name: &VersionName) {
        let staying = self.staying(name);
        let Some(version) = self.versions.get_mut(name) else { return };
        let mut standing_by: Vec<_> = self
            .view
            .instances
            .iter()
            .filter(|instance| instance.spec.version.version == *name && is_standing_by(instance))
            .filter(|instance| self.view.nodes.is_heard(&instance.spec.node))
            .filter(|instance| !self.leaving.contains(&instance.spec.instance))
            .copied()
            .collect();
        // Ready ones first: they serve at once.
        standing_by.sort_by_key(|instance| (instance.status.state != InstanceState::Ready, &instance.name));
        let missing = usize::try_from(version.need.workers).unwrap_or(usize::MAX).saturating_sub(staying);
        for instance in standing_by.into_iter().take(missing) {
            self.goals.insert(instance.spec.instance.clone(), Goal::Serve);
            version.serving.push(instance);
        }
    }

    /// How many instances of a version serve, or are to, that need not go elsewhere.
    fn staying(&self, name: &VersionName) -> usize {
        let serving = self.versions.get(name).map(|version| version.serving.as_slice()).unwrap_or_default();
        serving.iter().filter(|instance| !self.is_leaving(instance)).count()
    }

    /// How many new instances a version needs now.
    fn missing(&mut self, name: &VersionName) -> u32 {
        let Some(version) = self.versions.get(name) else { return 0 };
        let have = u32::try_from(self.staying(name)).unwrap_or(u32::MAX);
        let missing = version.need.workers.saturating_sub(have);
        if let Some(last) = version.failed.iter().map(|instance| instance.status.since).max() {
            // A version that is only being rolled out is not tried again: its deployment fails, and says why. One that
            // served before is, after a pause.
            let rolled_out = self.serving.share(name) == Share::ZERO && self.is_on_trial(name);
            if rolled_out {
                return 0;
            }
            let again = last.plus(REPLACE_AFTER);
            if self.view.now < again {
                self.wake = earlier(self.wake, again);
                return 0;
            }
        }
        missing
    }

    /// Whether the deployment that runs fails if this version does: its share is to be at least what it was before. A
    /// version that only gives to the others is replaced as if nothing were deployed.
    pub(super) fn is_on_trial(&self, name: &VersionName) -> bool {
        let assignment = self.view.assignment;
        let share = assignment.split.share(name);
        assignment.deployment.is_some() && share > Share::ZERO && share >= assignment.from.share(name)
    }

    /// Places new instances of a version; gives why each node was refused that could not take one more.
    fn place_new(
        &mut self,
        name: &VersionName,
        missing: u32,
        nodes: &mut Draft<'_>,
        spread: &mut BTreeMap<NodeName, u32>,
    ) -> Vec<String> {
        let Some(version) = self.versions.get_mut(name) else { return Vec::new() };
        let room = BATCH.saturating_sub(self.create.len());
        let placed = place(&version.spec, missing.min(u32::try_from(room).unwrap_or(0)), nodes, spread);
        if !placed.refusals.is_empty() {
            version.unplaced = missing.saturating_sub(u32::try_from(placed.nodes.len()).unwrap_or(u32::MAX));
            self.reasons
                .push(format!("{} of {missing} new instances of {name} found no node", version.unplaced));
        }
        self.create.extend(placed.nodes.into_iter().zip(placed.why).map(|(node, placed)| NewInstance {
            version: version.spec.clone().into_owned(),
            node,
            placed,
        }));
        placed.refusals
    }

    /// Lets standing-by instances go for those that found no node. They keep what they hold until they have drained, so
    /// the new ones are placed by a later plan; this one says what they wait for. One that fits is worth it even if
    /// others do not: it serves, and what stands by only might.
    fn make_room(&mut self, nodes: Draft<'a>, spread: BTreeMap<NodeName, u32>) {
        let view = self.view;
        let taken_back = |spare: &&Spare<'a>| self.goal(spare.instance) == Goal::Serve;
        let spares = view.spares.iter().filter(|spare| !taken_back(spare)).copied();
        let mut room = Room::new(&view.assignment.service, nodes, spread, spares);
        let unplaced = self.versions.iter().flat_map(|(name, version)| {
            let times = usize::try_from(version.unplaced).unwrap_or(usize::MAX);
            std::iter::repeat_n((name, &version.spec), times)
        });
        let mut going = Vec::new();
        let mut reasons = BTreeSet::new();
        let mut homeless: Vec<VersionName> = Vec::new();
        for (name, version) in unplaced.take(BATCH) {
            let Some(found) = room.find(version, BATCH.saturating_sub(going.len())) else {
                homeless.push(name.clone());
                continue;
            };
            let waits = found.leaving.iter().map(|instance| (instance, "is leaving"));
            let makes =
                found.going.iter().map(|instance| (instance, "stands by and goes early to make room"));
            reasons.extend(waits.chain(makes).map(|(instance, what)| {
                let (name, of, node) = (&instance.name, &instance.spec.version, &instance.spec.node);
                format!("instance {name} of {of} on node {node} {what}")
            }));
            going.extend(found.going);
        }
        for name in homeless {
            if let Some(version) = self.versions.get_mut(&name) {
                version.homeless += 1;
            }
        }
        self.reasons.extend(reasons);
        for instance in going {
            let id = instance.spec.instance.clone();
            if instance.spec.version.service == view.assignment.service {
                self.goals.insert(id, Goal::Standby { until: view.now });
            } else {
                self.make_room.push(id);
            }
        }
    }
}
