//! Services: made, scaled, removed.

use super::{
    App,
    call::{Answer, Call, Caller},
    names, quotas, reply,
};
use crate::objects::Write;
use tutti_api::wire::{CreateService, Scale};
use tutti_model::{
    ErrorCode, Problem, Resource, ServiceRef,
    domain::DomainSpec,
    limits,
    service::{ServiceSpec, Upstream},
};

/// Most services of one domain.
const SERVICES_PER_DOMAIN: usize = 1000;
/// Who cleans up before a service may go: its zones.
const FINALIZER: &str = "zones";

/// The service of this name.
///
/// # Errors
/// `not_found`, with the nearest.
pub(super) async fn existing(
    app: &App,
    caller: &Caller,
    service: &ServiceRef,
) -> Result<Resource<ServiceSpec>, Problem> {
    match app.objects.find::<ServiceSpec>(&service.to_string()).await? {
        Some(found) => Ok(found),
        None => Err(names::missing::<ServiceSpec>(app, caller, &service.to_string()).await),
    }
}

/// Refuses to change a service that is being deleted.
pub(super) fn not_going(service: &Resource<ServiceSpec>) -> Result<(), Problem> {
    if service.deleted_at.is_none() {
        return Ok(());
    }
    Err(Problem::conflict(format!("service \"{}\" is being deleted", service.name))
        .object(service.object())
        .hint(format!("see how far it is with: tutti explain {}", service.name)))
}

/// Adds the creation of a service to a transaction. Its domain is touched too, so that it cannot go meanwhile.
///
/// # Errors
/// `not_found` if the domain has gone, `quota_exceeded` if it is full.
pub(super) async fn add(
    app: &App,
    caller: &Caller,
    write: Write,
    service: &ServiceRef,
    upstreams: Vec<Upstream>,
) -> Result<(Write, Resource<ServiceSpec>), Problem> {
    let domain = names::existing_domain(app, caller, &service.domain).await?;
    own_package(&domain, service)?;
    let prefix = format!("{}:", service.domain);
    names::room_for::<ServiceSpec>(&app.objects, &prefix, SERVICES_PER_DOMAIN, "services in this domain")
        .await?;
    let spec = ServiceSpec { service: service.clone(), upstreams, workers: None };
    let object = app.objects.make(service.to_string(), spec);
    Ok((write.update(&domain).create(&object), object))
}

/// Refuses a package that reads as another domain's: requests for `/PACKAGE.Service` are found by it wherever they come
/// in, and who a service belongs to must be readable from its name. It is the same for who has both domains, and
/// whether the other is registered does not matter: the refusal tells nothing of it.
fn own_package(domain: &Resource<DomainSpec>, service: &ServiceRef) -> Result<(), Problem> {
    let name = &service.service;
    let own = name.is_of(&service.domain) || domain.spec.aliases.iter().any(|alias| name.is_of(alias));
    if own || !name.reads_as_a_domains() {
        return Ok(());
    }
    Err(Problem::invalid(format!("the package of {name} is not that of {}", service.domain))
        .object(format!("service {service}"))
        .hint(format!(
            "let it begin with {}, or with the reversed name of an alias of {}",
            service.domain.reversed(),
            service.domain
        )))
}

/// `POST /v1/services`
pub(super) async fn create(call: Call) -> Answer {
    let request: CreateService = call.json()?;
    let (app, name) = (&call.app, call.service()?);
    if !request.upstreams.is_empty() && !call.caller.is_admin() {
        return Err(Problem::new(
            ErrorCode::Forbidden,
            "a service of plain addresses needs an admin's token: an ingress reaches addresses that are not its \
             callers' to reach, such as those of the platform itself and of other domains' instances",
        )
        .hint("ask an admin to make it, or serve a version")
        .into());
    }
    if request.upstreams.len() > limits::UPSTREAMS {
        return Err(Problem::new(
            ErrorCode::QuotaExceeded,
            format!("{} upstreams are more than {}", request.upstreams.len(), limits::UPSTREAMS),
        )
        .into());
    }
    for _ in 0..names::ATTEMPTS {
        if let Some(there) = app.objects.find::<ServiceSpec>(&name.to_string()).await? {
            not_going(&there)?;
            return Err(Problem::already_exists("service", name).into());
        }
        let upstreams = request.upstreams.clone();
        let (write, mut service) = add(app, &call.caller, app.objects.write(), name, upstreams).await?;
        if let Some(revision) = write.commit().await? {
            service.revision = revision;
            return Ok(reply::created(&service));
        }
    }
    Err(names::busy("service", &name.to_string()).into())
}

/// `GET /v1/services/{name}`
pub(super) async fn get(call: Call) -> Answer {
    Ok(reply::ok(&existing(&call.app, &call.caller, call.service()?).await?))
}

/// `PUT /v1/services/{name}/scale`
pub(super) async fn scale(call: Call) -> Answer {
    let request: Scale = call.json()?;
    if let Some(workers) = request.workers
        && !(1..=limits::INSTANCES_PER_VERSION).contains(&workers)
    {
        return Err(Problem::invalid(format!(
            "{workers} workers are not from 1 to {}",
            limits::INSTANCES_PER_VERSION
        ))
        .into());
    }
    change(&call, |service| {
        if !service.spec.upstreams.is_empty() {
            return Err(Problem::invalid(format!(
                "service \"{}\" is served by plain upstream addresses: there is nothing to scale",
                service.name
            )));
        }
        if service.spec.workers != request.workers {
            service.spec.workers = request.workers;
            service.generation += 1;
        }
        Ok(())
    })
    .await
    .map(|service| reply::ok(&service))
    .map_err(Into::into)
}

/// `DELETE /v1/services/{name}`: asks for it; the reconcilers take it down, and it goes last.
pub(super) async fn delete(call: Call) -> Answer {
    let now = call.app.objects.clock().now();
    let name = call.service()?.clone();
    for _ in 0..names::ATTEMPTS {
        let mut service = existing(&call.app, &call.caller, &name).await?;
        if service.deleted_at.is_some() {
            return Ok(reply::accepted(&service));
        }
        if let Some(running) = &service.status.deployment {
            return Err(Problem::conflict(format!(
                "service \"{name}\" has the running deployment {running}"
            ))
            .object(service.object())
            .hint(format!("end it first with: tutti deployment abort {running}"))
            .into());
        }
        service.deleted_at = Some(now);
        service.finalizers.push(FINALIZER.to_owned());
        if let Some(revision) = call.app.objects.write().update(&service).commit().await? {
            service.revision = revision;
            return Ok(reply::accepted(&service));
        }
    }
    Err(names::busy("service", &name.to_string()).into())
}

/// Changes the service that a call is about, deciding anew if it had changed meanwhile.
async fn change(
    call: &Call,
    decide: impl Fn(&mut Resource<ServiceSpec>) -> Result<(), Problem>,
) -> Result<Resource<ServiceSpec>, Problem> {
    let name = call.service()?;
    for _ in 0..names::ATTEMPTS {
        let service = existing(&call.app, &call.caller, name).await?;
        not_going(&service)?;
        let mut changed = service.clone();
        decide(&mut changed)?;
        if changed == service {
            return Ok(service);
        }
        let write = call.app.objects.write().update(&changed);
        let asked = quotas::Asked::Workers { service: &changed };
        let write = quotas::admit(&call.app, write, &name.domain, &asked).await?;
        if let Some(revision) = write.commit().await? {
            changed.revision = revision;
            return Ok(changed);
        }
    }
    Err(names::busy("service", &name.to_string()))
}
