//! Quotas of domains: shown, changed, and compared in every transaction that raises what a domain has.
//!
//! Whatever is admitted writes the domain's quota as it was read before the counting. So of two requests at once one is
//! refused by the store and decided anew, with what the other has taken. Where there is no quota the transaction
//! compares that there is none, and nothing is counted.

use super::{
    App,
    call::{Answer, Call},
    names, reply,
};
use crate::{Objects, objects::Write};
use tutti_api::wire::{DomainQuota, QuotaChange};
use tutti_model::{
    DomainName, ErrorCode, Problem, Resource,
    deployment::DeploymentSpec,
    quota::{Limits, QuotaSpec, Usage},
    service::ServiceSpec,
    version::VersionSpec,
};
use tutti_plan::quota::{Exceeded, asked, exceeded, peak_shares};
use tutti_store::{Compare, List};

/// What is asked for that may be more than there was.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked<'a> {
    /// One more version.
    Version,
    /// A deployment, with its service as it is to be.
    Deployment {
        /// The service, locked by it.
        service: &'a Resource<ServiceSpec>,
        /// The deployment.
        deployment: &'a Resource<DeploymentSpec>,
    },
    /// Another number of workers, with the service as it is to be.
    Workers {
        /// The service.
        service: &'a Resource<ServiceSpec>,
    },
}

/// Adds to a transaction that what is asked for fits the domain's quota.
///
/// # Errors
/// `quota_exceeded`, with the limit, what is in use, and what is asked for.
pub(super) async fn admit(
    app: &App,
    write: Write,
    domain: &DomainName,
    asking: &Asked<'_>,
) -> Result<Write, Problem> {
    let objects = &app.objects;
    // Before anything is counted: what is admitted meanwhile changes it.
    let Some(quota) = objects.find::<QuotaSpec>(domain.as_str()).await? else {
        return Ok(write.when(Compare::Absent(objects.key::<QuotaSpec>(domain.as_str()))));
    };
    let limits = &quota.spec.limits;
    let (before, after) = match asking {
        Asked::Version => {
            let versions = versions(objects, domain).await?;
            let of = |versions| Usage { versions, ..Usage::default() };
            (of(versions), of(versions.saturating_add(1)))
        }
        Asked::Deployment { service, .. } | Asked::Workers { service } => {
            let others = services(objects, domain, Some(&service.name)).await?;
            let stored = objects.find::<ServiceSpec>(&service.name).await?;
            let is = match &stored {
                Some(stored) => of_service(objects, stored, None).await?,
                None => Usage::default(),
            };
            let new = match asking {
                Asked::Deployment { deployment, .. } => Some(*deployment),
                _ => None,
            };
            (others.and(is), others.and(of_service(objects, service, new).await?))
        }
    };
    match exceeded(limits, &before, &after) {
        None => Ok(write.touch(&quota)),
        Some(over) => Err(refusal(domain, asking, &over)),
    }
}

fn refusal(domain: &DomainName, asking: &Asked<'_>, over: &Exceeded) -> Problem {
    let Exceeded { what, most, used, more } = over;
    let (what_asks, less) = match asking {
        Asked::Version => (
            "a new version".to_owned(),
            "delete one that nothing needs: tutti version delete NAME@VERSION".to_owned(),
        ),
        Asked::Deployment { service, .. } => (
            format!("deploying to {}, while what it replaces still serves,", service.name),
            "have fewer workers serve: tutti scale SERVICE WORKERS".to_owned(),
        ),
        Asked::Workers { service } => (
            format!("scaling {}", service.name),
            "have fewer workers serve another: tutti scale SERVICE WORKERS".to_owned(),
        ),
    };
    let text = format!(
        "the quota of domain {domain} allows {most} {what}: {used} in use, and {what_asks} asks for {more} more"
    );
    Problem::new(ErrorCode::QuotaExceeded, text)
        .object(format!("domain {domain}"))
        .hint(format!("{less}; or ask an admin for more: tutti domain quota {domain} --{what} …"))
}

/// How many versions a domain has.
async fn versions(objects: &Objects, domain: &DomainName) -> Result<u32, Problem> {
    let list = List::prefix(objects.key::<VersionSpec>(&format!("{domain}:")));
    let found = objects.store().list(list).await?.entries.len();
    Ok(u32::try_from(found).unwrap_or(u32::MAX))
}

/// What the services of a domain ask for, without one of them.
async fn services(objects: &Objects, domain: &DomainName, without: Option<&str>) -> Result<Usage, Problem> {
    let mut used = Usage::default();
    for service in objects.list::<ServiceSpec>(&format!("{domain}:")).await?.items {
        if without != Some(service.name.as_str()) {
            used = used.and(of_service(objects, &service, None).await?);
        }
    }
    Ok(used)
}

/// What one service asks for, with the deployment that it has, or is to have.
async fn of_service(
    objects: &Objects,
    service: &Resource<ServiceSpec>,
    new: Option<&Resource<DeploymentSpec>>,
) -> Result<Usage, Problem> {
    if service.deleted_at.is_some() {
        return Ok(Usage::default());
    }
    let found = match (new, &service.status.deployment) {
        (Some(new), _) => Some(new.clone()),
        (None, Some(id)) => objects.find::<DeploymentSpec>(id.as_str()).await?,
        (None, None) => None,
    };
    let running = found.as_ref().map(|found| (&found.spec, &found.status.from));
    let mut specs = Vec::new();
    for (version, share) in peak_shares(&service.status.split, running) {
        let name = service.spec.service.at(version).to_string();
        if let Some(version) = objects.find::<VersionSpec>(&name).await? {
            specs.push((version.spec, share));
        }
    }
    let specs: Vec<(&VersionSpec, _)> = specs.iter().map(|(spec, share)| (spec, *share)).collect();
    Ok(asked(&service.spec, &specs))
}

async fn shown(objects: &Objects, domain: &DomainName, limits: Limits) -> Result<DomainQuota, Problem> {
    let used = services(objects, domain, None).await?;
    let used = Usage { versions: versions(objects, domain).await?, ..used };
    Ok(DomainQuota { domain: domain.clone(), limits, used })
}

/// `GET /v1/domains/{name}/quota`
pub(super) async fn get(call: Call) -> Answer {
    let domain: DomainName = call.domain()?.name.parse()?;
    let quota = call.app.objects.find::<QuotaSpec>(domain.as_str()).await?;
    let limits = quota.map(|quota| quota.spec.limits).unwrap_or_default();
    Ok(reply::ok(&shown(&call.app.objects, &domain, limits).await?))
}

/// `PATCH /v1/domains/{name}/quota`. What is in use may be more already: it stays, and only more of it is refused.
pub(super) async fn change(call: Call) -> Answer {
    let request: QuotaChange = call.json()?;
    let (objects, name) = (&call.app.objects, call.domain()?.name.parse::<DomainName>()?);
    for _ in 0..names::ATTEMPTS {
        let domain = names::existing_domain(&call.app, &call.caller, &name).await?;
        let found = objects.find::<QuotaSpec>(name.as_str()).await?;
        let before = found.as_ref().map(|quota| quota.spec.limits).unwrap_or_default();
        let limits = Limits {
            instances: request.instances.unwrap_or(before.instances),
            cpu: request.cpu.unwrap_or(before.cpu),
            memory: request.memory.unwrap_or(before.memory),
            versions: request.versions.unwrap_or(before.versions),
        };
        if limits == before {
            return Ok(reply::ok(&shown(objects, &name, limits).await?));
        }
        let spec = QuotaSpec { domain: name.clone(), limits };
        let write = objects.write().unchanged(&domain);
        let write = match found {
            Some(quota) if limits == Limits::default() => write.delete(&quota),
            Some(mut quota) => {
                quota.spec = spec;
                quota.generation += 1;
                write.update(&quota)
            }
            None => write.create(&objects.make(name.as_str(), spec)),
        };
        if write.commit().await?.is_some() {
            return Ok(reply::ok(&shown(objects, &name, limits).await?));
        }
    }
    Err(names::busy("domain", name.as_str()).into())
}
