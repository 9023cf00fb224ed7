//! Domains: made, shown, given other names, removed. How somebody proves that one is theirs is in [`super::claims`].

use super::{
    App,
    call::{Answer, Call, Caller},
    claims, names, reply,
};
use crate::objects::Write;
use tutti_api::wire::{AddAlias, CreateDomain};
use tutti_model::{
    DomainName, ErrorCode, Kind, Problem, Resource, UserName,
    claim::AliasSpec,
    domain::{DomainSpec, Ownership},
    quota::QuotaSpec,
    secret::SecretSpec,
    service::ServiceSpec,
};
use tutti_store::{Compare, List};

/// Most domains of one platform.
const DOMAINS: usize = 10_000;
/// Most domains that one user belongs to: each makes a look at what they see longer.
const DOMAINS_PER_USER: usize = 256;

/// `POST /v1/domains`. An admin who vouches has it at once. Anybody else gets a claim, be there such a domain or not:
/// who has not proved anything learns nothing.
pub(super) async fn create(call: Call) -> Answer {
    let request: CreateDomain = call.json()?;
    if !(call.caller.is_admin() && call.app.vouch) {
        return claims::begin(&call, &request.name, None).await;
    }
    let domain =
        add(&call.app, &request.name, DomainSpec::default(), Ownership::Vouched, |write| write).await?;
    Ok(reply::created(&domain))
}

/// Makes a domain, with whatever else the transaction is to do.
///
/// # Errors
/// `already_exists`, also for what is another's alias; `conflict` if what else was compared has changed.
pub(super) async fn add(
    app: &App,
    name: &DomainName,
    spec: DomainSpec,
    ownership: Ownership,
    also: impl Fn(Write) -> Write,
) -> Result<Resource<DomainSpec>, Problem> {
    let objects = &app.objects;
    for _ in 0..names::ATTEMPTS {
        free(app, name).await?;
        names::room_for::<DomainSpec>(objects, "", DOMAINS, "domains").await?;
        let mut domain = objects.make(name.as_str(), spec.clone());
        domain.status.ownership = ownership;
        let write =
            objects.write().create(&domain).when(Compare::Absent(objects.key::<AliasSpec>(name.as_str())));
        if let Some(revision) = also(write).commit().await? {
            domain.revision = revision;
            app.identity.reached::<DomainSpec>(revision).await?;
            return Ok(domain);
        }
    }
    Err(names::busy("domain", name.as_str()))
}

/// Refuses a name that is a domain's or an alias already: for those who vouch for it, or have proved it.
pub(super) async fn free(app: &App, name: &DomainName) -> Result<(), Problem> {
    let taken = |what: String| {
        Problem::new(ErrorCode::AlreadyExists, format!("domain \"{name}\" {what}"))
            .object(format!("domain {name}"))
            .hint("ask its owners for an invitation, or an admin for help")
    };
    if app.objects.find::<DomainSpec>(name.as_str()).await?.is_some() {
        return Err(taken("already exists".to_owned()));
    }
    match app.objects.find::<AliasSpec>(name.as_str()).await? {
        Some(alias) => Err(taken(format!("is an alias of {} already", alias.spec.domain))),
        None => Ok(()),
    }
}

/// Refuses a user one more domain beyond the most.
pub(super) async fn room_for_user(app: &App, user: &UserName) -> Result<(), Problem> {
    let entries = app.identity.entries(user).await?;
    if entries.values().filter(|member| member.is_confirmed()).count() < DOMAINS_PER_USER {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::QuotaExceeded,
        format!("you are a member of {DOMAINS_PER_USER} domains already, which is the most"),
    )
    .hint("leave some with: tutti domain leave"))
}

/// `GET /v1/domains/{name}`
pub(super) async fn get(call: Call) -> Answer {
    Ok(reply::ok(call.domain()?))
}

/// `DELETE /v1/domains/{name}`
pub(super) async fn delete(call: Call) -> Answer {
    let objects = &call.app.objects;
    for _ in 0..names::ATTEMPTS {
        let domain = names::existing_domain(&call.app, &call.caller, &call.name().parse()?).await?;
        // A new service touches its domain, so that none appears between this look and the deletion.
        let prefix = objects.key::<ServiceSpec>(&format!("{}:", domain.name));
        let list = List { limit: Some(1), ..List::prefix(prefix) };
        let services = objects.store().list(list).await.map_err(Problem::from)?;
        if let Some(service) = services.entries.first() {
            let service = crate::objects::decode::<ServiceSpec>(service)?;
            return Err(Problem::conflict(format!(
                "domain \"{}\" still has service {}",
                domain.name, service.name
            ))
            .object(domain.object())
            .hint(format!("delete its services first: tutti service delete {}", service.name))
            .into());
        }
        // What comes under this name later must not be given them.
        if let Some(secret) =
            objects.page::<SecretSpec>(&format!("{}:", domain.name), None, Some(1)).await?.items.first()
        {
            return Err(Problem::conflict(format!(
                "domain \"{}\" still has {}",
                domain.name,
                secret.object()
            ))
            .object(domain.object())
            .hint(format!("delete its secrets first: tutti secret delete {}", secret.name))
            .into());
        }
        let write = objects.write().delete(&domain);
        let mut write = match objects.find::<QuotaSpec>(&domain.name).await? {
            Some(quota) => write.delete(&quota),
            None => write.when(Compare::Absent(objects.key::<QuotaSpec>(&domain.name))),
        };
        for alias in &domain.spec.aliases {
            if let Some(reserved) = objects.find::<AliasSpec>(alias.as_str()).await? {
                write = write.delete(&reserved);
            }
        }
        if let Some(revision) = write.commit().await? {
            call.app.identity.reached::<DomainSpec>(revision).await?;
            return Ok(reply::no_content());
        }
    }
    Err(names::busy("domain", call.name()).into())
}

/// Changes the domain that a call is about, deciding anew if it had changed meanwhile. The change holds for the next
/// request and for what goes on.
pub(super) async fn change(
    call: &Call,
    decide: impl Fn(&mut DomainSpec) -> Result<(), Problem>,
    also: impl Fn(Write) -> Write,
) -> Result<Resource<DomainSpec>, Problem> {
    let name = call.domain()?.name.parse()?;
    for _ in 0..names::ATTEMPTS {
        let domain = names::existing_domain(&call.app, &call.caller, &name).await?;
        // Another one of the same name is not what the right was checked for.
        if domain.uid != call.domain()?.uid {
            break;
        }
        if let Some(changed) = commit(&call.app, domain, &decide, &also).await? {
            return Ok(changed);
        }
    }
    Err(names::busy("domain", name.as_str()))
}

/// Writes what `decide` makes of a domain; `None` if it had changed meanwhile.
pub(super) async fn commit(
    app: &App,
    domain: Resource<DomainSpec>,
    decide: impl Fn(&mut DomainSpec) -> Result<(), Problem>,
    also: impl Fn(Write) -> Write,
) -> Result<Option<Resource<DomainSpec>>, Problem> {
    let mut changed = domain.clone();
    decide(&mut changed.spec).map_err(|problem| match problem.object {
        Some(_) => problem,
        None => problem.object(domain.object()),
    })?;
    if changed.spec == domain.spec {
        return Ok(Some(domain));
    }
    changed.generation += 1;
    let Some(revision) = also(app.objects.write().update(&changed)).commit().await? else { return Ok(None) };
    changed.revision = revision;
    app.identity.reached::<DomainSpec>(revision).await?;
    Ok(Some(changed))
}

/// `POST /v1/domains/{name}/aliases`
pub(super) async fn add_alias(call: Call) -> Answer {
    let alias = call.json::<AddAlias>()?.alias;
    let domain = call.domain()?;
    if domain.spec.aliases.contains(&alias) {
        return Ok(reply::ok(domain));
    }
    let name: DomainName = domain.name.parse()?;
    if name == alias {
        return Err(Problem::invalid(format!("\"{alias}\" is the domain itself")).into());
    }
    // Refused now rather than after the proof.
    domain.spec.clone().add_alias(&alias)?;
    if !(call.caller.is_admin() && call.app.vouch) {
        return claims::begin(&call, &alias, Some(&name)).await;
    }
    free(&call.app, &alias).await?;
    let reserved = call.app.objects.make(alias.as_str(), AliasSpec { domain: name });
    let changed =
        change(&call, |spec| spec.add_alias(&alias), |write| reserve(&call.app, write, &reserved)).await?;
    Ok(reply::created(&changed))
}

/// Adds to a transaction that a name is an alias from now on, and nobody else's.
pub(super) fn reserve(app: &App, write: Write, alias: &Resource<AliasSpec>) -> Write {
    let key = app.objects.key::<DomainSpec>(&alias.name);
    write.create(alias).when(Compare::Absent(key))
}

/// `DELETE /v1/domains/{name}/aliases/{alias}`
pub(super) async fn remove_alias(call: Call) -> Answer {
    let text = call.names.get(1).map_or("", String::as_str);
    let alias: DomainName = text.parse()?;
    let reserved = call.app.objects.find::<AliasSpec>(alias.as_str()).await?;
    let changed = change(
        &call,
        |spec| {
            let before = spec.aliases.len();
            spec.aliases.retain(|known| *known != alias);
            if spec.aliases.len() < before {
                return Ok(());
            }
            Err(Problem::not_found(Kind::Alias, &alias).hint("see what there is: tutti domain show DOMAIN"))
        },
        |write| match &reserved {
            Some(reserved) => write.delete(reserved),
            None => write,
        },
    )
    .await?;
    Ok(reply::ok(&changed))
}

/// The user who calls.
///
/// # Errors
/// `forbidden` for a token that is no user's: what is a user's own to do, nobody else can.
pub(super) fn user<'a>(call: &'a Call, what: &str) -> Result<&'a (UserName, tutti_model::Uid), Problem> {
    let narrowed = matches!(&call.caller, Caller::Bearer(bearer) if bearer.narrowed);
    match call.caller.user() {
        Some(_) if narrowed => Err(Problem::new(
            ErrorCode::Forbidden,
            format!("{what} is for the whole user; token \"{}\" is narrowed", call.caller.token()),
        )
        .hint("use a token of yours that is not narrowed")),
        Some(user) => Ok(user),
        None => Err(Problem::new(
            ErrorCode::Forbidden,
            format!("{what} is for users; token \"{}\" is no user's", call.caller.token()),
        )
        .hint("use a user's token: an admin makes one with tutti user create")),
    }
}
