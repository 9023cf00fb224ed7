//! The weights that a table is to hold, and the endpoints that carry them, as one decision.

use super::{BATCH, Pass};
use std::collections::BTreeSet;
use tutti_model::{
    InstanceId, Split, VersionName,
    table::{Backend, Endpoint, TableSpec, VersionBackend},
};

/// What was decided about the table.
#[derive(Debug)]
pub(super) struct Weights {
    /// The table that there is to be; `None` for a removed service.
    pub(super) table: Option<TableSpec>,
    /// Whether it holds the weights that were handed down.
    pub(super) arrived: bool,
    /// Endpoints that the table has and did not have before.
    pub(super) added: Vec<InstanceId>,
    /// Every endpoint it has.
    pub(super) endpoints: BTreeSet<InstanceId>,
}

/// Decides the table: the weights handed down, once every version in them has its workers ready; else those of now;
/// and whatever they are, without the versions that have no ready instance, whose shares go to the others.
pub(super) fn decide(pass: &Pass<'_>) -> Weights {
    let assignment = pass.view.assignment;
    let without_endpoints =
        |table| Weights { table, arrived: true, added: Vec::new(), endpoints: BTreeSet::new() };
    let table = |backend| TableSpec {
        service: assignment.service.clone(),
        matches: assignment.matches.clone(),
        backend,
    };
    if assignment.removed {
        // A table that is gone cannot be acknowledged, so an empty one stands until the last instance has drained.
        let reason = format!("{} is being removed", assignment.service);
        let is_left = !pass.view.instances.is_empty();
        return without_endpoints(is_left.then(|| table(Backend::None { reason })));
    }
    if !assignment.upstreams.is_empty() {
        return without_endpoints(Some(table(Backend::Upstreams(assignment.upstreams.clone()))));
    }
    let known = known_endpoints(pass);
    let can_serve =
        |name: &VersionName| pass.versions.get(name).is_some_and(|version| !pass.ready(version).is_empty());
    let covered = |name: &VersionName| {
        pass.versions.get(name).is_some_and(|version| {
            pass.ready(version).len() >= usize::try_from(version.need.workers).unwrap_or(usize::MAX)
        })
    };
    // A share rises only with the capacity for it. Where nothing serves, whatever is ready is better than nothing.
    let rises = assignment.split.iter().filter(|(name, share)| *share > pass.serving.share(name));
    let may_shift = !assignment.hold && rises.map(|(name, _)| name).all(covered);
    let wanted = if may_shift || pass.serving.is_empty() { &assignment.split } else { &pass.serving };
    let split =
        if assignment.hold && pass.serving.is_empty() { Split::empty() } else { wanted.only(can_serve) };
    let arrived = split == assignment.split;

    let mut added = Vec::new();
    let mut backends = Vec::new();
    for (name, weight) in split.iter() {
        let Some(version) = pass.versions.get(name) else { continue };
        let mut endpoints = Vec::new();
        for instance in pass.ready(version) {
            let id = &instance.spec.instance;
            if !known.contains(id) {
                // Each version gets at least one, or it would have a weight and nobody to carry it.
                if added.len() >= BATCH && !endpoints.is_empty() {
                    continue;
                }
                added.push(id.clone());
            }
            endpoints.push(Endpoint { instance: id.clone(), node: instance.spec.node.clone() });
        }
        endpoints.sort();
        let manifest = &version.spec.manifest;
        backends.push(VersionBackend {
            version: name.clone(),
            weight,
            concurrency: manifest.concurrency,
            timeout: manifest.timeout,
            endpoints,
        });
    }
    let endpoints = backends
        .iter()
        .flat_map(|backend| &backend.endpoints)
        .map(|endpoint| endpoint.instance.clone())
        .collect();
    let backend = if backends.is_empty() {
        Backend::None { reason: why_nothing(pass) }
    } else {
        Backend::Versions(backends)
    };
    Weights { table: Some(table(backend)), arrived, added, endpoints }
}

fn known_endpoints(pass: &Pass<'_>) -> BTreeSet<InstanceId> {
    let backends = pass.view.table.map(|table| table.spec.versions()).unwrap_or_default();
    backends.iter().flat_map(|backend| &backend.endpoints).map(|endpoint| endpoint.instance.clone()).collect()
}

/// Why no version serves, for a caller.
fn why_nothing(pass: &Pass<'_>) -> String {
    let service = &pass.view.assignment.service;
    if pass.view.assignment.split.is_empty() {
        return format!(
            "no version of {service} is deployed: deploy one with tutti deploy {service}@VERSION 100%"
        );
    }
    format!("no instance of {service} is ready")
}
