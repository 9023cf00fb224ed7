//! The way of every request, and the table of handlers.

use super::{
    App, audit, audits,
    call::{Answer, Call, Caller, Handler, Query},
    claims, debug, deployments, dns, domains, events, explain, grpc, joins, lists, logs, machines, members,
    metrics, nodes, pools, preload, quotas, registry, replay,
    reply::{REQUEST_ID, Refusal},
    routes, secrets,
    serve::PeerAddress,
    services, status,
    subject::{self, Subject},
    system, tokens, users, versions, zone,
};
use crate::author::{self, Author};
use axum::{
    Router,
    body::Body,
    extract::{RawPathParams, Request, rejection::RawPathParamsRejection},
    response::Response,
    routing::any,
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tutti_api::operations::{OPERATIONS, Operation, Right, is_replayed, operation};
use tutti_api::zone::REPORT_BYTES;
use tutti_base::sha256::Hasher;
use tutti_model::{
    ErrorCode, Problem, claim::ClaimSpec, cluster::MemberSpec, deployment::DeploymentSpec,
    domain::DomainSpec, instance::InstanceSpec, limits, nearest::nearest, node::NodeSpec, pool::PoolSpec,
    route::RouteSpec, secret::SecretSpec, service::ServiceSpec, table::TableSpec, token::TokenSpec,
    user::UserSpec, version::VersionSpec, zone::ZoneSpec,
};

/// Longest time from a request's head to its answer's; streams go on after it. Several store transactions and a slow
/// client's megabyte fit, and it is over before the client of this release gives up.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(25);
/// Largest answer that is held whole: a full page of the largest objects would be larger, but is never replayed.
pub(super) const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Requests that are done at once; further ones wait their turn within their time. With the largest bodies they take
/// 256 MiB.
pub(super) const REQUESTS: usize = 256;

/// Requests of nodes and ingresses that are done at once. With the largest reports they take 256 MiB as well; one takes
/// about a millisecond, so that a zone's few hundred a second do not wait.
pub(super) const NODE_REQUESTS: usize = 32;

/// Every handler by its operation.
#[rustfmt::skip]
pub(super) static HANDLERS: &[(&str, Handler)] = &[
    ("health", |call| Box::pin(system::health(call))),
    ("release", |call| Box::pin(system::release(call))),
    ("openapi", |call| Box::pin(system::openapi(call))),
    ("metrics", |call| Box::pin(metrics::answer(call))),
    ("whoami", |call| Box::pin(system::whoami(call))),
    ("status", |call| Box::pin(status::status(call))),
    ("explain", |call| Box::pin(explain::answer(call))),
    ("logs", |call| Box::pin(logs::read(call))),
    ("list_domains", |call| Box::pin(lists::list::<DomainSpec>(call))),
    ("create_domain", |call| Box::pin(domains::create(call))),
    ("get_domain", |call| Box::pin(domains::get(call))),
    ("delete_domain", |call| Box::pin(domains::delete(call))),
    ("get_quota", |call| Box::pin(quotas::get(call))),
    ("change_quota", |call| Box::pin(quotas::change(call))),
    ("verify_domain", |call| Box::pin(claims::verify(call))),
    ("add_alias", |call| Box::pin(domains::add_alias(call))),
    ("remove_alias", |call| Box::pin(domains::remove_alias(call))),
    ("invite_member", |call| Box::pin(members::invite(call))),
    ("set_member", |call| Box::pin(members::set(call))),
    ("remove_member", |call| Box::pin(members::remove(call))),
    ("leave_domain", |call| Box::pin(members::leave(call))),
    ("list_claims", |call| Box::pin(lists::list::<ClaimSpec>(call))),
    ("delete_claim", |call| Box::pin(claims::delete(call))),
    ("list_invitations", |call| Box::pin(members::invitations(call))),
    ("accept_invitation", |call| Box::pin(members::accept(call))),
    ("decline_invitation", |call| Box::pin(members::decline(call))),
    ("list_users", |call| Box::pin(lists::list::<UserSpec>(call))),
    ("create_user", |call| Box::pin(users::create(call))),
    ("get_user", |call| Box::pin(users::get(call))),
    ("delete_user", |call| Box::pin(users::delete(call))),
    ("list_services", |call| Box::pin(lists::list::<ServiceSpec>(call))),
    ("create_service", |call| Box::pin(services::create(call))),
    ("get_service", |call| Box::pin(services::get(call))),
    ("delete_service", |call| Box::pin(services::delete(call))),
    ("service_summary", |call| Box::pin(status::summary(call))),
    ("scale_service", |call| Box::pin(services::scale(call))),
    ("rollback_service", |call| Box::pin(deployments::rollback(call))),
    ("list_versions", |call| Box::pin(lists::list::<VersionSpec>(call))),
    ("create_version", |call| Box::pin(versions::create(call))),
    ("get_version", |call| Box::pin(versions::get(call))),
    ("delete_version", |call| Box::pin(versions::delete(call))),
    ("preload_version", |call| Box::pin(preload::preload(call))),
    ("list_deployments", |call| Box::pin(lists::list::<DeploymentSpec>(call))),
    ("create_deployment", |call| Box::pin(deployments::create(call))),
    ("get_deployment", |call| Box::pin(deployments::get(call))),
    ("pause_deployment", |call| Box::pin(deployments::pause(call))),
    ("resume_deployment", |call| Box::pin(deployments::resume(call))),
    ("promote_deployment", |call| Box::pin(deployments::promote(call))),
    ("abort_deployment", |call| Box::pin(deployments::abort(call))),
    ("list_instances", |call| Box::pin(lists::list::<InstanceSpec>(call))),
    ("get_instance", |call| Box::pin(nodes::get_instance(call))),
    ("list_routes", |call| Box::pin(lists::list::<RouteSpec>(call))),
    ("create_route", |call| Box::pin(routes::create(call))),
    ("get_route", |call| Box::pin(routes::get(call))),
    ("delete_route", |call| Box::pin(routes::delete(call))),
    ("list_secrets", |call| Box::pin(lists::list::<SecretSpec>(call))),
    ("get_secret", |call| Box::pin(secrets::get(call))),
    ("set_secret", |call| Box::pin(secrets::set(call))),
    ("delete_secret", |call| Box::pin(secrets::delete(call))),
    ("list_nodes", |call| Box::pin(lists::list::<NodeSpec>(call))),
    ("get_node", |call| Box::pin(nodes::get(call))),
    ("cordon_node", |call| Box::pin(nodes::cordon(call))),
    ("change_node", |call| Box::pin(nodes::change(call))),
    ("list_pools", |call| Box::pin(lists::list::<PoolSpec>(call))),
    ("get_pool", |call| Box::pin(pools::get(call))),
    ("set_pool", |call| Box::pin(pools::set(call))),
    ("delete_pool", |call| Box::pin(pools::delete(call))),
    ("list_audit", |call| Box::pin(audits::list(call))),
    ("debug_reconcilers", |call| Box::pin(debug::reconcilers(call))),
    ("debug_log", |call| Box::pin(debug::log(call))),
    ("list_events", |call| Box::pin(events::list(call))),
    ("list_machines", |call| Box::pin(machines::list(call))),
    ("get_machine", |call| Box::pin(machines::get(call))),
    ("list_zones", |call| Box::pin(lists::list::<ZoneSpec>(call))),
    ("list_tables", |call| Box::pin(lists::list::<TableSpec>(call))),
    ("list_tokens", |call| Box::pin(lists::list::<TokenSpec>(call))),
    ("create_token", |call| Box::pin(tokens::create(call))),
    ("delete_token", |call| Box::pin(tokens::delete(call))),
    ("create_join_token", |call| Box::pin(joins::create_token(call))),
    ("join", |call| Box::pin(joins::join(call))),
    ("list_members", |call| Box::pin(lists::list::<MemberSpec>(call))),
    ("delete_member", |call| Box::pin(joins::delete(call))),
    ("watch_zone_members", |call| Box::pin(joins::watch(call))),
    ("tell_figures", |call| Box::pin(zone::tell_figures(call))),
    ("read_cluster_key", |call| Box::pin(joins::read_key(call))),
    ("renew_certificate", |call| Box::pin(joins::renew(call))),
    ("watch_zone_tables", |call| Box::pin(zone::watch_tables(call))),
    ("watch_zone_nodes", |call| Box::pin(zone::watch_nodes(call))),
    ("watch_zone_hosts", |call| Box::pin(dns::watch_hosts(call))),
    ("watch_zone_ingresses", |call| Box::pin(dns::watch_ingresses(call))),
    ("report_dns", |call| Box::pin(dns::report(call))),
    ("watch_zone_node", |call| Box::pin(zone::watch_node(call))),
    ("watch_node_instances", |call| Box::pin(zone::watch_instances(call))),
    ("register_node", |call| Box::pin(zone::register_node(call))),
    ("heartbeat_node", |call| Box::pin(zone::heartbeat_node(call))),
    ("report_instances", |call| Box::pin(zone::report_instances(call))),
    ("report_ingress", |call| Box::pin(zone::report_ingress(call))),
    ("leave_ingress", |call| Box::pin(zone::leave_ingress(call))),
    ("read_instance_secrets", |call| Box::pin(zone::read_instance_secrets(call))),
    ("read_blob", |call| Box::pin(zone::read_blob(call))),
];

/// The operation that the registry's routes serve; it has no handler of its own.
pub(super) const REGISTRY: &str = "registry";

/// Routes by the table of operations.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    let paths: BTreeSet<&'static str> = OPERATIONS
        .iter()
        .filter(|operation| operation.id != REGISTRY)
        .map(|operation| operation.path)
        .collect();
    for path in paths {
        let app = app.clone();
        let served = move |names: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
            let app = app.clone();
            async move { answer(&app, Target::Path(path, names), request).await }
        };
        router = router.route(path, any(served));
    }
    for operation in OPERATIONS {
        for method in operation.grpc {
            let app = app.clone();
            let served = move |request: Request| {
                let app = app.clone();
                async move { grpc::answer(&app, operation, method, request).await }
            };
            router = router.route(method, any(served));
        }
    }
    for path in ["/v2", "/v2/", "/v2/{*rest}"] {
        let app = app.clone();
        let served = move |request: Request| {
            let app = app.clone();
            async move { answer(&app, Target::Registry, request).await }
        };
        router = router.route(path, any(served));
    }
    router.fallback(move |request: Request| {
        let app = app.clone();
        async move {
            match grpc::is_grpc(request.headers()) {
                true => grpc::unknown(request.uri().path()),
                false => answer(&app, Target::Unknown, request).await,
            }
        }
    })
}

/// What a request's path is.
enum Target {
    Path(&'static str, Result<RawPathParams, RawPathParamsRejection>),
    Registry,
    Unknown,
}

/// Answers one request, whatever happens.
async fn answer(app: &Arc<App>, target: Target, request: Request) -> Response {
    let request_id = format!("{:016x}", app.objects.random().bits());
    let doing = AssertUnwindSafe(route(app, target, request, &request_id)).catch_unwind();
    let answer = doing.await.unwrap_or_else(|_| {
        tracing::error!(request_id, "a handler panicked");
        Err(Problem::internal("the request met a fault in Tutti")
            .hint(format!("look for {request_id} in the log of tutti, and please report it"))
            .into())
    });
    let mut response = answer.unwrap_or_else(|refusal| {
        if refusal.problem.code == ErrorCode::Internal {
            tracing::error!(request_id, problem = %refusal.problem, "request failed");
        }
        refusal.response(&request_id)
    });
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn route(app: &Arc<App>, target: Target, request: Request, request_id: &str) -> Answer {
    match target {
        Target::Path(path, names) => operate(app, path, names, request, request_id).await,
        Target::Registry => registry::answer(app, request, request_id).await,
        Target::Unknown => Err(unknown(request.uri().path()).into()),
    }
}

/// One operation, from its request to its answer.
async fn operate(
    app: &Arc<App>,
    path: &'static str,
    names: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    request_id: &str,
) -> Answer {
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let served = OPERATIONS.iter().find(|operation| operation.path == path && operation.method == *method);
    let Some(operation) = served else { return Ok(not_allowed(path, request.method(), request_id)) };
    let (parts, body) = request.into_parts();
    let now = app.objects.clock().now();
    let caller = match operation.right {
        Right::Public => Caller::Anonymous,
        Right::Join => joins::identify(app, &parts).await?,
        _ => app.identity.identify(&parts.headers, &parts.extensions, now).await?,
    };
    subject::check_member(operation, &caller)?;
    let names = names.map_err(|_| {
        Problem::invalid("the path cannot be read: a name in it is not UTF-8 in percent-encoding")
    })?;
    let names: Vec<String> = names.iter().map(|(_, name)| name.to_owned()).collect();
    let mut object = names.join(" ");
    let whole = async {
        // Who is not known can send what they like: nobody waits for it, and it takes nobody's turn.
        let (_place, _turn, body) = match caller {
            Caller::Anonymous => (None, None, Bytes::new()),
            Caller::Bearer(_) | Caller::Machine | Caller::Joining(_) | Caller::Member { .. } => {
                // Before its body is waited for, so that a token cannot take a node's turn.
                let (turns, place, most) = match operation.right {
                    Right::Node => {
                        subject::check_node(operation, &caller, &names)?;
                        (&app.node_requests, None, REPORT_BYTES)
                    }
                    _ => {
                        let place = app.under_way.open(&caller.account())?;
                        (&app.requests, Some(place), limits::API_BODY_BYTES)
                    }
                };
                let turn = turns.acquire().await;
                let turn = turn.map_err(|_| Problem::unavailable("the API is ending"))?;
                (place, Some(turn), read_body(body, &parts.headers, most).await?)
            }
        };
        let query = Query::parse(operation, &parts.uri)?;
        let from = peer_address(&parts.extensions);
        let plain = Plain { headers: &parts.headers, names, query, body, from, request_id };
        perform(app, operation, &caller, plain, &mut object).await
    };
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, whole).await.unwrap_or_else(|_| {
        let seconds = REQUEST_TIMEOUT.as_secs();
        Err(Problem::new(ErrorCode::Timeout, format!("{} was not done within {seconds} s", operation.id))
            .into())
    });
    if audit::is_noted(operation) {
        audit::note(request_id, &caller, operation.id, &object, status_of(&answer));
    }
    answer
}

/// A request for an operation, read whole.
pub(super) struct Plain<'a> {
    pub(super) headers: &'a http::HeaderMap,
    /// The path's names, decoded, in the template's order.
    pub(super) names: Vec<String>,
    pub(super) query: Query,
    pub(super) body: Bytes,
    /// The address that it came from.
    pub(super) from: Option<String>,
    pub(super) request_id: &'a str,
}

/// The address that a connection came from; `None` over the control socket.
pub(super) fn peer_address(extensions: &http::Extensions) -> Option<String> {
    extensions.get::<PeerAddress>().map(|from| from.0.to_string())
}

/// Does an operation for a caller who is known: his right, the remembered answer, the handler. `object` becomes what it
/// is about, for the audit, once that is known.
pub(super) async fn perform(
    app: &Arc<App>,
    operation: &'static Operation,
    caller: &Caller,
    plain: Plain<'_>,
    object: &mut String,
) -> Answer {
    let handler = HANDLERS.iter().find(|(id, _)| *id == operation.id).map(|(_, handler)| *handler);
    let Some(handler) = handler else {
        return Err(Problem::internal(format!("operation {} has no handler", operation.id)).into());
    };
    let Plain { headers, names, query, body, from, request_id } = plain;
    let subject = subject::authorize(app, operation, caller, &names, &query, &body).await?;
    if !matches!(subject, Subject::Platform) {
        *object = subject.object();
    }
    let key = replay::key(headers)?.filter(|_| is_replayed(operation));
    let author = audit::is_recorded(operation).then(|| Author {
        who: caller.token().to_owned(),
        user: caller.user().map(|(user, _)| user.clone()),
        from,
        request: request_id.to_owned(),
        operation: operation.id,
        object: (!matches!(subject, Subject::Platform)).then(|| subject.object()),
        domain: subject.domain(),
    });
    let call = Call { app: app.clone(), operation, caller: caller.clone(), names, query, body, subject };
    author::on_behalf(author, async {
        match key {
            Some(key) => once(app, key, call, handler).await,
            None => handler(call).await,
        }
    })
    .await
}

pub(super) fn status_of(answer: &Answer) -> StatusCode {
    match answer {
        Ok(response) => response.status(),
        Err(refusal) => StatusCode::from_u16(refusal.problem.code.http_status()).unwrap_or_default(),
    }
}

/// Does a request that names itself, or gives the answer it had.
async fn once(app: &Arc<App>, key: String, call: Call, handler: Handler) -> Answer {
    let mut request = Hasher::default();
    for part in [call.operation.id.as_bytes(), call.names.join("\n").as_bytes(), &call.body] {
        request.update(part);
        request.update(&[0]);
    }
    let clock = app.objects.clock().clone();
    match app.replays.begin(&call.caller.account(), key, &request.finish(), clock.now())? {
        replay::Known::Answered(response) => Ok(response),
        replay::Known::New(doing) => Ok(doing.answered(handler(call).await?, clock.now()).await),
    }
}

/// The whole body, within its bound.
async fn read_body(body: Body, headers: &http::HeaderMap, most: usize) -> Result<Bytes, Problem> {
    let too_long = || Problem::new(ErrorCode::QuotaExceeded, format!("the body is longer than {most} bytes"));
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > most) {
        return Err(too_long());
    }
    axum::body::to_bytes(body, most).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        match source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
            true => too_long(),
            false => Problem::invalid("the body ended before it was whole"),
        }
    })
}

/// 405, with the methods that the path does take.
fn not_allowed(path: &str, method: &Method, request_id: &str) -> Response {
    let methods: Vec<&str> = OPERATIONS
        .iter()
        .filter(|operation| operation.path == path)
        .map(|operation| operation.method.as_str())
        .collect();
    let allowed = methods.join(", ");
    let problem =
        Problem::invalid(format!("{path} does not take {method}")).hint(format!("it takes {allowed}"));
    let mut response = Refusal::from(problem).response(request_id);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// 404, with the nearest path there is.
fn unknown(path: &str) -> Problem {
    let shown: String = path.chars().take(200).collect();
    let problem = Problem::new(ErrorCode::NotFound, format!("there is no path \"{shown}\" in this API"));
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let alike = OPERATIONS.iter().filter_map(|operation| {
        let template: Vec<&str> = operation.path.split('/').collect();
        (template.len() == segments.len()).then(|| {
            let filled: Vec<&str> = template
                .iter()
                .zip(&segments)
                .map(|(part, given)| if part.starts_with('{') { *given } else { *part })
                .collect();
            filled.join("/")
        })
    });
    let alike: BTreeSet<String> = alike.collect();
    let bounded = path.len() <= limits::STORE_KEY_BYTES;
    match nearest(path.trim_end_matches('/'), alike.iter().filter(|_| bounded).map(String::as_str)) {
        Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
        None => problem.hint("every path is in /v1/openapi.json"),
    }
}

/// The operation behind the registry's routes.
pub(super) fn registry_operation() -> Result<&'static Operation, Problem> {
    operation(REGISTRY).ok_or_else(|| Problem::internal("the registry is not among the operations"))
}
