//! Lists in pages, of what the caller may see.

use super::{
    call::{Answer, Call, Caller, Query},
    names, reply, watches,
};
use crate::{Objects, objects::Listed};
use tutti_api::wire::Page;
use tutti_model::{
    DomainName, Problem, Resource, ServiceRef, deployment::DeploymentSpec, domain::DomainSpec,
    instance::InstanceSpec, limits, node::NodeSpec, resource::Object, route::RouteSpec, service::ServiceSpec,
    table::TableSpec, token::TokenSpec, version::VersionSpec, zone::ZoneSpec,
};

/// How objects of a kind belong to domains and services.
pub(super) trait Visible: Object {
    /// The domain it lives in; `None` for what belongs to the platform, which only admins see.
    fn domain(object: &Resource<Self>) -> Option<DomainName>;

    /// The service it belongs to.
    fn service(object: &Resource<Self>) -> Option<ServiceRef>;

    /// What the names of all objects in a scope begin with.
    fn prefix(_scope: &Scope) -> String {
        String::new()
    }

    /// Takes out what is never shown.
    fn redact(_object: &mut Resource<Self>) {}
}

/// Which objects are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Those of this domain.
    pub(super) domain: Option<DomainName>,
    /// Those of this service.
    pub(super) service: Option<ServiceRef>,
}

impl Scope {
    /// Whether an object is in it.
    pub(super) fn has<S: Visible>(&self, object: &Resource<S>) -> bool {
        let domain = self.domain.as_ref().is_none_or(|domain| S::domain(object).as_ref() == Some(domain));
        domain && self.service.as_ref().is_none_or(|service| S::service(object).as_ref() == Some(service))
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

            fn prefix(scope: &Scope) -> String {
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

of_platform!(NodeSpec, ZoneSpec);

impl Visible for TokenSpec {
    fn domain(_: &Resource<Self>) -> Option<DomainName> {
        None
    }

    fn service(_: &Resource<Self>) -> Option<ServiceRef> {
        None
    }

    fn redact(object: &mut Resource<Self>) {
        object.spec.hash.clear();
    }
}

/// Ids say nothing of where they belong.
fn any(_: &Scope) -> String {
    String::new()
}

fn service_prefix(scope: &Scope) -> String {
    match scope {
        Scope { service: Some(service), .. } => service.to_string(),
        Scope { domain: Some(domain), .. } => format!("{domain}:"),
        _ => String::new(),
    }
}

fn version_prefix(scope: &Scope) -> String {
    match &scope.service {
        Some(service) => format!("{service}@"),
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
    let prefix = S::prefix(scope);
    let mut after = after.map(ToOwned::to_owned);
    let mut found: Listed<S> = Listed { items: Vec::new(), revision: 0, more: false };
    loop {
        let chunk = objects.page::<S>(&prefix, after.as_deref(), Some(limits::PAGE_SIZE)).await?;
        // A watch from the first chunk's revision misses nothing of the later ones.
        if found.revision == 0 {
            found.revision = chunk.revision;
        }
        after = chunk.items.last().map(|object| object.name.clone());
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
            return Ok(found);
        }
    }
}

/// Every object of a scope, whatever number.
pub(super) async fn all<S: Visible>(objects: &Objects, scope: &Scope) -> Result<Vec<Resource<S>>, Problem> {
    Ok(page::<S>(objects, scope, None, usize::MAX).await?.items)
}

/// The scope that a query asks for, within what the caller sees. `None` is nothing at all: another's domain looks like
/// an empty one.
async fn scope(call: &Call) -> Result<Option<Scope>, Problem> {
    let mut scope = Scope { domain: call.caller.only_domain().cloned(), service: None };
    if let Some(text) = call.query.get("domain") {
        let domain: DomainName = text.parse()?;
        if !call.caller.sees(&domain) {
            return Ok(None);
        }
        scope.domain = Some(domain);
    }
    if let Some(text) = call.query.get("service") {
        match names::service(&call.app, &call.caller, &text.parse()?).await {
            Ok(service) if scope.domain.as_ref().is_none_or(|domain| *domain == service.domain) => {
                scope.service = Some(service);
            }
            Ok(_) => return Ok(None),
            Err(problem) => return Err(problem),
        }
    }
    if let Caller::Bearer { domain: None, .. } = &call.caller
        && !call.caller.is_admin()
    {
        return Ok(None);
    }
    Ok(Some(scope))
}

fn limit(query: &Query) -> Result<usize, Problem> {
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
    let scope = scope(&call).await?;
    if call.query.get("watch").is_some() {
        return watches::answer::<S>(&call, scope).await;
    }
    let limit = limit(&call.query)?;
    let Some(scope) = scope else {
        let revision = call.app.objects.store().revision().await.map_err(Problem::from)?;
        return Ok(reply::ok(&Page::<Resource<S>> { items: Vec::new(), cursor: None, revision }));
    };
    let found = page::<S>(&call.app.objects, &scope, call.query.get("cursor"), limit).await?;
    let last = found.items.last().map(|object| object.name.clone());
    Ok(reply::ok(&Page { items: found.items, cursor: last.filter(|_| found.more), revision: found.revision }))
}
