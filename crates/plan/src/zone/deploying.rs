//! What the zone says of the versions that a deployment raises: what was estimated, which nodes were found, how far
//! those are with the preload, and the table. It is read off what is, so that it is the same whoever says it, and after
//! any restart.

use super::{Pass, TablePlan, VersionPass};
use std::collections::BTreeMap;
use tutti_model::{
    VersionName,
    instance::InstanceState,
    name::NodeName,
    report::{CANDIDATES, Candidate, DeployReport},
};

/// One report for each version whose share the running deployment raises.
pub(super) fn deploying(pass: &Pass<'_>, table: &TablePlan) -> Vec<DeployReport> {
    let assignment = pass.view.assignment;
    if assignment.deployment.is_none() || assignment.removed {
        return Vec::new();
    }
    let rises = |name: &VersionName| assignment.split.share(name) > assignment.from.share(name);
    let rising = pass.versions.iter().filter(|(name, _)| rises(name));
    rising
        .map(|(name, version)| {
            let mut candidates = candidates(pass, name, version);
            let more = candidates.len().saturating_sub(CANDIDATES);
            candidates.truncate(CANDIDATES);
            DeployReport {
                version: name.clone(),
                share: assignment.split.share(name),
                whole: assignment.workers,
                workers: version.need.workers,
                candidates,
                more: u32::try_from(more).unwrap_or(u32::MAX),
                table: written(pass, table),
            }
        })
        .collect()
}

/// The revision of the table, if it holds the weights that were handed down.
fn written(pass: &Pass<'_>, table: &TablePlan) -> Option<u64> {
    let known = pass.view.table?;
    let arrived = *table == TablePlan::Keep && pass.serving == pass.view.assignment.split;
    arrived.then_some(known.revision)
}

/// The nodes of a version's instances, with those that are yet to be made.
fn candidates(pass: &Pass<'_>, name: &VersionName, version: &VersionPass<'_>) -> Vec<Candidate> {
    let mut found: BTreeMap<&NodeName, Candidate> = BTreeMap::new();
    let instances = version.serving.iter().chain(&version.failed).map(|instance| {
        let early = matches!(
            instance.status.state,
            InstanceState::Pending | InstanceState::Preloading | InstanceState::Failed
        );
        (&instance.spec.node, &instance.spec.placed, !early)
    });
    let created = pass.create.iter().filter(|new| new.version.version.version == *name);
    for (node, placed, started) in instances.chain(created.map(|new| (&new.node, &new.placed, false))) {
        let candidate = found.entry(node).or_insert_with(|| Candidate {
            node: node.clone(),
            why: placed.clone(),
            holds: holds(pass, node, version),
        });
        candidate.holds |= started;
    }
    found.into_values().collect()
}

/// Whether a node holds a version ready though nothing of it has started there.
fn holds(pass: &Pass<'_>, node: &NodeName, version: &VersionPass<'_>) -> bool {
    let view = pass.view.nodes.get(node);
    view.is_some_and(|view| view.holds.contains(&version.spec.artifact))
}
