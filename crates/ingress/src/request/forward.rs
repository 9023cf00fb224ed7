//! The ways on: to an instance by weight and load, or to a plain upstream in turn.

use super::answer;
use crate::{
    Edge,
    balance::{Address, Place, Served, Service, in_turn, pick},
    stats::Counters,
};
use http::{HeaderName, Request, Response};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tutti_base::Body;
use tutti_model::InstanceId;
use tutti_proxy::{Caller, Failure, ForwardError, HopError, Protocol, Timeouts, upload};

/// Endpoints that one request is sent to at most, each after the one before surely did not take it. Three cover a table
/// that is behind by a node; more would only burden what is left.
const ATTEMPTS: usize = 3;
/// Longest wait for the first byte of a plain upstream's answer: that of a manifest that says nothing else.
const UPSTREAM_FIRST_BYTE: Duration = Duration::from_secs(30);
const TUTTI_VERSION: HeaderName = HeaderName::from_static("tutti-version");

/// Sends a request to an instance of the version whose turn it is. One that is refused goes elsewhere by the newest table
/// there is: it may have waited in line for so long that every instance of the one it began with is gone. All attempts
/// together have the time of one.
pub(super) async fn to_instance(
    edge: &Edge,
    caller: Caller,
    host: &str,
    mut service: Arc<Service>,
    request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let turn = service.lasting.turns.next();
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let (body, progress) = upload::Progress::watch(&parts.headers, body);
    let mut request = Request::from_parts(parts, body);
    let mut tried: Vec<InstanceId> = Vec::new();
    let mut refused: Option<(Arc<Counters>, HopError)> = None;
    while tried.len() < ATTEMPTS {
        let Served::Versions(versions) = &service.backend else { break };
        let Some((version, place)) = pick(versions, turn, &tried, || edge.clock.now()) else { break };
        let mut limit = version.timeout.duration();
        if refused.is_some() {
            limit = limit.saturating_sub(began.elapsed());
            if limit.is_zero() {
                break;
            }
            edge.own.retry();
        }
        let (running, busy) = (version.counters.start(), place.load.enter());
        request.headers_mut().insert(TUTTI_VERSION, version.header.clone());
        let answered = edge.hop.send(&place.node, &place.target, request);
        // Leaving the future ends the request at the other side.
        let answered = upload::within(limit, progress.as_ref(), answered).await;
        let error = match answered.unwrap_or(Err(HopError::Timeout(version.timeout))) {
            Ok(response) => {
                let mut response = answer::finish(response, caller, began.elapsed(), running, busy);
                answer::name(&mut response, &service, Some((version, place)));
                return Ok(response);
            }
            Err(error) => error,
        };
        drop((running, busy));
        let (again, error) = undelivered(edge, place, error);
        let Some(untouched) = again else {
            version.counters.answer(began.elapsed(), true);
            return Err(Failure::from(&error));
        };
        request = untouched;
        tried.push(place.target.instance.clone());
        refused = Some((Arc::clone(&version.counters), error));
        let newest = edge.tables.find(host, request.uri().path());
        if let Some(newest) = newest.filter(|newest| newest.name == service.name) {
            service = newest;
        }
    }
    match (refused, &service.backend) {
        (Some((counters, error)), _) => {
            counters.answer(began.elapsed(), true);
            Err(Failure::from(&error))
        }
        (None, Served::Nothing(reason)) => Err(Failure::overloaded(reason.clone())),
        (None, _) => {
            Err(Failure::overloaded(format!("no instance of service {} takes requests now", service.name)))
        }
    }
}

/// Takes the request out of an error that has it still, and notes what the error says of the endpoint.
fn undelivered(edge: &Edge, place: &Place, error: HopError) -> (Option<Request<Body>>, HopError) {
    let nothing = || Box::new(Request::new(tutti_base::body::empty()));
    match error {
        HopError::Misdirected { reason, request } => {
            tracing::debug!(instance = %place.target.instance, node = %place.node, reason, "a request was refused; sending it elsewhere");
            place.load.leave_out(edge.clock.now());
            edge.resync.notify_one();
            (Some(*request), HopError::Misdirected { reason, request: nothing() })
        }
        HopError::Overloaded { reason, request } => {
            (Some(*request), HopError::Overloaded { reason, request: nothing() })
        }
        error => (None, error),
    }
}

/// Sends a request to the plain upstream whose turn it is, or to the next one that can be connected to.
pub(super) async fn to_upstream(
    edge: &Edge,
    caller: Caller,
    service: &Service,
    addresses: &[Address],
    counters: &Arc<Counters>,
    mut request: Request<Body>,
) -> Result<Response<Body>, Failure> {
    let turn = service.lasting.turns.next();
    let began = Instant::now();
    let running = counters.start();
    let timeouts = Timeouts { first_byte: UPSTREAM_FIRST_BYTE, ..Timeouts::default() };
    let protocol = Protocol::of(request.headers());
    let mut failure = None;
    for address in in_turn(addresses, turn, || edge.clock.now()).take(ATTEMPTS) {
        if failure.is_some() {
            edge.own.retry();
        }
        let resolved = match edge.resolver.resolve(&address.upstream.host, address.upstream.port).await {
            Ok(resolved) => resolved,
            Err(error) => {
                address.load.leave_out(edge.clock.now());
                failure = Some(Failure::bad_gateway(format!("upstream {}: {error}", address.upstream)));
                continue;
            }
        };
        let busy = address.load.enter();
        match send_to_any(edge, &resolved, protocol, request, &timeouts).await {
            Ok(response) => {
                let mut response = answer::finish(response, caller, began.elapsed(), running, busy);
                answer::name(&mut response, service, None);
                return Ok(response);
            }
            Err(error) => {
                failure = Some(Failure::from(&error));
                if matches!(error, ForwardError::Connect { .. }) {
                    address.load.leave_out(edge.clock.now());
                }
                match error.into_request() {
                    Some(untouched) => request = untouched,
                    None => break,
                }
            }
        }
    }
    counters.answer(began.elapsed(), true);
    Err(failure.unwrap_or_else(|| Failure::overloaded(format!("service {} has no upstream", service.name))))
}

/// Tries the addresses of one name until one can be connected to.
async fn send_to_any(
    edge: &Edge,
    resolved: &[std::net::SocketAddr],
    protocol: Protocol,
    request: Request<Body>,
    timeouts: &Timeouts,
) -> Result<Response<Body>, ForwardError> {
    let mut sent = Vec::from(resolved).into_iter().take(ATTEMPTS);
    let first = sent.next().unwrap_or_else(|| std::net::SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut result = edge.pool.send(first, protocol, request, timeouts).await;
    for next in sent {
        result = match result {
            Err(ForwardError::Connect { request, .. }) => {
                edge.pool.send(next, protocol, *request, timeouts).await
            }
            other => return other,
        };
    }
    result
}
