//! Deployments: started, steered, taken back. What they do is the reconcilers' business.

use super::{
    App,
    call::{Answer, Call},
    names, quotas, reply, secrets, services, versions,
};
use std::collections::BTreeSet;
use tutti_api::wire::{CreateDeployment, Promote};
use tutti_base::crashpoint;
use tutti_model::{
    Millis, Problem, Resource, Share, Split, VersionName,
    deployment::{DeploymentSpec, Intent, Phase, Target, check_steps},
    limits,
    service::ServiceSpec,
    version::VersionSpec,
};

/// Most conditions of one deployment: each metric a few times over.
const CONDITIONS: usize = 16;
/// Longest time of one step.
const STEP_TIME: Millis = Millis::seconds(7 * 24 * 3600);

/// Most that the versions between which one deployment shifts traffic may take together, in bytes. A zone gets them in
/// one value, beside one more that is only made ready, and with the service's hosts and weights, which have the rest.
const VERSIONS_BYTES: usize = 160 * 1024;
const _: () = assert!(VERSIONS_BYTES + versions::BYTES < limits::STORE_VALUE_BYTES);

/// `POST /v1/deployments`
pub(super) async fn create(call: Call) -> Answer {
    let request: CreateDeployment = call.json()?;
    check(&request)?;
    let (app, name) = (&call.app, call.version()?);
    for _ in 0..names::ATTEMPTS {
        let version = versions::existing(app, &call.caller, name).await?;
        let service = services::existing(app, &call.caller, &name.service).await?;
        let target = Target::Version { version: name.version.clone(), steps: request.steps.clone() };
        let (mut deployment, changed) = begin(app, &service, target).await?;
        deployment.spec.every = request.every.unwrap_or_default();
        deployment.spec.abort_if = request.abort_if.clone();
        let write = app.objects.write().create(&deployment).update(&changed).unchanged(&version);
        let write = secrets::admit(app, write, &version).await?;
        let asked = quotas::Asked::Deployment { service: &changed, deployment: &deployment };
        let write = quotas::admit(app, write, &name.service.domain, &asked).await?;
        crashpoint::reached(|| "api/deployment/before".to_owned());
        if let Some(revision) = write.commit().await? {
            crashpoint::reached(|| "api/deployment/after".to_owned());
            deployment.revision = revision;
            return Ok(reply::created(&deployment));
        }
    }
    Err(names::busy("service", &name.service.to_string()).into())
}

fn check(request: &CreateDeployment) -> Result<(), Problem> {
    check_steps(&request.steps)?;
    match (request.steps.len(), request.every) {
        (1, Some(every)) if every != Millis(0) => {
            return Err(Problem::invalid(
                "a single step is not observed: leave out --every, or give --steps",
            ));
        }
        (2.., None | Some(Millis(0))) => {
            return Err(Problem::invalid("several steps need to know how long each is observed")
                .hint("say so with --every, such as --every 30s"));
        }
        (_, Some(every)) if every > STEP_TIME => {
            return Err(Problem::invalid(format!(
                "{every} is longer than a step may be observed, which is {STEP_TIME}"
            )));
        }
        _ => {}
    }
    if request.steps.len() == 1 && !request.abort_if.is_empty() {
        return Err(Problem::invalid("a single step is not judged: conditions need steps to abort between")
            .hint("give --steps, such as --steps 10%,100% --every 30s"));
    }
    if request.abort_if.len() > CONDITIONS {
        return Err(Problem::new(
            tutti_model::ErrorCode::QuotaExceeded,
            format!("{} conditions are more than {CONDITIONS}", request.abort_if.len()),
        ));
    }
    Ok(())
}

/// A new deployment and its service locked by it, to be written together.
///
/// # Errors
/// `conflict` if the service is locked, going, or not served by versions; `quota_exceeded` if too many versions would
/// share the traffic.
async fn begin(
    app: &App,
    service: &Resource<ServiceSpec>,
    target: Target,
) -> Result<(Resource<DeploymentSpec>, Resource<ServiceSpec>), Problem> {
    services::not_going(service)?;
    versions::without_upstreams(service)?;
    if service.status.deployment.is_some() {
        return Err(locked(app, service).await);
    }
    let from = service.status.split.clone();
    let first_step = target.split(&from, 0);
    Split::new(first_step.iter().map(|(version, share)| (version.clone(), share)))?;
    let versions = sharing(app, service, &from, &first_step).await?;
    fits_one_value(service, &versions)?;
    runs_alone(service, &versions, &target, &from)?;
    let (objects, id) = (&app.objects, app.objects.random().deployment_id());
    let first = first_note(&target, &from);
    let spec = DeploymentSpec {
        deployment: id.clone(),
        service: service.spec.service.clone(),
        target,
        every: Millis(0),
        abort_if: Vec::new(),
        intent: Intent::Proceed,
        promoted: 0,
    };
    let mut deployment = objects.make(id.to_string(), spec);
    deployment.status.from = from;
    deployment.status.note(deployment.created_at, first.clone());
    deployment.status.note(deployment.created_at, format!("took the lock on {}", service.spec.service));
    deployment.status.message = first;
    let mut changed = service.clone();
    changed.status.deployment = Some(id);
    Ok((deployment, changed))
}

/// The versions that a deployment shifts traffic between. No later step has others than the first, and the rollback of a
/// deployment has the same as the deployment.
async fn sharing(
    app: &App,
    service: &Resource<ServiceSpec>,
    from: &Split,
    to: &Split,
) -> Result<Vec<VersionSpec>, Problem> {
    let names: BTreeSet<&VersionName> = from.iter().chain(to.iter()).map(|(version, _)| version).collect();
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let name = service.spec.service.at(name.clone()).to_string();
        found.extend(app.objects.find::<VersionSpec>(&name).await?.map(|version| version.spec));
    }
    Ok(found)
}

/// Refuses a deployment by which a singleton would share the traffic with another version: both would have to run.
fn runs_alone(
    service: &Resource<ServiceSpec>,
    versions: &[VersionSpec],
    target: &Target,
    from: &Split,
) -> Result<(), Problem> {
    let is_singleton = |name: &VersionName| {
        versions.iter().any(|spec| spec.version.version == *name && spec.manifest.singleton)
    };
    for step in 0..target.steps() {
        let split = target.split(from, step);
        if split.len() > 1
            && let Some((name, _)) = split.iter().find(|(name, _)| is_singleton(name))
        {
            let problem = Problem::invalid(format!(
                "{}@{name} is a singleton and cannot share the traffic ({split}): both versions would run",
                service.name
            ));
            return Err(problem
                .object(service.object())
                .hint("give one version 100%: the one that runs is stopped before the next is started"));
        }
    }
    Ok(())
}

/// Refuses versions that together are more than a zone can be handed.
fn fits_one_value(service: &Resource<ServiceSpec>, versions: &[VersionSpec]) -> Result<(), Problem> {
    let bytes = versions.iter().map(versions::bytes).fold(0usize, usize::saturating_add);
    if bytes <= VERSIONS_BYTES {
        return Ok(());
    }
    let problem = Problem::new(
        tutti_model::ErrorCode::QuotaExceeded,
        format!(
            "the manifests of the {} versions that would share the traffic of {} are {} KiB together, more than {}",
            versions.len(),
            service.name,
            bytes.div_ceil(1024),
            VERSIONS_BYTES / 1024
        ),
    );
    Err(problem.object(service.object()).hint(
        "bring one of those that serve to 100% first, or keep large values in a file of the version instead of its env",
    ))
}

/// How a deployment's history begins.
fn first_note(target: &Target, from: &Split) -> String {
    match target {
        Target::Version { version, steps } => {
            let alone = from.iter().all(|(other, _)| other == version);
            if alone && steps.first().is_some_and(|share| *share != Share::WHOLE) {
                return format!(
                    "started: {version} gets 100%, because nothing else serves that could have the rest"
                );
            }
            let shares: Vec<String> = steps.iter().map(ToString::to_string).collect();
            format!("started: {version} to {}", shares.join(", then "))
        }
        Target::Split(split) => format!("started: back to {split}"),
    }
}

/// The conflict with the deployment that holds the lock.
async fn locked(app: &App, service: &Resource<ServiceSpec>) -> Problem {
    let Some(id) = &service.status.deployment else {
        return Problem::internal(format!("service {} is not locked", service.name));
    };
    let running = app.objects.find::<DeploymentSpec>(id.as_str()).await.ok().flatten();
    let how = match &running {
        Some(running) if running.spec.intent == Intent::Pause => format!("{}, paused", running.status.phase),
        Some(running) => running.status.phase.to_string(),
        None => "starting".to_owned(),
    };
    Problem::conflict(format!("service \"{}\" has the running deployment {id} ({how})", service.name))
        .object(format!("deployment {id}"))
        .hint(format!("see it with: tutti explain {id}; end it with: tutti deployment abort {id}"))
}

/// `GET /v1/deployments/{name}`
pub(super) async fn get(call: Call) -> Answer {
    Ok(reply::ok(call.deployment()?))
}

/// `POST /v1/deployments/{name}/pause`
pub(super) async fn pause(call: Call) -> Answer {
    steer(&call, |spec, status_undoing, _| match spec.intent {
        _ if status_undoing => Err("is going back to the weights from before and cannot be paused"),
        Intent::Abort => Err("is being aborted and cannot be paused"),
        Intent::Proceed | Intent::Pause => {
            spec.intent = Intent::Pause;
            Ok(())
        }
    })
    .await
}

/// `POST /v1/deployments/{name}/resume`
pub(super) async fn resume(call: Call) -> Answer {
    steer(&call, |spec, status_undoing, _| match spec.intent {
        _ if status_undoing => Err("is going back to the weights from before"),
        Intent::Abort => Err("is being aborted"),
        Intent::Proceed | Intent::Pause => {
            spec.intent = Intent::Proceed;
            Ok(())
        }
    })
    .await
}

/// `POST /v1/deployments/{name}/promote`: to the next step, or the last. One that was paused goes on.
pub(super) async fn promote(call: Call) -> Answer {
    let request: Promote = call.json_or_default()?;
    steer(&call, |spec, status_undoing, step| {
        let last = spec.target.steps().saturating_sub(1);
        if status_undoing || spec.intent == Intent::Abort {
            return Err("is going back to the weights from before");
        }
        if step >= last {
            return Err("is at its last step already");
        }
        let to = if request.full { last } else { step + 1 };
        spec.promoted = spec.promoted.max(u32::try_from(to).unwrap_or(u32::MAX));
        spec.intent = Intent::Proceed;
        Ok(())
    })
    .await
}

/// `POST /v1/deployments/{name}/abort`
pub(super) async fn abort(call: Call) -> Answer {
    steer(&call, |spec, _, _| {
        spec.intent = Intent::Abort;
        Ok(())
    })
    .await
}

/// Changes what is asked of an unfinished deployment. `decide` gets its spec, whether it is going back, and its step.
async fn steer(
    call: &Call,
    decide: impl Fn(&mut DeploymentSpec, bool, usize) -> Result<(), &'static str>,
) -> Answer {
    let name = call.deployment()?.name.clone();
    for _ in 0..names::ATTEMPTS {
        let deployment = call.app.objects.get::<DeploymentSpec>(&name).await?;
        if deployment.status.phase.is_final() {
            return Err(ended(&deployment).into());
        }
        let mut changed = deployment.clone();
        let (undoing, step) = (deployment.status.phase.is_undoing(), deployment.status.step);
        decide(&mut changed.spec, undoing, step).map_err(|why| {
            Problem::conflict(format!("deployment \"{name}\" {why}"))
                .object(deployment.object())
                .hint(format!("see it with: tutti explain {name}"))
        })?;
        if changed.spec == deployment.spec {
            return Ok(reply::ok(&deployment));
        }
        changed.generation += 1;
        if let Some(revision) = call.app.objects.write().update(&changed).commit().await? {
            changed.revision = revision;
            return Ok(reply::ok(&changed));
        }
    }
    Err(names::busy("deployment", &name).into())
}

/// The conflict with a deployment that is over.
fn ended(deployment: &Resource<DeploymentSpec>) -> Problem {
    let how = match (deployment.status.phase, &deployment.status.failure) {
        (Phase::Done, _) => "is done".to_owned(),
        (phase, Some(failure)) => format!("has ended, {phase}: {}", failure.reason),
        (phase, None) => format!("has ended, {phase}"),
    };
    let problem =
        Problem::conflict(format!("deployment \"{}\" {how}", deployment.name)).object(deployment.object());
    match deployment.status.phase {
        Phase::Done => problem.hint(format!(
            "to return to the weights from before: tutti rollback {}",
            deployment.spec.service
        )),
        _ => problem.hint("start a new one with: tutti deploy NAME@VERSION SHARE"),
    }
}

/// `POST /v1/services/{name}/rollback`
pub(super) async fn rollback(call: Call) -> Answer {
    let (app, name) = (&call.app, call.service()?);
    for _ in 0..names::ATTEMPTS {
        let service = services::existing(app, &call.caller, name).await?;
        let (answer, write) = match &service.status.deployment {
            Some(id) => {
                let mut running = app.objects.get::<DeploymentSpec>(id.as_str()).await?;
                if running.spec.intent == Intent::Abort {
                    return Ok(reply::ok(&running));
                }
                running.spec.intent = Intent::Abort;
                running.generation += 1;
                let write = app.objects.write().update(&running).unchanged(&service);
                (running, write)
            }
            None => {
                let previous = previous(app, &service).await?;
                let (deployment, changed) = begin(app, &service, Target::Split(previous)).await?;
                // No quota bars the way back: what it returns to was admitted, and it may be night.
                let write = app.objects.write().create(&deployment).update(&changed);
                (deployment, write)
            }
        };
        if let Some(revision) = write.commit().await? {
            let answer = Resource { revision, ..answer };
            return Ok(reply::ok(&answer));
        }
    }
    Err(names::busy("service", &name.to_string()).into())
}

/// The weights to go back to.
///
/// # Errors
/// `conflict` if there are none, or one of their versions was removed.
async fn previous(app: &App, service: &Resource<ServiceSpec>) -> Result<Split, Problem> {
    let refuse = |why: String, hint: String| Problem::conflict(why).object(service.object()).hint(hint);
    let deploy = format!("deploy a version instead: tutti deploy {}@VERSION 100%", service.name);
    let Some(previous) = service.status.previous.clone().filter(|split| !split.is_empty()) else {
        let why = if service.status.split.is_empty() {
            format!("service \"{}\" has never served a version", service.name)
        } else {
            format!("service \"{}\" has served nothing but {}", service.name, service.status.split)
        };
        return Err(refuse(format!("{why}: there is nothing to return to"), deploy));
    };
    for (version, _) in previous.iter() {
        let name = service.spec.service.at(version.clone()).to_string();
        if app.objects.find::<VersionSpec>(&name).await?.is_none() {
            return Err(refuse(format!("version \"{name}\", which served before, was deleted"), deploy));
        }
    }
    Ok(previous)
}
