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

/// The service that `text` names.
///
/// # Errors
/// `not_found` if its domain is not registered, or not seen by the caller; `invalid` if it does not say its domain.
pub(super) async fn service(app: &App, caller: &Caller, text: &ServiceText) -> Result<ServiceRef, Problem> {
    let mut registered = BTreeSet::new();
    for domain in candidates(text) {
        if caller.sees(&domain) && app.objects.find::<DomainSpec>(domain.as_str()).await?.is_some() {
            registered.insert(domain);
        }
    }
    match text.resolve(&registered) {
        Ok(service) => Ok(service),
        // For the hint, and only then, all that the caller sees.
        Err(_) => text.resolve(&seen_domains(app, caller).await?),
    }
}

/// The version that `text` names.
///
/// # Errors
/// As for [`service`].
pub(super) async fn version(app: &App, caller: &Caller, text: &VersionText) -> Result<VersionRef, Problem> {
    Ok(service(app, caller, &text.service).await?.at(text.version.clone()))
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

/// The registered domain that a host lies in: the longest of which it is the name or a subdomain.
pub(super) async fn domain_of_host(objects: &Objects, host: &str) -> Result<Option<DomainName>, Problem> {
    let mut rest = Some(host);
    while let Some(suffix) = rest {
        if let Ok(domain) = suffix.parse::<DomainName>()
            && objects.find::<DomainSpec>(domain.as_str()).await?.is_some()
        {
            return Ok(Some(domain));
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
        Some(service) if name.contains('@') => Scope { domain: None, service: Some(service) },
        Some(service) => Scope { domain: Some(service.domain), service: None },
        None => Scope { domain: caller.only_domain().cloned(), service: None },
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
    let scope = Scope { domain: caller.only_domain().cloned(), service: None };
    let seen = page::<DomainSpec>(&app.objects, &scope, None, NEAREST_AMONG).await?;
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
