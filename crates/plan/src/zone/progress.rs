//! What a pass comes to: the plan, and the report with how far the zone is.

use super::{
    Pass, ServicePlan, TablePlan, VersionPass, deploying::deploying, is_standing_by, weights::Weights,
};
use tutti_model::{
    InstanceId, Resource, Share, Split, VersionName,
    deployment::Failure,
    instance::{Goal, InstanceSpec, InstanceState},
    report::{Progress, ReportSpec, VersionReport},
};

/// Most reasons in one report: a zone of many nodes must not make it too large to store.
const REASONS: usize = 24;

/// Makes the plan of a pass.
pub(super) fn conclude(mut pass: Pass<'_>, weights: Weights) -> ServicePlan {
    let progress = progress(&mut pass, &weights);
    let table = match &weights.table {
        None if pass.view.table.is_some() => TablePlan::Remove,
        None => TablePlan::Keep,
        Some(table) if pass.view.table.is_some_and(|known| known.spec == *table) => TablePlan::Keep,
        Some(table) => TablePlan::Put(table.clone()),
    };
    let forget: Vec<InstanceId> = pass
        .view
        .instances
        .iter()
        .filter(|instance| is_gone(&pass, instance) && !weights.endpoints.contains(&instance.spec.instance))
        .map(|instance| instance.spec.instance.clone())
        .collect();
    let goals: Vec<(InstanceId, Goal)> = pass
        .view
        .instances
        .iter()
        .filter(|instance| !forget.contains(&instance.spec.instance))
        .filter_map(|instance| {
            let goal = pass.goals.get(&instance.spec.instance)?;
            (*goal != instance.spec.goal).then(|| (instance.spec.instance.clone(), *goal))
        })
        .collect();
    let split = match &weights.table {
        Some(table) => {
            Split::new(table.versions().iter().map(|backend| (backend.version.clone(), backend.weight)))
                .unwrap_or_default()
        }
        None => Split::empty(),
    };
    let report = ReportSpec {
        zone: pass.view.zone.clone(),
        service: pass.view.assignment.service.clone(),
        round: pass.view.assignment.round,
        progress,
        split,
        versions: versions(&pass),
        reasons: pass.reasons.iter().take(REASONS).cloned().collect(),
        prepared: None,
        scaled: None,
        deploying: deploying(&pass, &table),
    };
    ServicePlan {
        gone: pass.view.assignment.removed && pass.view.table.is_none() && pass.view.instances.is_empty(),
        lacks_room: pass.versions.values().any(|version| version.unplaced > 0),
        homeless: pass
            .versions
            .values()
            .filter(|version| version.homeless > 0)
            .map(|version| (version.spec.clone().into_owned(), version.homeless))
            .collect(),
        create: pass.create,
        make_room: pass.make_room,
        goals,
        forget,
        table,
        relies_on: weights.added,
        report,
        wake: pass.wake,
    }
}

/// Only its agent can know that an instance is gone, and it says so by reporting it stopped. Where the node itself was
/// removed there is nobody left to say it, and only time tells that a singleton's is.
fn is_gone(pass: &Pass<'_>, instance: &Resource<InstanceSpec>) -> bool {
    if instance.spec.manifest.singleton && pass.may_run(instance) {
        return false;
    }
    if pass.view.nodes.get(&instance.spec.node).is_none() {
        return true;
    }
    let knows = !pass.goal(instance).runs() || instance.status.observed_generation >= instance.generation;
    instance.status.state == InstanceState::Stopped && knows
}

fn progress(pass: &mut Pass<'_>, weights: &Weights) -> Progress {
    let assignment = pass.view.assignment;
    if let Some(failure) = failure(pass) {
        pass.reasons.insert(0, failure.reason.clone());
        return Progress::Failed { failure };
    }
    let wanted: Vec<(&VersionName, &VersionPass<'_>)> =
        pass.versions.iter().filter(|(name, _)| assignment.split.share(name) > Share::ZERO).collect();
    if wanted.iter().any(|(_, version)| version.unplaced > 0) {
        return Progress::Placing;
    }
    let mut reasons = Vec::new();
    let mut worst: Option<Progress> = if pass.create.is_empty() { None } else { Some(Progress::Preloading) };
    for (name, version) in &wanted {
        let ready = pass.ready(version).len();
        let workers = usize::try_from(version.need.workers).unwrap_or(usize::MAX);
        if let Some(more) = version.need.beyond_max {
            reasons.push(format!(
                "today's load needs {more} instances of {name}, and its manifest allows {}",
                version.spec.manifest.max
            ));
        }
        if ready >= workers {
            continue;
        }
        reasons.push(format!("{ready} of {workers} instances of {name} are ready"));
        for instance in &version.serving {
            reasons.extend(
                instance.status.reason.iter().map(|reason| format!("instance {}: {reason}", instance.name)),
            );
            let early = matches!(instance.status.state, InstanceState::Pending | InstanceState::Preloading);
            if early {
                worst = Some(Progress::Preloading);
            }
        }
        worst = worst.or(Some(Progress::Starting));
    }
    pass.reasons.extend(reasons);
    if let Some(progress) = worst {
        return progress;
    }
    if assignment.hold {
        pass.reasons.push("everything is ready, and the weights are held".into());
        return Progress::Starting;
    }
    let written = pass.view.table.map(|table| &table.spec) == weights.table.as_ref();
    if !weights.arrived || !written {
        return Progress::Shifting;
    }
    if !pass.is_acknowledged() {
        let table = pass.view.table.map_or(0, |table| table.revision);
        let behind = pass.view.ingresses.iter().filter(|ingress| ingress.status.reached < table);
        pass.reasons.extend(
            behind.map(|ingress| {
                format!("ingress {} has not acknowledged table revision {table}", ingress.name)
            }),
        );
        return Progress::Shifting;
    }
    Progress::Settled
}

/// Why the weights handed down cannot be reached: a version that is to get a share, and none yet, has a failed
/// instance.
fn failure(pass: &Pass<'_>) -> Option<Failure> {
    let assignment = pass.view.assignment;
    let new = |name: &&VersionName| {
        let rises = assignment.split.share(name) > pass.serving.share(name);
        rises && (assignment.deployment.is_none() || pass.is_on_trial(name))
    };
    let name = pass
        .versions
        .keys()
        .filter(new)
        .find(|name| pass.versions.get(*name).is_some_and(|version| !version.failed.is_empty()))?;
    let instance = pass.versions.get(name)?.failed.first()?;
    let reason = instance.status.reason.clone().unwrap_or_else(|| "it failed without saying why".into());
    Some(Failure {
        reason: format!("instance {} of {name} failed: {reason}", instance.name),
        instance: Some(instance.spec.instance.clone()),
        last_lines: instance.status.last_lines.clone(),
    })
}

/// The figures of every version that has instances or is to have them.
fn versions(pass: &Pass<'_>) -> Vec<VersionReport> {
    let mut names: Vec<&VersionName> = pass.versions.keys().collect();
    names.extend(pass.view.instances.iter().map(|instance| &instance.spec.version.version));
    names.sort();
    names.dedup();
    let count = |filter: &dyn Fn(&Resource<InstanceSpec>) -> bool, name: &VersionName| {
        let matching = pass
            .view
            .instances
            .iter()
            .filter(|instance| instance.spec.version.version == *name && filter(instance));
        u32::try_from(matching.count()).unwrap_or(u32::MAX)
    };
    let reports = names.into_iter().map(|name| {
        let version = pass.versions.get(name);
        let ready = version.map_or(0, |version| pass.ready(version).len());
        let serving = version.map_or(0, |version| version.serving.len());
        VersionReport {
            version: name.clone(),
            wanted: version.map_or(0, |version| version.need.workers),
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            starting: u32::try_from(serving.saturating_sub(ready)).unwrap_or(u32::MAX),
            standby: count(
                &|instance| is_standing_by(instance) && matches!(pass.goal(instance), Goal::Standby { .. }),
                name,
            ),
            draining: count(&|instance| matches!(pass.goal(instance), Goal::Drain | Goal::Stop), name),
        }
    });
    reports.collect()
}
