//! Why an object is as it is: the chain of reasons from what was asked down to what is, in words a newcomer
//! understands, and what to do next.
//!
//! [`read`] takes the snapshot, [`explain`] is a pure function of it.

mod words;

use super::{
    call::{Answer, Call},
    facts::{ServiceFacts, ZoneFacts},
    lists::{Scope, all},
    names, reply,
    subject::Subject,
};
use crate::Objects;
use tutti_api::zone::NodeFigures;
use tutti_model::{
    Millis, Problem, Resource, ServiceRef, VersionRef,
    deployment::{DeploymentSpec, Phase, Target},
    domain::DomainSpec,
    instance::InstanceSpec,
    node::NodeSpec,
    route::RouteSpec,
    service::ServiceSpec,
    version::VersionSpec,
};

pub(super) use words::explain;

/// What an explanation is about.
#[derive(Debug, Clone)]
pub(super) enum About {
    /// A service.
    Service,
    /// A deployment of it.
    Deployment(Box<Resource<DeploymentSpec>>),
    /// A version of it.
    Version(Box<Resource<VersionSpec>>),
    /// An instance of it.
    Instance(Box<Resource<InstanceSpec>>),
    /// A route to it.
    Route(Box<Resource<RouteSpec>>),
    /// A node, with how many instances it has, and what was last measured there how long ago.
    Node(Box<Resource<NodeSpec>>, usize, Option<(Millis, NodeFigures)>),
    /// A domain, with its services.
    Domain(Box<Resource<DomainSpec>>, Vec<String>),
}

/// All that an explanation is made from.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// What it is about.
    pub(super) about: About,
    /// The service concerned; `None` for nodes and domains, or when it has gone.
    pub(super) service: Option<ServiceFacts>,
    /// The newest deployment of the service, or of the version that this is about, if it did not reach its target.
    pub(super) missed: Option<Resource<DeploymentSpec>>,
    /// The zone.
    pub(super) zone: ZoneFacts,
}

/// `GET /v1/explain/{kind}/{name}`
pub(super) async fn answer(call: Call) -> Answer {
    Ok(reply::ok(&explain(&read(&call).await?)))
}

async fn read(call: &Call) -> Result<Snapshot, Problem> {
    let objects = &call.app.objects;
    let (about, service) = match &call.subject {
        Subject::Service(service) => (About::Service, Some(service.clone())),
        Subject::Version(version) => {
            (About::Version(Box::new(existing(call, version).await?)), Some(version.service.clone()))
        }
        Subject::Deployment(deployment) => {
            (About::Deployment(deployment.clone()), Some(deployment.spec.service.clone()))
        }
        Subject::Instance(instance) => {
            (About::Instance(instance.clone()), Some(instance.spec.version.service.clone()))
        }
        Subject::Route(route) => (About::Route(route.clone()), Some(route.spec.service.clone())),
        Subject::Node(node) => {
            let instances = objects.list::<InstanceSpec>("").await?.items;
            let here = instances.iter().filter(|instance| instance.spec.node == node.spec.node).count();
            let now = objects.clock().now();
            let measured = call.app.observed.measured(&node.spec.node);
            let measured = measured.map(|(at, figures)| (now.since(at), figures));
            (About::Node(node.clone(), here, measured), None)
        }
        Subject::Domain(domain) => {
            let services = objects.list::<ServiceSpec>(&format!("{}:", domain.name)).await?.items;
            (About::Domain(domain.clone(), services.into_iter().map(|service| service.name).collect()), None)
        }
        Subject::Platform | Subject::User(_) | Subject::Secret(_) => {
            return Err(Problem::invalid("this kind of object cannot be explained")
                .hint("explain takes domain, service, version, deployment, instance, route or node"));
        }
    };
    let facts = match &service {
        Some(service) => ServiceFacts::read(objects, service).await?,
        None => None,
    };
    if let (About::Service, None, Some(service)) = (&about, &facts, &service) {
        return Err(names::missing::<ServiceSpec>(&call.app, &call.caller, &service.to_string()).await);
    }
    let missed = match &service {
        Some(service) => missed(objects, service, &about).await?,
        None => None,
    };
    Ok(Snapshot { about, service: facts, missed, zone: ZoneFacts::read(objects).await? })
}

/// Whoever asks why a service or a version is not as wanted may not know that the last deployment failed.
async fn missed(
    objects: &Objects,
    service: &ServiceRef,
    about: &About,
) -> Result<Option<Resource<DeploymentSpec>>, Problem> {
    let version = match about {
        About::Service => None,
        About::Version(version) => Some(&version.spec.version.version),
        _ => return Ok(None),
    };
    let scope = Scope::of_service(service.clone());
    let leads_to_it = |deployment: &Resource<DeploymentSpec>| match &deployment.spec.target {
        Target::Version { version: led, .. } => version.is_none_or(|version| led == version),
        Target::Split(_) => version.is_none(),
    };
    let newest = all::<DeploymentSpec>(objects, &scope)
        .await?
        .into_iter()
        .filter(leads_to_it)
        .max_by_key(|deployment| deployment.created_at);
    Ok(newest.filter(|newest| matches!(newest.status.phase, Phase::Failed | Phase::Aborted)))
}

async fn existing(call: &Call, version: &VersionRef) -> Result<Resource<VersionSpec>, Problem> {
    super::versions::existing(&call.app, &call.caller, version).await
}

#[cfg(test)]
mod tests;
