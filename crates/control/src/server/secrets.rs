//! Secrets: set, told of, removed. No operation of a user's gives a value; nodes have one of their own ([`crate::zone`]).

use super::{
    App,
    call::{Answer, Call, Caller},
    lists::{Scope, Visible, all},
    names, reply, services, versions,
};
use crate::{
    objects::Write,
    secrets::{identity, key_of_all},
};
use tutti_api::wire::SetSecret;
use tutti_model::{
    DomainName, ErrorCode, Problem, Resource, ServiceRef, limits,
    secret::{SecretRef, SecretSpec, SecretStatus},
    version::VersionSpec,
};
use zeroize::Zeroizing;

impl Visible for SecretSpec {
    fn domain(secret: &Resource<Self>) -> Option<DomainName> {
        Some(secret.spec.secret.domain.clone())
    }

    fn service(_: &Resource<Self>) -> Option<ServiceRef> {
        None
    }

    fn prefixes(scope: &Scope) -> Vec<String> {
        match (&scope.domain, &scope.within) {
            (Some(domain), _) => vec![format!("{domain}:")],
            (None, Some((domains, _))) => {
                let mut prefixes: Vec<String> = domains.iter().map(|domain| format!("{domain}:")).collect();
                prefixes.sort();
                prefixes
            }
            (None, None) => vec![String::new()],
        }
    }

    fn redact(object: &mut Resource<Self>) {
        object.spec.sealed.clear();
    }
}

/// As it is shown.
fn shown(mut secret: Resource<SecretSpec>) -> Resource<SecretSpec> {
    SecretSpec::redact(&mut secret);
    secret
}

async fn existing(app: &App, caller: &Caller, secret: &SecretRef) -> Result<Resource<SecretSpec>, Problem> {
    match app.objects.find::<SecretSpec>(&secret.to_string()).await? {
        Some(found) => Ok(found),
        None => Err(names::missing::<SecretSpec>(app, caller, &secret.to_string()).await),
    }
}

/// `GET /v1/secrets/{name}`
pub(super) async fn get(call: Call) -> Answer {
    Ok(reply::ok(&shown(existing(&call.app, &call.caller, call.secret()?).await?)))
}

/// The value that a body asks for. What is wrong with a body is said without a word of it.
fn value(body: &[u8]) -> Result<Zeroizing<String>, Problem> {
    let read: Result<SetSecret, _> = serde_json::from_slice(body);
    let value = match read {
        Ok(set) => Zeroizing::new(set.value),
        Err(_) => {
            return Err(Problem::invalid("the body cannot be read: it is not {\"value\": TEXT}")
                .hint("a value is text in UTF-8; encode bytes as base64"));
        }
    };
    if value.len() > limits::SECRET_VALUE_BYTES {
        return Err(Problem::new(
            ErrorCode::QuotaExceeded,
            format!("the value has {} bytes, more than {}", value.len(), limits::SECRET_VALUE_BYTES),
        ));
    }
    if value.contains('\0') {
        return Err(Problem::invalid("the value has a zero byte, which no environment variable can have"));
    }
    Ok(value)
}

/// `PUT /v1/secrets/{name}`: makes it, or replaces its value.
pub(super) async fn set(call: Call) -> Answer {
    let (app, name) = (&call.app, call.secret()?.clone());
    let value = value(&call.body)?;
    let object = format!("secret {name}");
    for _ in 0..names::ATTEMPTS {
        let domain = names::existing_domain(app, &call.caller, &name.domain).await?;
        let found = app.objects.find::<SecretSpec>(&name.to_string()).await?;
        if found.is_none() {
            let prefix = format!("{}:", name.domain);
            let most = limits::SECRETS_PER_DOMAIN;
            names::room_for::<SecretSpec>(&app.objects, &prefix, most, "secrets in this domain").await?;
        }
        // One key for all: else one of them would be lost with each key.
        let key = key_of_all(&app.objects, &app.keyring).await.map_err(|problem| Problem {
            detail: format!("{object} cannot be set: {}", problem.detail),
            object: Some(object.clone()),
            ..problem
        })?;
        let is_new = found.is_none();
        let mut secret = found.unwrap_or_else(|| {
            let spec = SecretSpec { secret: name.clone(), sealed: String::new() };
            let mut new = app.objects.make(name.to_string(), spec);
            new.generation = 0;
            new
        });
        secret.spec.sealed = key.seal(&identity(&secret), value.as_bytes())?;
        secret.generation += 1;
        secret.status = SecretStatus { changed_at: app.objects.clock().now(), changed_by: who(&call.caller) };
        // Its domain is touched by a new one, so that it cannot go meanwhile.
        let write = app.objects.write();
        let write = match is_new {
            true => write.update(&domain).create(&secret),
            false => write.update(&secret),
        };
        if let Some(revision) = write.commit().await? {
            secret.revision = revision;
            let secret = shown(secret);
            return Ok(if is_new { reply::created(&secret) } else { reply::ok(&secret) });
        }
    }
    Err(names::busy("secret", &name.to_string()).into())
}

/// How a caller is told of later.
fn who(caller: &Caller) -> String {
    match caller.user() {
        Some((user, _)) => format!("user {user}"),
        None => format!("token {}", caller.token()),
    }
}

/// `DELETE /v1/secrets/{name}`
pub(super) async fn delete(call: Call) -> Answer {
    let (app, name) = (&call.app, call.secret()?.clone());
    for _ in 0..names::ATTEMPTS {
        // Read before the versions that name it: a deployment writes it, so that one that begins meanwhile is noticed.
        let secret = existing(app, &call.caller, &name).await?;
        if let Some(version) = needed_by(app, &call.caller, &name).await? {
            return Err(Problem::conflict(format!(
                "secret \"{name}\" is named by version {version}, which is deployed or what a rollback returns to"
            ))
            .object(secret.object())
            .hint(format!(
                "deploy a version of {} that does not name it, or delete the service first",
                version.service
            ))
            .into());
        }
        if app.objects.write().delete(&secret).commit().await?.is_some() {
            return Ok(reply::no_content());
        }
    }
    Err(names::busy("secret", &name.to_string()).into())
}

/// A version that names a secret and is in use.
async fn needed_by(
    app: &App,
    caller: &Caller,
    secret: &SecretRef,
) -> Result<Option<tutti_model::VersionRef>, Problem> {
    let scope = Scope { domain: Some(secret.domain.clone()), ..Scope::default() };
    for version in all::<VersionSpec>(&app.objects, &scope).await? {
        if !version.spec.manifest.secrets.values().any(|named| *named == secret.name) {
            continue;
        }
        let version = version.spec.version;
        let service = services::existing(app, caller, &version.service).await?;
        if versions::used(app, &version, &service).await?.is_some() {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// Adds to the transaction that deploys a version that every secret it names is there. Each is written as it is, so that
/// its deletion, which looks for such versions first, cannot go by this one unseen.
///
/// # Errors
/// `conflict`, naming what is missing and how it is set; `unavailable` without the key that they are sealed under;
/// `quota_exceeded` for secrets that are too large together.
pub(super) async fn admit(
    app: &App,
    write: Write,
    version: &Resource<VersionSpec>,
) -> Result<Write, Problem> {
    let mut write = write;
    let (mut bytes, mut missing, mut last) = (0usize, Vec::new(), None);
    let named: std::collections::BTreeSet<_> = version.spec.manifest.secrets.values().collect();
    for name in named {
        let secret = SecretRef { domain: version.spec.version.service.domain.clone(), name: name.clone() };
        match app.objects.find::<SecretSpec>(&secret.to_string()).await? {
            Some(found) => {
                bytes = bytes.saturating_add(found.spec.sealed.len());
                write = write.update(&found);
                last = Some(found);
            }
            None => missing.push(secret),
        }
    }
    if let Some(first) = missing.first() {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let what = if names.len() == 1 { "a secret that does" } else { "secrets that do" };
        return Err(Problem::conflict(format!(
            "version \"{}\" names {what} not exist: {}",
            version.name,
            names.join(", ")
        ))
        .object(version.object())
        .hint(format!("set it first: tutti secret set {first} --file FILE")));
    }
    if bytes > limits::SECRETS_BYTES {
        return Err(Problem::new(
            ErrorCode::QuotaExceeded,
            format!(
                "the secrets of version \"{}\" take {} KiB together, more than {}",
                version.name,
                bytes.div_ceil(1024),
                limits::SECRETS_BYTES / 1024
            ),
        )
        .object(version.object()));
    }
    // All are under one key: one that opens says that all do.
    if let Some(secret) = last {
        app.keyring.open(&secret.object(), &identity(&secret), &secret.spec.sealed).await?;
    }
    Ok(write)
}
