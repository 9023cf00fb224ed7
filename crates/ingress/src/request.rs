//! What happens to one request: whose it is, where it goes, and what its answer says.

mod answer;
mod forward;
mod reflection;

use crate::{
    Edge,
    balance::{Served, Service},
};
use http::{HeaderName, HeaderValue, Request, Response, Uri, header::HOST, uri::Authority};
use std::{borrow::Cow, net::Ipv4Addr, sync::Arc};
use tutti_base::Body;
use tutti_model::{ErrorCode, Problem, route::RouteMatch};
use tutti_proxy::{Caller, ConnInfo, Failure, headers};

/// Fields that only we may set.
const OWN_PREFIX: &str = "tutti-";
const TUTTI_SERVICE: HeaderName = HeaderName::from_static("tutti-service");

/// Answers one request.
pub(crate) async fn handle(edge: Arc<Edge>, mut request: Request<Body>, info: ConnInfo) -> Response<Body> {
    let caller = Caller::of(request.headers());
    let host = settle_host(&mut request);
    let version = request.version();
    headers::strip_request(request.headers_mut(), version);
    strip_own(&mut request);
    info.client.stamp(request.headers_mut(), "http");
    let id = edge.identities.stamp(request.headers_mut());
    let answered = match host {
        Ok(host) => serve(&edge, caller, &host, request).await,
        Err(problem) => Err(problem.into()),
    };
    match answered {
        Ok(response) => response,
        Err(failure) => {
            edge.own.failure(failure.problem.code);
            failure.respond(caller, id.to_str().ok())
        }
    }
}

async fn serve(
    edge: &Arc<Edge>,
    caller: Caller,
    host: &HeaderValue,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let host = String::from_utf8_lossy(host.as_bytes());
    let path = request.uri().path();
    if let Some(service) = edge.tables.find(&host, path) {
        return send(edge, caller, &host, service, request).await;
    }
    if matches!(caller, Caller::Grpc) && reflection::is_for(path) {
        let services = edge.tables.sharing(&host);
        if !services.is_empty() {
            return Ok(reflection::answer(edge, &host, services, request));
        }
    }
    if !edge.tables.are_known() {
        return Err(Failure::overloaded("this ingress has not been told yet which services there are"));
    }
    Err(unknown(&host, path).into())
}

/// Sends a request to a service.
async fn send(
    edge: &Edge,
    caller: Caller,
    host: &str,
    service: Arc<Service>,
    mut request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    request.headers_mut().insert(TUTTI_SERVICE, service.header.clone());
    match &service.backend {
        Served::Versions(_) => forward::to_instance(edge, caller, host, service, request).await,
        Served::Upstreams(addresses, counters) => {
            forward::to_upstream(edge, caller, &service, addresses, counters, request).await
        }
        Served::Nothing(reason) => Err(Failure::overloaded(reason.clone())),
    }
}

fn unknown(host: &str, path: &str) -> Problem {
    // What a stranger sent is quoted in part only.
    let short = |text: &str| text.chars().filter(|letter| !letter.is_control()).take(100).collect::<String>();
    Problem::new(
        ErrorCode::NotFound,
        format!("no service takes requests for host \"{}\", path \"{}\"", short(host), short(path)),
    )
    .hint(match routable(host) {
        Some(host) => format!("add a route with: tutti route create {host}[/PATH] SERVICE"),
        None => format!(
            "name a service's host, which tutti status shows, as in: curl -H 'Host: HOST' http://{}",
            short(host)
        ),
    })
}

/// The host as a route would name it; `None` for what no route is made for: an address, this machine itself, nonsense.
fn routable(host: &str) -> Option<String> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let route: RouteMatch = name.parse().ok()?;
    let is_plain = !name.contains(['/', '*']);
    let is_place = name.parse::<Ipv4Addr>().is_ok() || route.host == "localhost";
    (is_plain && !is_place).then_some(route.host)
}

/// Finds whom a request is for: `Host`, else `:authority`, else the absolute target. Where two of them differ it could
/// be understood one way here and another way behind us, so it is refused. Leaves the target in origin form and `Host`
/// set.
fn settle_host(request: &mut Request<Body>) -> Result<HeaderValue, Problem> {
    let mut hosts = request.headers().get_all(HOST).into_iter();
    let (host, second) = (hosts.next().cloned(), hosts.next());
    if second.is_some() {
        return Err(Problem::invalid("the request names its host twice"));
    }
    let authority = request.uri().authority().map(|authority| bare(authority).into_owned());
    if request.uri().scheme().is_some() || authority.is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    let host = match (host, authority) {
        (Some(host), Some(authority)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            return Err(Problem::invalid("the request's target and its host field name different hosts"));
        }
        (Some(host), _) => host,
        (None, Some(authority)) => {
            let host = HeaderValue::try_from(authority)
                .map_err(|_| Problem::invalid("the request's target names no valid host"))?;
            request.headers_mut().insert(HOST, host.clone());
            host
        }
        (None, None) => return Err(Problem::invalid("the request does not say which host it is for")),
    };
    if host.is_empty() {
        return Err(Problem::invalid("the request's host is empty"));
    }
    Ok(host)
}

/// Host and port; names and passwords of users are not part of a host field.
fn bare(authority: &Authority) -> Cow<'_, str> {
    match authority.as_str().rsplit_once('@') {
        Some((_, bare)) => Cow::Borrowed(bare),
        None => Cow::Borrowed(authority.as_str()),
    }
}

/// Removes what only we may say.
fn strip_own(request: &mut Request<Body>) {
    let headers = request.headers_mut();
    let forged: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(OWN_PREFIX)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}
