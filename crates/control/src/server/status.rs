//! Is all well? In one word and one sentence for each service.

use super::{
    call::{Answer, Call},
    facts::{ServiceFacts, ZoneFacts},
    lists::Scope,
    names, reply,
};
use tutti_api::wire::{ClusterStatus, ServiceSummary, ZoneSummary};
use tutti_model::{
    Problem, Resource, Split,
    deployment::{DeploymentSpec, Intent, Phase},
    report::Progress,
    service::ServiceSpec,
    table::{Backend, TableSpec},
};

/// `GET /v1/status`
pub(super) async fn status(call: Call) -> Answer {
    let objects = &call.app.objects;
    let revision = objects.store().revision().await.map_err(Problem::from)?;
    let scope = Scope::seen(&call.caller);
    let services = ServiceFacts::read_all(objects, &scope).await?;
    let services: Vec<ServiceSummary> = services.iter().map(summarize).collect();
    let mut problems = Vec::new();
    let mut zones = Vec::new();
    // Nodes and ingresses are the platform's affair.
    if call.caller.is_admin() {
        let zone = ZoneFacts::read(objects).await?;
        problems.extend(zone_problems(&zone));
        zones.push(ZoneSummary {
            zone: objects.zone().to_string(),
            nodes_ready: zone.ready(),
            nodes: zone.nodes.len(),
            ingresses: zone.ingresses.len(),
            http: zone.ingresses.iter().map(|ingress| ingress.spec.http.clone()).collect(),
        });
    }
    let degraded = services.iter().filter(|service| matches!(service.state.as_str(), "degraded" | "failed"));
    problems.extend(degraded.map(|service| {
        format!(
            "service {0}: {1}; see tutti explain {0}",
            service.service,
            service.reason.as_deref().unwrap_or("is not as it should be")
        )
    }));
    Ok(reply::ok(&ClusterStatus { release: call.app.release.clone(), revision, zones, services, problems }))
}

/// `GET /v1/services/{name}/summary`
pub(super) async fn summary(call: Call) -> Answer {
    let name = call.service()?;
    match ServiceFacts::read(&call.app.objects, name).await? {
        Some(facts) => Ok(reply::ok(&summarize(&facts))),
        None => Err(names::missing::<ServiceSpec>(&call.app, &call.caller, &name.to_string()).await.into()),
    }
}

fn zone_problems(zone: &ZoneFacts) -> Vec<String> {
    let mut problems = Vec::new();
    if zone.nodes.is_empty() {
        problems.push("no node has joined: nothing can be placed".to_owned());
    }
    for node in &zone.nodes {
        if node.silent_since().is_some() {
            problems.push(format!("node {0} is silent; see tutti explain node/{0}", node.name));
        } else if !node.status.ready {
            problems.push(format!("node {} is not ready", node.name));
        }
    }
    if zone.ingresses.is_empty() {
        problems.push("no ingress lives: no request is answered".to_owned());
    }
    problems
}

/// The weights that a table holds.
pub(super) fn serving(table: Option<&TableSpec>) -> Split {
    let weights = table.into_iter().flat_map(TableSpec::versions);
    Split::new(weights.map(|version| (version.version.clone(), version.weight))).unwrap_or_default()
}

/// One service in short.
pub(super) fn summarize(facts: &ServiceFacts) -> ServiceSummary {
    let service = &facts.service;
    let table = facts.table.as_ref().map(|table| &table.spec);
    let hosts = match table {
        Some(table) => table.matches.iter().map(ToString::to_string).collect(),
        None => facts.routes.iter().map(|route| route.name.clone()).collect(),
    };
    let (state, reason) = state(facts);
    ServiceSummary {
        service: service.spec.service.clone(),
        hosts,
        split: service.status.split.clone(),
        serving: serving(table),
        versions: facts.report.as_ref().map(|report| report.spec.versions.clone()).unwrap_or_default(),
        upstreams: service.spec.upstreams.iter().map(ToString::to_string).collect(),
        deployment: service.status.deployment.as_ref().map(ToString::to_string),
        state: state.to_owned(),
        reason,
    }
}

/// How the only thing that was to serve ended.
fn missed_says(missed: &Resource<DeploymentSpec>) -> String {
    let status = &missed.status;
    let why = status.failure.as_ref().map_or(status.message.as_str(), |failure| failure.reason.as_str());
    format!("deployment {} {}: {why}", missed.name, status.phase)
}

/// A service in one word, and why it is not as it should be.
fn state(facts: &ServiceFacts) -> (&'static str, Option<String>) {
    let (service, table) = (&facts.service, facts.table.as_ref().map(|table| &table.spec));
    if service.deleted_at.is_some() {
        return ("deleting", Some("is being deleted".to_owned()));
    }
    if service.status.deployment.is_some() {
        let message = facts.deployment.as_ref().map(|deployment| deployment.status.message.clone());
        let paused =
            facts.deployment.as_ref().is_some_and(|deployment| deployment.spec.intent == Intent::Pause);
        return ("deploying", message.or_else(|| paused.then(|| "paused".to_owned())));
    }
    if !service.spec.upstreams.is_empty() {
        return match table.map(|table| &table.backend) {
            Some(Backend::Upstreams(_)) => ("serving", None),
            _ => ("degraded", Some("its addresses have not reached the ingress yet".to_owned())),
        };
    }
    if service.status.split.is_empty() {
        return match &facts.missed {
            Some(missed) if missed.status.phase == Phase::Failed => ("failed", Some(missed_says(missed))),
            Some(missed) => ("idle", Some(missed_says(missed))),
            None => ("idle", Some("nothing is deployed".to_owned())),
        };
    }
    if let Some(Backend::None { reason }) = table.map(|table| &table.backend) {
        return ("degraded", Some(reason.clone()));
    }
    let report = facts.report.as_ref().map(|report| &report.spec);
    if let Some(Progress::Failed { failure }) = report.map(|report| &report.progress) {
        return ("degraded", Some(failure.reason.clone()));
    }
    let serving = serving(table);
    if serving != service.status.split {
        return ("degraded", Some(format!("serves {serving} instead of {}", service.status.split)));
    }
    let missing =
        report.into_iter().flat_map(|report| &report.versions).find(|version| version.ready < version.wanted);
    match missing {
        Some(version) => {
            let text =
                format!("{} of {} instances of {} are ready", version.ready, version.wanted, version.version);
            ("degraded", Some(text))
        }
        None => ("serving", None),
    }
}
