//! Where versions are held ready though nothing runs them: found once a pass, told to the nodes after all that somebody
//! waits for.

use super::Zone;
use std::collections::{BTreeMap, BTreeSet};
use tutti_model::{
    Problem, Resource, assignment::AssignmentSpec, name::NodeName, report::PreparedReport,
    version::VersionSpec,
};
use tutti_plan::{
    placement::Placed,
    prepare::{preparation, prepare},
};

/// Most versions that a node holds ready without running them: enough for what is pushed in a busy hour, bounded so
/// that a node's disk is not the registry.
const PRELOADED: usize = 16;

/// A version that is to be held ready, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Preparing {
    pub(super) version: VersionSpec,
    pub(super) placed: Placed,
}

impl Zone {
    /// Finds where pushed, not yet deployed versions are to be held ready, and gives the services for which that is
    /// news.
    pub(super) fn plan_preload(&mut self) -> Vec<String> {
        self.enter_changed();
        let mut next: BTreeMap<String, Preparing> = BTreeMap::new();
        for assignment in self.assignments.iter().filter(|assignment| !assignment.spec.removed) {
            let Some(version) = &assignment.spec.preload else { continue };
            let running: BTreeSet<NodeName> =
                self.instances_of(&assignment.name).map(|instance| instance.spec.node.clone()).collect();
            let before = self.preparing.get(&assignment.name).filter(|it| it.version == *version);
            let before = before.map(|preparing| preparing.placed.nodes.as_slice()).unwrap_or_default();
            let placed = prepare(version, &running, before, &self.room.nodes);
            next.insert(assignment.name.clone(), Preparing { version: version.clone(), placed });
        }
        let before = std::mem::replace(&mut self.preparing, next);
        let is_news = |(service, preparing): (&String, &Preparing)| {
            (before.get(service) != Some(preparing)).then(|| service.clone())
        };
        self.preparing.iter().filter_map(is_news).collect()
    }

    /// How far the nodes are with the version that a service has held ready.
    pub(super) fn prepared(&self, assignment: &Resource<AssignmentSpec>) -> Option<PreparedReport> {
        let version = assignment.spec.preload.as_ref()?;
        let preparing =
            self.preparing.get(&assignment.name).filter(|preparing| preparing.version == *version)?;
        let held = |node: &NodeName| self.nodes.get(node.as_str()).map(|node| node.status.held.as_slice());
        Some(PreparedReport {
            version: version.version.version.clone(),
            preparation: preparation(&version.artifact, &preparing.placed, held),
        })
    }

    /// Tells each node which versions to hold ready, the newest first: of more than it may hold, those are left out for
    /// which somebody waits the least.
    pub(super) async fn write_preload(&mut self) -> Result<(), Problem> {
        let mut wanted: BTreeMap<NodeName, Vec<VersionSpec>> = BTreeMap::new();
        let mut newest: Vec<(&String, &Preparing)> = self.preparing.iter().collect();
        newest.sort_by_key(|(service, _)| {
            std::cmp::Reverse(self.assignments.get(service).map(|assignment| assignment.revision))
        });
        for (_, preparing) in newest {
            for node in &preparing.placed.nodes {
                wanted.entry(node.clone()).or_default().push(preparing.version.clone());
            }
        }
        for node in self.nodes.iter() {
            let mut preload = node.spec.asked.clone();
            let planned = wanted.remove(&node.spec.node).unwrap_or_default();
            preload.extend(planned.into_iter().filter(|version| !node.spec.asked.contains(version)));
            preload.truncate(PRELOADED);
            if preload != node.spec.preload {
                let mut changed = node.clone();
                changed.spec.preload = preload;
                changed.generation += 1;
                // Refused, it is planned again when the change that refused it arrives.
                let refused = self.objects.write().update(&changed).commit().await?.is_none();
                self.preload_refused |= refused;
            }
        }
        Ok(())
    }
}
