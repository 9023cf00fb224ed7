//! Lists in pages, of what the caller may see.

use super::{
    call::{Answer, Call, Caller, Query},
    names, reply, watches,
};
use crate::{Objects, objects::Listed};
use std::collections::BTreeSet;
use tutti_api::wire::Page;
use tutti_model::{
    DomainName, Problem, Resource, ServiceRef, UserName,
    claim::ClaimSpec,
    cluster::MemberSpec,
    deployment::DeploymentSpec,
    domain::DomainSpec,
    instance::InstanceSpec,
    limits,
    node::NodeSpec,
    pool::PoolSpec,
    resource::Object,
    route::RouteSpec,
    service::ServiceSpec,
    table::TableSpec,
    token::{Role, TokenSpec},
    user::UserSpec,
    version::VersionSpec,
    zone::ZoneSpec,
};

/// How objects of a kind belong to domains and services.
pub(super) trait Visible: Object {
    /// Whether a watch that begins anew tells all there is.
    const TOLD_ANEW: bool = true;

    /// The domain it lives in; `None` for what belongs to the platform, which only admins see.
    fn domain(object: &Resource<Self>) -> Option<DomainName>;

    /// The service it belongs to.
    fn service(object: &Resource<Self>) -> Option<ServiceRef>;

    /// The user whose own affair it is.
    fn user(_object: &Resource<Self>) -> Option<&UserName> {
        None
    }

    /// What the names of all objects in a scope begin with, in order.
    fn prefixes(_scope: &Scope) -> Vec<String> {
        vec![String::new()]
    }

    /// All that a caller sees of this kind.
    fn seen(caller: &Caller) -> Scope {
        Scope::seen(caller)
    }

    /// Takes out what is never shown.
    fn redact(_object: &mut Resource<Self>) {}
}

/// What a list was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Those of this domain.
    domain: Option<DomainName>,
    /// Those of this service.
    service: Option<ServiceRef>,
}

/// Which objects are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Those of this domain.
    pub(super) domain: Option<DomainName>,
    /// Those of this service.
    pub(super) service: Option<ServiceRef>,
    /// Of these only those in one of these domains, or of this user; `None` for all.
    pub(super) within: Option<(BTreeSet<DomainName>, Option<UserName>)>,
}

impl Scope {
    /// Everything of this service.
    pub(super) fn of_service(service: ServiceRef) -> Scope {
        Scope { service: Some(service), ..Scope::default() }
    }

    /// All that a caller sees.
    pub(super) fn seen(caller: &Caller) -> Scope {
        let user = caller.user().map(|(user, _)| user.clone());
        let within = caller.domains().map(|domains| (domains.into_keys().collect(), user));
        Scope { within, ..Scope::default() }
    }

    /// What was asked for, as far as a caller sees it. `None` is nothing at all: another's domain looks like an empty
    /// one.
    pub(super) fn of<S: Visible>(asked: &Asked, caller: &Caller) -> Option<Scope> {
        let service = asked.service.as_ref().map(|service| &service.domain);
        if asked.domain.iter().chain(service).any(|domain| !caller.sees(domain)) {
            return None;
        }
        let mut scope =
            Scope { domain: asked.domain.clone(), service: asked.service.clone(), ..S::seen(caller) };
        // What is wanted lies in one domain that is seen: no other needs to be looked through.
        if scope.domain.is_some() || scope.service.is_some() {
            scope.within = None;
        }
        Some(scope)
    }

    /// Whether an object is in it.
    pub(super) fn has<S: Visible>(&self, object: &Resource<S>) -> bool {
        let of = S::domain(object);
        let domain = self.domain.as_ref().is_none_or(|domain| of.as_ref() == Some(domain));
        let service =
            || self.service.as_ref().is_none_or(|service| S::service(object).as_ref() == Some(service));
        let seen = || match &self.within {
            None => true,
            Some((domains, user)) => {
                of.as_ref().is_some_and(|of| domains.contains(of))
                    || user.as_ref().is_some_and(|user| S::user(object) == Some(user))
            }
        };
        domain && service() && seen()
    }

    /// Whether everything is.
    pub(super) fn is_everything(&self) -> bool {
        *self == Scope::default()
    }
}

impl Visible for DomainSpec {
    fn domain(domain: &Resource<Self>) -> Option<DomainName> {
        domain.name.parse().ok()
    }

    fn service(_: &Resource<Self>) -> Option<ServiceRef> {
        None
    }

    fn prefixes(scope: &Scope) -> Vec<String> {
        match (&scope.domain, &scope.within) {
            (Some(domain), _) => vec![domain.to_string()],
            (None, Some((domains, _))) => domains.iter().map(ToString::to_string).collect(),
            (None, None) => vec![String::new()],
        }
    }
}

/// Kinds whose objects each belong to one service.
macro_rules! of_services {
    ($($spec:ty: |$object:ident| $service:expr, $prefix:expr;)*) => {$(
        impl Visible for $spec {
            fn domain(object: &Resource<Self>) -> Option<DomainName> {
                Self::service(object).map(|service| service.domain)
            }

            fn service($object: &Resource<Self>) -> Option<ServiceRef> {
                Some($service.clone())
            }

            fn prefixes(scope: &Scope) -> Vec<String> {
                $prefix(scope)
            }
        }
    )*};
}

of_services! {
    ServiceSpec: |object| object.spec.service, service_prefix;
    VersionSpec: |object| object.spec.version.service, version_prefix;
    DeploymentSpec: |object| object.spec.service, any;
    InstanceSpec: |object| object.spec.version.service, any;
    RouteSpec: |object| object.spec.service, any;
    TableSpec: |object| object.spec.service, service_prefix;
}

/// Kinds that belong to the platform.
macro_rules! of_platform {
    ($($spec:ty),*) => {$(
        impl Visible for $spec {
            fn domain(_: &Resource<Self>) -> Option<DomainName> {
                None
            }

            fn service(_: &Resource<Self>) -> Option<ServiceRef> {
                None
            }
        }
    )*};
}

of_platform!(NodeSpec, PoolSpec, ZoneSpec, UserSpec, MemberSpec);

impl Visible for TokenSpec {
    fn domain(token: &Resource<Self>) -> Option<DomainName> {
        match token.spec.user {
            Some(_) => None,
            None => token.spec.domain.clone(),
        }
    }

    fn service(_: &Resource<Self>) -> Option<ServiceRef> {
        None
    }

    fn user(token: &Resource<Self>) -> Option<&UserName> {
        token.spec.user.as_ref()
    }

    /// A domain's tokens are its owners' affair.
    fn seen(caller: &Caller) -> Scope {
        let mut scope = Scope::seen(caller);
        if let Some((domains, _)) = &mut scope.within {
            domains.retain(|domain| caller.role_in(domain) == Some(Role::Owner));
        }
        scope
    }

    fn redact(object: &mut Resource<Self>) {
        object.spec.hash.clear();
    }
}

impl Visible for ClaimSpec {
    /// It is nobody's yet.
    fn domain(_: &Resource<Self>) -> Option<DomainName> {
        None
    }

    fn service(_: &Resource<Self>) -> Option<ServiceRef> {
        None
    }

    fn user(claim: &Resource<Self>) -> Option<&UserName> {
        claim.spec.user.as_ref()
    }

    fn prefixes(scope: &Scope) -> Vec<String> {
        match &scope.within {
            Some((_, Some(user))) => vec![format!("{user}/")],
            _ => vec![String::new()],
        }
    }
}

/// Ids say nothing of where they belong.
fn any(_: &Scope) -> Vec<String> {
    vec![String::new()]
}

fn service_prefix(scope: &Scope) -> Vec<String> {
    match (&scope.service, &scope.domain, &scope.within) {
        (Some(service), _, _) => vec![service.to_string()],
        (None, Some(domain), _) => vec![format!("{domain}:")],
        (None, None, Some((domains, _))) => {
            let mut prefixes: Vec<String> = domains.iter().map(|domain| format!("{domain}:")).collect();
            prefixes.sort();
            prefixes
        }
        (None, None, None) => vec![String::new()],
    }
}

fn version_prefix(scope: &Scope) -> Vec<String> {
    match &scope.service {
        Some(service) => vec![format!("{service}@")],
        None => service_prefix(scope),
    }
}

/// One page of a scope: objects after the name `after`, at most `limit`. `more` says whether others follow.
pub(super) async fn page<S: Visible>(
    objects: &Objects,
    scope: &Scope,
    after: Option<&str>,
    limit: usize,
) -> Result<Listed<S>, Problem> {
    let mut after = after.map(ToOwned::to_owned);
    let mut found: Listed<S> = Listed { items: Vec::new(), revision: 0, more: false };
    for prefix in S::prefixes(scope) {
        loop {
            let chunk = objects.page::<S>(&prefix, after.as_deref(), Some(limits::PAGE_SIZE)).await?;
            // A watch from the first chunk's revision misses nothing of the later ones.
            if found.revision == 0 {
                found.revision = chunk.revision;
            }
            // Across prefixes too: what one of them covers, a longer one after it does not give again.
            after = chunk.items.last().map(|object| object.name.clone()).or(after);
            for mut object in chunk.items {
                if !scope.has(&object) {
                    continue;
                }
                if found.items.len() >= limit {
                    found.more = true;
                    return Ok(found);
                }
                S::redact(&mut object);
                found.items.push(object);
            }
            if !chunk.more {
                break;
            }
        }
    }
    if found.revision == 0 {
        found.revision = objects.store().revision().await.map_err(Problem::from)?;
    }
    Ok(found)
}

/// Every object of a scope, whatever number.
pub(super) async fn all<S: Visible>(objects: &Objects, scope: &Scope) -> Result<Vec<Resource<S>>, Problem> {
    Ok(page::<S>(objects, scope, None, usize::MAX).await?.items)
}

/// What a query asks for. Who asks for a domain that is not seen gets nothing, as of one that is empty.
pub(super) async fn asked(call: &Call) -> Result<Asked, Problem> {
    let mut asked = Asked::default();
    if let Some(text) = call.query.get("domain") {
        asked.domain = Some(text.parse()?);
    }
    if let Some(text) = call.query.get("service")
        && asked.domain.as_ref().is_none_or(|domain| call.caller.sees(domain))
    {
        asked.service = Some(names::service(&call.app, &call.caller, &text.parse()?).await?);
    }
    Ok(asked)
}

/// How many objects a page may have at most.
pub(super) fn limit(query: &Query) -> Result<usize, Problem> {
    let limit: Option<usize> = query.read("limit", "a number")?;
    match limit {
        None => Ok(limits::PAGE_SIZE),
        Some(limit) if (1..=limits::PAGE_SIZE).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::invalid(format!(
            "query parameter limit: {limit} is not from 1 to {}",
            limits::PAGE_SIZE
        ))),
    }
}

/// `GET /v1/PLURAL`: a page, or a watch.
pub(super) async fn list<S: Visible>(call: Call) -> Answer {
    let asked = asked(&call).await?;
    if call.query.get("watch").is_some() {
        return watches::answer::<S>(&call, asked).await;
    }
    let scope = Scope::of::<S>(&asked, &call.caller);
    let limit = limit(&call.query)?;
    let Some(scope) = scope else {
        let revision = call.app.objects.store().revision().await.map_err(Problem::from)?;
        return Ok(reply::ok(&Page::<Resource<S>> { items: Vec::new(), cursor: None, revision }));
    };
    let found = page::<S>(&call.app.objects, &scope, call.query.get("cursor"), limit).await?;
    let last = found.items.last().map(|object| object.name.clone());
    Ok(reply::ok(&Page { items: found.items, cursor: last.filter(|_| found.more), revision: found.revision }))
}
