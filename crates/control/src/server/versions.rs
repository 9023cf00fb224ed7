//! Versions: immutable once made.

mod declared;

use super::{
    App,
    call::{Answer, Call, Caller},
    names, quotas, reply,
    reply::Refusal,
    services,
};
use tutti_api::wire::CreateVersion;
use tutti_model::{
    Problem, Resource, Share, VersionRef,
    deployment::{DeploymentSpec, Target},
    limits,
    manifest::NO_SINGLETON,
    service::ServiceSpec,
    version::{Isolate, VersionSpec},
};

/// Most versions of one service.
const VERSIONS_PER_SERVICE: usize = 1000;
/// Most bytes that a version takes where it is stored: a manifest's own bound, and what is said beside it.
pub(super) const BYTES: usize = limits::MANIFEST_BYTES + 4096;

/// What a version takes where it is stored.
pub(super) fn bytes(version: &VersionSpec) -> usize {
    serde_json::to_vec(version).map_or(usize::MAX, |bytes| bytes.len())
}

/// The version of this name.
///
/// # Errors
/// `not_found`: of the service, if that is missing, else of the version, with the nearest.
pub(super) async fn existing(
    app: &App,
    caller: &Caller,
    version: &VersionRef,
) -> Result<Resource<VersionSpec>, Problem> {
    if let Some(found) = app.objects.find::<VersionSpec>(&version.to_string()).await? {
        return Ok(found);
    }
    services::existing(app, caller, &version.service).await?;
    Err(names::missing::<VersionSpec>(app, caller, &version.to_string()).await)
}

/// `POST /v1/versions`
pub(super) async fn create(call: Call) -> Answer {
    let request: CreateVersion = call.json()?;
    let (app, name) = (&call.app, call.version()?);
    let faults = request.manifest.faults();
    if !faults.is_empty() {
        return Err(Refusal::faults("the manifest", &faults));
    }
    if request.manifest.isolate.is_some_and(|isolate| isolate != request.isolate) {
        return Err(Problem::invalid(format!(
            "the manifest does not ask for the isolate {}",
            request.isolate
        ))
        .into());
    }
    if request.manifest.singleton && request.isolate == Isolate::Wasm {
        return Err(Problem::invalid(format!("[service] singleton: {NO_SINGLETON}")).into());
    }
    let spec = VersionSpec {
        version: name.clone(),
        artifact: request.artifact,
        size: request.size,
        isolate: request.isolate,
        manifest: request.manifest,
    };
    // As it is stored, and so for whoever calls the API without a file: text that is escaped there is longer.
    let size = bytes(&spec);
    if size > BYTES {
        let problem = Problem::new(
            tutti_model::ErrorCode::QuotaExceeded,
            format!("the manifest of {name} takes {size} bytes where it is stored, more than {BYTES}"),
        );
        return Err(problem.hint("keep large values in a file of the version instead of its env").into());
    }
    if !app.artifacts.exists(&name.service, &spec.artifact).await? {
        return Err(Problem::new(
            tutti_model::ErrorCode::NotFound,
            format!("artifact {} was not pushed to {}", spec.artifact, name.service),
        )
        .hint(format!("push it first: tutti push PATH {name}"))
        .into());
    }
    declared::check(app, &spec).await?;
    for _ in 0..names::ATTEMPTS {
        if let Some(there) = app.objects.find::<VersionSpec>(&name.to_string()).await? {
            return same(&there, &spec).map(|()| reply::ok(&there)).map_err(Into::into);
        }
        let prefix = format!("{}@", name.service);
        names::room_for::<VersionSpec>(
            &app.objects,
            &prefix,
            VERSIONS_PER_SERVICE,
            "versions of this service",
        )
        .await?;
        let mut version = app.objects.make(name.to_string(), spec.clone());
        let write = app.objects.write().create(&version);
        let write = match app.objects.find::<ServiceSpec>(&name.service.to_string()).await? {
            Some(service) => {
                services::not_going(&service)?;
                without_upstreams(&service)?;
                write.unchanged(&service)
            }
            None => services::add(app, &call.caller, write, &name.service, Vec::new()).await?.0,
        };
        let write = quotas::admit(app, write, &name.service.domain, &quotas::Asked::Version).await?;
        if let Some(revision) = write.commit().await? {
            version.revision = revision;
            return Ok(reply::created(&version));
        }
    }
    Err(names::busy("version", &name.to_string()).into())
}

/// Pushing the same thing again is nothing new; anything else under the same name is refused.
fn same(there: &Resource<VersionSpec>, asked: &VersionSpec) -> Result<(), Problem> {
    if there.spec == *asked {
        return Ok(());
    }
    let mut problem = Problem::already_exists("version", &there.name);
    let how = if there.spec.artifact == asked.artifact {
        format!("with another manifest for the same artifact {}", asked.artifact)
    } else {
        format!("with other bytes: it is {}, and this is {}", there.spec.artifact, asked.artifact)
    };
    problem.detail = format!("{} {how}", problem.detail);
    Err(problem.hint("a version never changes: push under a new one"))
}

/// Refuses versions for a service of plain addresses.
pub(super) fn without_upstreams(service: &Resource<ServiceSpec>) -> Result<(), Problem> {
    if service.spec.upstreams.is_empty() {
        return Ok(());
    }
    Err(Problem::conflict(format!("service \"{}\" is served by plain upstream addresses", service.name))
        .object(service.object())
        .hint("use another service name for versions"))
}

/// `GET /v1/versions/{name}`
pub(super) async fn get(call: Call) -> Answer {
    Ok(reply::ok(&existing(&call.app, &call.caller, call.version()?).await?))
}

/// `DELETE /v1/versions/{name}`
pub(super) async fn delete(call: Call) -> Answer {
    let (app, name) = (&call.app, call.version()?);
    for _ in 0..names::ATTEMPTS {
        let version = existing(app, &call.caller, name).await?;
        let service = services::existing(app, &call.caller, &name.service).await?;
        if let Some(why) = used(app, name, &service).await? {
            return Err(why.into());
        }
        if app.objects.write().delete(&version).unchanged(&service).commit().await?.is_some() {
            return Ok(reply::no_content());
        }
    }
    Err(names::busy("version", &name.to_string()).into())
}

/// Why a version is still needed.
pub(super) async fn used(
    app: &App,
    version: &VersionRef,
    service: &Resource<ServiceSpec>,
) -> Result<Option<Problem>, Problem> {
    let share = service.status.share(&version.version);
    if share != Share::ZERO {
        return Ok(Some(
            Problem::conflict(format!("version \"{version}\" serves {share} of the requests"))
                .object(format!("version {version}"))
                .hint(format!("deploy another to 100% first: tutti deploy {}@VERSION 100%", version.service)),
        ));
    }
    let returns =
        service.status.previous.as_ref().is_some_and(|split| split.share(&version.version) != Share::ZERO);
    if returns {
        return Ok(Some(
            Problem::conflict(format!(
                "version \"{version}\" is what a rollback of {} returns to",
                version.service
            ))
            .object(format!("version {version}"))
            .hint("it can be deleted after the next deployment"),
        ));
    }
    let Some(id) = &service.status.deployment else { return Ok(None) };
    let Some(deployment) = app.objects.find::<DeploymentSpec>(id.as_str()).await? else { return Ok(None) };
    let leads = match &deployment.spec.target {
        Target::Version { version: target, .. } => *target == version.version,
        Target::Split(split) => split.share(&version.version) != Share::ZERO,
    };
    let stood = deployment.status.from.share(&version.version) != Share::ZERO;
    Ok((leads || stood).then(|| {
        Problem::conflict(format!("version \"{version}\" is part of the running deployment {id}"))
            .object(format!("version {version}"))
            .hint(format!("wait for it, or end it with: tutti deployment abort {id}"))
    }))
}
