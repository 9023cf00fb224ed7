//! Everything stored that says how a service is: read once, so that status and explanations are decided from one
//! snapshot, by pure functions.

use super::lists::{Scope, Visible as _, all};
use crate::Objects;
use tutti_model::{
    Problem, Resource, ServiceRef,
    deployment::{DeploymentSpec, Phase},
    ingress::IngressSpec,
    instance::InstanceSpec,
    node::NodeSpec,
    report::{ReportSpec, report_name},
    route::RouteSpec,
    service::ServiceSpec,
    table::TableSpec,
};

/// What is known of one service.
#[derive(Debug, Clone)]
pub(super) struct ServiceFacts {
    /// The service.
    pub(super) service: Resource<ServiceSpec>,
    /// Its unfinished deployment.
    pub(super) deployment: Option<Resource<DeploymentSpec>>,
    /// Its newest deployment, where that did not reach its target and nothing serves.
    pub(super) missed: Option<Resource<DeploymentSpec>>,
    /// What its zone says of it.
    pub(super) report: Option<Resource<ReportSpec>>,
    /// What ingresses route by.
    pub(super) table: Option<Resource<TableSpec>>,
    /// The routes that lead to it.
    pub(super) routes: Vec<Resource<RouteSpec>>,
    /// Its instances.
    pub(super) instances: Vec<Resource<InstanceSpec>>,
}

/// What is known of the zone.
#[derive(Debug, Clone, Default)]
pub(super) struct ZoneFacts {
    /// Its nodes.
    pub(super) nodes: Vec<Resource<NodeSpec>>,
    /// Its living ingresses.
    pub(super) ingresses: Vec<Resource<IngressSpec>>,
}

impl ZoneFacts {
    /// Reads them.
    pub(super) async fn read(objects: &Objects) -> Result<ZoneFacts, Problem> {
        Ok(ZoneFacts {
            nodes: objects.list::<NodeSpec>("").await?.items,
            ingresses: objects.list::<IngressSpec>("").await?.items,
        })
    }

    /// Nodes that are ready, and heard.
    pub(super) fn ready(&self) -> usize {
        self.nodes.iter().filter(|node| node.status.ready && node.silent_since().is_none()).count()
    }
}

impl ServiceFacts {
    /// Reads what is known of one service; `None` if there is none of this name.
    pub(super) async fn read(
        objects: &Objects,
        service: &ServiceRef,
    ) -> Result<Option<ServiceFacts>, Problem> {
        let name = service.to_string();
        let Some(found) = objects.find::<ServiceSpec>(&name).await? else { return Ok(None) };
        let deployment = match &found.status.deployment {
            Some(id) => objects.find::<DeploymentSpec>(id.as_str()).await?,
            None => None,
        };
        let scope = Scope::of_service(service.clone());
        let missed = match serves_nothing(&found) {
            true => missed(all::<DeploymentSpec>(objects, &scope).await?.iter(), service),
            false => None,
        };
        Ok(Some(ServiceFacts {
            deployment,
            missed,
            report: objects.find::<ReportSpec>(&report_name(objects.zone(), service)).await?,
            table: objects.find::<TableSpec>(&name).await?,
            routes: all::<RouteSpec>(objects, &scope).await?,
            instances: all::<InstanceSpec>(objects, &scope).await?,
            service: found,
        }))
    }

    /// Reads what is known of every service of a scope, without instances.
    pub(super) async fn read_all(objects: &Objects, scope: &Scope) -> Result<Vec<ServiceFacts>, Problem> {
        let services = all::<ServiceSpec>(objects, scope).await?;
        let mut tables = all::<TableSpec>(objects, scope).await?;
        let mut routes = all::<RouteSpec>(objects, scope).await?;
        let zone = objects.zone();
        let of_zone = |prefix: &str| format!("{zone}/{prefix}");
        let mut reports = Vec::new();
        for prefix in ServiceSpec::prefixes(scope) {
            reports.append(&mut objects.list::<ReportSpec>(&of_zone(&prefix)).await?.items);
        }
        let deployments = match services.iter().any(serves_nothing) {
            true => all::<DeploymentSpec>(objects, scope).await?,
            false => Vec::new(),
        };
        let mut facts = Vec::with_capacity(services.len());
        for service in services {
            let deployment = match &service.status.deployment {
                Some(id) => objects.find::<DeploymentSpec>(id.as_str()).await?,
                None => None,
            };
            let of = &service.spec.service;
            facts.push(ServiceFacts {
                deployment,
                missed: if serves_nothing(&service) { missed(deployments.iter(), of) } else { None },
                report: take(&mut reports, |report| report.spec.service == *of).pop(),
                table: take(&mut tables, |table| table.spec.service == *of).pop(),
                routes: take(&mut routes, |route| route.spec.service == *of),
                instances: Vec::new(),
                service,
            });
        }
        Ok(facts)
    }
}

/// Whether there is neither a version nor an address that takes its requests, and nothing on the way.
fn serves_nothing(service: &Resource<ServiceSpec>) -> bool {
    service.status.split.is_empty()
        && service.status.deployment.is_none()
        && service.spec.upstreams.is_empty()
}

/// The newest deployment of a service, if it did not reach its target.
fn missed<'a>(
    deployments: impl Iterator<Item = &'a Resource<DeploymentSpec>>,
    of: &ServiceRef,
) -> Option<Resource<DeploymentSpec>> {
    let newest = deployments
        .filter(|deployment| deployment.spec.service == *of)
        .max_by_key(|deployment| deployment.created_at)?;
    matches!(newest.status.phase, Phase::Failed | Phase::Aborted).then(|| newest.clone())
}

/// Takes out what fits.
fn take<T>(from: &mut Vec<T>, fits: impl Fn(&T) -> bool) -> Vec<T> {
    let (taken, left) = std::mem::take(from).into_iter().partition(fits);
    *from = left;
    taken
}
