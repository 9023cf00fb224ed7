//! The management API over gRPC, on the port of REST: `tutti.v1.Domains`, `tutti.v1.Control`, health and reflection.
//!
//! A method stands in the table of operations beside the REST path that does the same ([`Operation::grpc`]), and goes
//! the same way: it is the REST operation that is authorized, answered and noted, and [`Asked`] knows no other. This
//! module adds what gRPC has of its own: its messages, deadlines, streams and the details of its failures.

mod body;
mod control;
mod domains;
mod failure;
mod words;

#[cfg(test)]
mod tests;

/// What `build.rs` makes of `proto/`.
pub(super) mod proto {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::allow_attributes_without_reason,
        clippy::doc_markdown,
        reason = "generated; the protos are its documentation"
    )]
    tonic::include_proto!("tutti.v1");
}

use self::{
    body::Bounded,
    control::Control,
    domains::Domains,
    proto::{control_server::ControlServer, domains_server::DomainsServer},
};
use super::{
    App, audit,
    call::{Caller, Query},
    dispatch::{self, Plain, REQUEST_TIMEOUT},
    reply::{REQUEST_ID, Refusal},
    subject,
};
use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use serde::de::DeserializeOwned;
use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::Instant;
use tonic::Status;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::ServiceExt as _;
use tutti_api::operations::{Operation, Right};
use tutti_model::{ErrorCode, Problem};

/// The descriptors of the services of `tutti.v1`.
pub(super) static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tutti.v1.bin"));

/// Largest message of a caller, in bytes: names, and as many steps and conditions as a deployment may have.
const MESSAGE_BYTES: usize = 64 * 1024;
/// Longest time of a stream of reflection, which no token stands for: a client asks a few questions at its start.
const REFLECTION_TIME: Duration = Duration::from_secs(60);
/// Longest deadline that is heeded; one beyond it is none, and its sum with the time of now could not be told.
const LONGEST_DEADLINE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A caller who is known, and what of it concerns every method.
#[derive(Clone)]
struct Asked {
    app: Arc<App>,
    operation: &'static Operation,
    caller: Caller,
    headers: HeaderMap,
    request_id: String,
    /// The address that it came from.
    from: Option<String>,
    /// When the caller stops waiting.
    deadline: Option<Instant>,
}

/// Whether a request is one of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    kind.strip_prefix("application/grpc").is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// The answer to a method that there is not.
pub(super) fn unknown(path: &str) -> Response {
    let shown: String = path.chars().take(200).collect();
    Status::unimplemented(format!("there is no method \"{shown}\" in this API")).into_http()
}

/// Answers a request for a method of the table, whatever happens.
pub(super) async fn answer(
    app: &Arc<App>,
    operation: &'static Operation,
    method: &'static str,
    request: Request,
) -> Response {
    let request_id = format!("{:016x}", app.objects.random().bits());
    let doing = AssertUnwindSafe(route(app, operation, method, request, &request_id)).catch_unwind();
    let answer = doing.await.unwrap_or_else(|_| {
        tracing::error!(request_id, "a handler panicked");
        Err(Problem::internal("the request met a fault in Tutti")
            .hint(format!("look for {request_id} in the log of tutti, and please report it"))
            .into())
    });
    let mut response =
        answer.unwrap_or_else(|refusal| failure::status(refusal, &request_id).into_http::<Body>());
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn route(
    app: &Arc<App>,
    operation: &'static Operation,
    method: &'static str,
    mut request: Request,
    request_id: &str,
) -> Result<Response, Refusal> {
    if let Some(refused) = not_grpc(method, &request, request_id) {
        return Ok(refused);
    }
    let deadline = deadline(request.headers())?;
    let now = app.objects.clock().now();
    // Before the message is read: nobody waits for it who has no token.
    let caller = match operation.right {
        Right::Public => Caller::Anonymous,
        _ => app.identity.identify(request.headers(), request.extensions(), now).await?,
    };
    subject::check_member(operation, &caller)?;
    let place = if is_stream(method) {
        app.streams.open(&caller.account())?
    } else {
        app.under_way.open(&caller.account())?
    };
    let head = deadline.unwrap_or(REQUEST_TIMEOUT).min(REQUEST_TIMEOUT);
    let ends = deadline.and_then(|span| Instant::now().checked_add(span));
    let asked = Asked {
        app: app.clone(),
        operation,
        caller,
        headers: request.headers().clone(),
        request_id: request_id.to_owned(),
        from: dispatch::peer_address(request.extensions()),
        deadline: ends,
    };
    request.extensions_mut().insert(asked);
    let response = tokio::time::timeout(head, serve(app, method, request)).await.map_err(|_| {
        Problem::new(ErrorCode::Timeout, format!("{method} was not done within {} ms", head.as_millis()))
    })??;
    let ends = if operation.id == "openapi" {
        let longest = Instant::now() + REFLECTION_TIME;
        Some(ends.map_or(longest, |ends| ends.min(longest)))
    } else {
        ends
    };
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, Body::new(Bounded::new(body, ends, app.stopping.clone(), place))))
}

/// The service that a method belongs to.
async fn serve(
    app: &App,
    method: &str,
    request: Request,
) -> Result<http::Response<tonic::body::Body>, Problem> {
    let services = &app.grpc;
    let service = method.trim_start_matches('/').split('/').next().unwrap_or_default();
    let served = match service {
        "tutti.v1.Domains" => {
            let domains = DomainsServer::new(Domains).max_decoding_message_size(MESSAGE_BYTES);
            domains.oneshot(request).await
        }
        "tutti.v1.Control" => {
            let control = ControlServer::new(Control).max_decoding_message_size(MESSAGE_BYTES);
            control.oneshot(request).await
        }
        "grpc.health.v1.Health" => services.health.clone().oneshot(request).await,
        _ => match (service, &services.reflection) {
            ("grpc.reflection.v1.ServerReflection", Some((v1, _))) => v1.clone().oneshot(request).await,
            ("grpc.reflection.v1alpha.ServerReflection", Some((_, alpha))) => {
                alpha.clone().oneshot(request).await
            }
            _ => return Err(Problem::internal(format!("{method} has no service"))),
        },
    };
    match served {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

/// Whether a method's answer goes on after its head.
fn is_stream(method: &str) -> bool {
    ["/WatchDeployment", "/Watch", "/ServerReflectionInfo"].iter().any(|end| method.ends_with(end))
}

/// The refusal of what cannot be answered as gRPC.
fn not_grpc(method: &str, request: &Request, request_id: &str) -> Option<Response> {
    let why = if request.version() != Version::HTTP_2 {
        "needs HTTP/2"
    } else if request.method() != Method::POST {
        "takes POST only"
    } else if !is_grpc(request.headers()) {
        "needs content-type application/grpc"
    } else {
        return None;
    };
    let problem = Problem::invalid(format!("{method} is a method of gRPC: it {why}"))
        .hint("call it with a gRPC client, or use the REST API, which is described in /v1/openapi.json");
    Some(Refusal::from(problem).response(request_id))
}

/// How long the caller waits, by `grpc-timeout`: up to eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let wrong =
        || Problem::invalid("metadata grpc-timeout is not up to eight digits and one of H, M, S, m, u, n");
    let text = value.to_str().map_err(|_| wrong())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let span = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(wrong()),
    };
    Ok((span <= LONGEST_DEADLINE).then_some(span))
}

/// One of the services that need no token.
type Served = tower::util::BoxCloneSyncService<Request, http::Response<tonic::body::Body>, Infallible>;

/// The services that need no token, made once.
pub(super) struct Services {
    health: Served,
    /// `v1` and `v1alpha`; none if our own descriptors cannot be read, which a test rules out.
    reflection: Option<(Served, Served)>,
}

impl Services {
    /// All of them.
    pub(super) fn new() -> Services {
        let reporter = HealthReporter::new();
        for name in ["tutti.v1.Domains", "tutti.v1.Control"] {
            // Nobody else has it yet, so that it never waits.
            let _ = reporter.set_service_status(name, ServingStatus::Serving).now_or_never();
        }
        let health = HealthServer::new(HealthService::from_health_reporter(reporter))
            .max_decoding_message_size(MESSAGE_BYTES);
        let described = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let reflection = match (described().build_v1(), described().build_v1alpha()) {
            (Ok(v1), Ok(alpha)) => Some((
                Served::new(v1.max_decoding_message_size(MESSAGE_BYTES)),
                Served::new(alpha.max_decoding_message_size(MESSAGE_BYTES)),
            )),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "there is no reflection: the descriptors cannot be read");
                None
            }
        };
        Services { health: Served::new(health), reflection }
    }
}

impl Asked {
    /// What `route` noted of a request.
    fn of<T>(request: &tonic::Request<T>) -> Result<Asked, Status> {
        request.extensions().get().cloned().ok_or_else(|| Status::internal("the request came another way"))
    }

    /// Does the method's operation as if it had come over REST, and reads what it answers.
    async fn perform<T: DeserializeOwned>(&self, names: Vec<String>, body: Bytes) -> Result<T, Status> {
        let mut object = names.join(" ");
        let within = match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()).min(REQUEST_TIMEOUT),
            None => REQUEST_TIMEOUT,
        };
        let doing = async {
            let turn = self.app.requests.acquire().await;
            let _turn = turn.map_err(|_| Problem::unavailable("the API is ending"))?;
            let plain = Plain {
                headers: &self.headers,
                names,
                query: Query::default(),
                body,
                from: self.from.clone(),
                request_id: &self.request_id,
            };
            dispatch::perform(&self.app, self.operation, &self.caller, plain, &mut object).await
        };
        let answer = tokio::time::timeout(within, doing).await.unwrap_or_else(|_| {
            let text = format!("{} was not done within {} ms", self.operation.id, within.as_millis());
            Err(Problem::new(ErrorCode::Timeout, text).into())
        });
        if audit::is_noted(self.operation) {
            let status = dispatch::status_of(&answer);
            audit::note(&self.request_id, &self.caller, self.operation.id, &object, status);
        }
        let response = answer.map_err(|refusal| self.refuse(refusal))?;
        let whole = axum::body::to_bytes(response.into_body(), dispatch::ANSWER_BYTES).await;
        let whole = whole.map_err(|_| self.refuse(Problem::internal("an answer is too long")))?;
        serde_json::from_slice(&whole).map_err(|error| {
            tracing::error!(request_id = self.request_id, %error, "an answer could not be read");
            self.refuse(Problem::internal("an answer could not be read"))
        })
    }

    /// The status of a failure.
    fn refuse(&self, refusal: impl Into<Refusal>) -> Status {
        failure::status(refusal.into(), &self.request_id)
    }
}
