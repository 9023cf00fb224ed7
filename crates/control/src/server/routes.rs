//! Routes: whose host is whose.

use super::{
    call::{Answer, Call},
    names, reply, services,
    subject::Subject,
};
use crate::Objects;
use tutti_api::wire::CreateRoute;
use tutti_model::{
    DomainName, ErrorCode, Problem,
    route::{RouteMatch, RouteSpec},
    service::ServiceSpec,
};
use tutti_plan::handdown::automatic_host;

/// Most routes of the platform; each stands in a table that every ingress holds.
const ROUTES: usize = 50_000;

/// `POST /v1/routes`
pub(super) async fn create(call: Call) -> Answer {
    let request: CreateRoute = call.json()?;
    let (app, name) = (&call.app, call.service()?);
    let objects = &app.objects;
    if !call.caller.is_admin() {
        own_host(&call, &request.r#match, &name.domain).await?;
    }
    not_automatic(&call, &request.r#match).await?;
    names::room_for::<RouteSpec>(objects, "", ROUTES, "routes").await?;
    for _ in 0..names::ATTEMPTS {
        let service = services::existing(app, &call.caller, name).await?;
        services::not_going(&service)?;
        let spec = RouteSpec { r#match: request.r#match.clone(), service: name.clone() };
        if let Some(there) = objects.find::<RouteSpec>(&request.r#match.to_string()).await? {
            return if there.spec == spec {
                Ok(reply::ok(&there))
            } else {
                Err(taken(&call, &there.spec).into())
            };
        }
        let mut route = objects.make(request.r#match.to_string(), spec);
        if let Some(revision) = objects.write().create(&route).unchanged(&service).commit().await? {
            route.revision = revision;
            return Ok(reply::created(&route));
        }
    }
    Err(names::busy("service", &name.to_string()).into())
}

/// The problem of a route that leads elsewhere. Where to is for those who see it.
fn taken(call: &Call, there: &RouteSpec) -> Problem {
    let problem = Problem::already_exists("route", &there.r#match);
    if call.caller.sees(&there.service.domain) {
        return Problem { detail: format!("{}, to {}", problem.detail, there.service), ..problem }
            .hint(format!("delete it first: tutti route delete {}", there.r#match));
    }
    problem.hint("ask an admin")
}

/// Whoever is not an admin routes hosts of the own domain only, which is the longest registered one that the host
/// lies in.
async fn own_host(call: &Call, route: &RouteMatch, own: &DomainName) -> Result<(), Problem> {
    let host = route.host.as_str();
    let suffixes = &call.app.host_suffixes;
    let inner =
        suffixes.iter().find_map(|suffix| host.strip_suffix(suffix)?.strip_suffix('.')).unwrap_or(host);
    if names::domain_of_host(&call.app.objects, inner).await?.as_ref() == Some(own) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::Forbidden, format!("host \"{host}\" is not in {own}"))
        .hint(format!("route a host such as shop.{own}, or ask an admin")))
}

/// Hosts that services have by themselves cannot be taken.
async fn not_automatic(call: &Call, route: &RouteMatch) -> Result<(), Problem> {
    for suffix in &call.app.host_suffixes {
        let inner = route.host.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.'));
        let Some((_, domain)) = inner.and_then(|inner| inner.split_once('.')) else { continue };
        let Ok(domain) = domain.parse::<DomainName>() else { continue };
        if let Some(owner) = automatic_owner(&call.app.objects, &domain, suffix, &route.host).await? {
            let problem = Problem::already_exists("route", &route.host);
            return Err(if call.caller.sees(&domain) {
                Problem { detail: format!("host \"{}\" is {owner}'s own", route.host), ..problem }
                    .hint("choose another host")
            } else {
                problem.hint("choose another host")
            });
        }
    }
    Ok(())
}

async fn automatic_owner(
    objects: &Objects,
    domain: &DomainName,
    suffix: &str,
    host: &str,
) -> Result<Option<String>, Problem> {
    let services = objects.list::<ServiceSpec>(&format!("{domain}:")).await?;
    let owner =
        services.items.into_iter().find(|service| automatic_host(&service.spec.service, suffix) == host);
    Ok(owner.map(|service| service.name))
}

/// `GET /v1/routes/{name}`
pub(super) async fn get(call: Call) -> Answer {
    match &call.subject {
        Subject::Route(route) => Ok(reply::ok(route)),
        _ => Err(Problem::internal("get_route is not about a route").into()),
    }
}

/// `DELETE /v1/routes/{name}`
pub(super) async fn delete(call: Call) -> Answer {
    let Subject::Route(route) = &call.subject else {
        return Err(Problem::internal("delete_route is not about a route").into());
    };
    match call.app.objects.write().delete(route).commit().await? {
        Some(_) => Ok(reply::no_content()),
        // A route never changes, so it has gone meanwhile.
        None => Err(Problem::not_found("route", &route.name).into()),
    }
}
