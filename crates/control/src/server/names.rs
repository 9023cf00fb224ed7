//! Finding what people name, seeing only what the caller may see: a name in another's domain is answered exactly like
//! one that is not there.

use super::{
    App,
    call::Caller,
    lists::{Scope, Visible, page},
};
use crate::Objects;
use std::collections::BTreeSet;
use tutti_model::{
    DomainName, ErrorCode, Problem, Resource, ServiceRef, VersionRef,
    claim::AliasSpec,
    domain::DomainSpec,
    name::{ServiceText, VersionText},
    nearest::nearest,
    resource::Object,
};
use tutti_store::List;

/// How often a change is decided anew because the object had changed meanwhile. Each time someone else got through,
/// so this many in a row mean a stampede.
pub(super) const ATTEMPTS: usize = 8;
/// Names that are compared to find the nearest one.
const NEAREST_AMONG: usize = 500;

/// The conflict after [`ATTEMPTS`].
pub(super) fn busy(kind: &str, name: &str) -> Problem {
    Problem::conflict(format!("{kind} \"{name}\" kept changing while this was done"))
        .object(format!("{kind} {name}"))
        .hint("try again")
}

/// The service that `text` names, in the longest domain that fits its package and that the caller sees.
///
/// # Errors
/// `not_found` if its domain is not registered, or not seen by the caller; `invalid` if it does not say its domain.
pub(super) async fn service(app: &App, caller: &Caller, text: &ServiceText) -> Result<ServiceRef, Problem> {
    find_service(app, caller, text, |_| true).await
}

/// The version that `text` names.
///
/// # Errors
/// As for [`service`].
pub(super) async fn version(app: &App, caller: &Caller, text: &VersionText) -> Result<VersionRef, Problem> {
    Ok(service(app, caller, &text.service).await?.at(text.version.clone()))
}

/// As [`service`], for who wants to change it: the longest domain wins that the caller may deploy to, and only if there
/// is none the longest that it sees, whose refusal says what is missing.
///
/// # Errors
/// As for [`service`].
pub(super) async fn own_service(
    app: &App,
    caller: &Caller,
    text: &ServiceText,
) -> Result<ServiceRef, Problem> {
    find_service(app, caller, text, |domain| caller.deploys_in(domain)).await
}

async fn find_service(
    app: &App,
    caller: &Caller,
    text: &ServiceText,
    preferred: impl Fn(&DomainName) -> bool,
) -> Result<ServiceRef, Problem> {
    let mut seen = None;
    for candidate in candidates(text).into_iter().rev() {
        let Some(domain) = registered(app, caller, &candidate).await? else { continue };
        let found = ServiceRef { domain, service: text.service.clone() };
        if preferred(&found.domain) {
            return Ok(found);
        }
        seen.get_or_insert(found);
    }
    match seen {
        Some(found) => Ok(found),
        // For the hint, and only then, all that the caller sees.
        None => text.resolve(&seen_domains(app, caller).await?),
    }
}

/// The domain of this name, or whose alias it is, if the caller sees it.
async fn registered(app: &App, caller: &Caller, name: &DomainName) -> Result<Option<DomainName>, Problem> {
    if caller.sees(name) && app.objects.find::<DomainSpec>(name.as_str()).await?.is_some() {
        return Ok(Some(name.clone()));
    }
    let alias = app.objects.find::<AliasSpec>(name.as_str()).await?;
    Ok(alias.map(|alias| alias.spec.domain).filter(|domain| caller.sees(domain)))
}

/// The domain of this name, if it is there and the caller sees it.
///
/// # Errors
/// `not_found`, with the nearest.
pub(super) async fn existing_domain(
    app: &App,
    caller: &Caller,
    domain: &DomainName,
) -> Result<Resource<DomainSpec>, Problem> {
    if caller.sees(domain)
        && let Some(found) = app.objects.find::<DomainSpec>(domain.as_str()).await?
    {
        return Ok(found);
    }
    Err(missing::<DomainSpec>(app, caller, domain.as_str()).await)
}

/// The registered domain that a host lies in: the longest of which it is the name, an alias, or a subdomain of these.
pub(super) async fn domain_of_host(objects: &Objects, host: &str) -> Result<Option<DomainName>, Problem> {
    let mut rest = Some(host);
    while let Some(suffix) = rest {
        if let Ok(domain) = suffix.parse::<DomainName>() {
            if objects.find::<DomainSpec>(domain.as_str()).await?.is_some() {
                return Ok(Some(domain));
            }
            if let Some(alias) = objects.find::<AliasSpec>(domain.as_str()).await? {
                return Ok(Some(alias.spec.domain));
            }
        }
        rest = suffix.split_once('.').map(|(_, rest)| rest);
    }
    Ok(None)
}

/// The problem of an object that is not there for this caller, with the nearest name it sees.
pub(super) async fn missing<S: Visible>(app: &App, caller: &Caller, name: &str) -> Problem {
    let problem = Problem::not_found(S::KIND, name);
    // A version is looked for among its service's, a service among its domain's.
    let (service, _) = name.split_once('@').unwrap_or((name, ""));
    let parsed: Option<ServiceRef> =
        service.parse().ok().filter(|service: &ServiceRef| caller.sees(&service.domain));
    let scope = match parsed {
        Some(service) if name.contains('@') => Scope::of_service(service),
        Some(service) => Scope { domain: Some(service.domain), ..Scope::default() },
        None => S::seen(caller),
    };
    let seen = page::<S>(&app.objects, &scope, None, NEAREST_AMONG).await;
    let names: Vec<String> =
        seen.map(|page| page.items.into_iter().map(|object| object.name).collect()).unwrap_or_default();
    match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
        None => problem.hint(format!("see what there is: tutti {} list", S::KIND)),
    }
}

/// Refuses one more object where there are `most` already.
pub(super) async fn room_for<S: Object>(
    objects: &Objects,
    prefix: &str,
    most: usize,
    what: &str,
) -> Result<(), Problem> {
    let list = List { limit: Some(most), ..List::prefix(objects.key::<S>(prefix)) };
    if objects.store().list(list).await?.entries.len() < most {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::QuotaExceeded, format!("there are {most} {what} already, which is the most"))
        .hint(format!("delete some with: tutti {} delete", S::KIND)))
}

/// The domains that a service may be in: the given one, or those its package may mean.
fn candidates(text: &ServiceText) -> Vec<DomainName> {
    if let Some(domain) = &text.domain {
        return vec![domain.clone()];
    }
    let parts: Vec<&str> = text.service.as_str().split('.').collect();
    let package = parts.split_last().map_or(&[][..], |(_, package)| package);
    (2..=package.len())
        .filter_map(|length| {
            let labels: Vec<&str> = package.iter().take(length).rev().copied().collect();
            labels.join(".").parse().ok()
        })
        .collect()
}

async fn seen_domains(app: &App, caller: &Caller) -> Result<BTreeSet<DomainName>, Problem> {
    let seen = page::<DomainSpec>(&app.objects, &Scope::seen(caller), None, NEAREST_AMONG).await?;
    Ok(seen.items.iter().filter_map(|domain| domain.name.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_may_mean_any_of_its_prefixes() {
        let names = |text: &str| {
            candidates(&text.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("com.example.shop.Cart"), ["example.com", "shop.example.com"]);
        assert_eq!(names("example.com:web"), ["example.com"]);
        assert!(names("web").is_empty());
        assert!(names("com.Cart").is_empty());
    }
}
