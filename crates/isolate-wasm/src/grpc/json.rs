//! JSON calls: a request becomes the protobuf call that it means, and the answer JSON.
//!
//! `POST /package.Service/Method` takes the request message as its body; rules of `google.api.http` take it from path,
//! query and body. Replies of a stream are a line each. A failure is `{"code", "message", "details"}` with the HTTP status
//! of its code, or the last line `{"error": …}` of a stream that had begun.

mod failure;
mod reply;

use super::{
    about::{About, Opened},
    frame::{self, Encoding},
    status::{Code, Status},
};
use bytes::{Bytes, BytesMut};
use failure::Failure;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header, request::Parts};
use http_body_util::BodyExt as _;
use prost_reflect::{FieldDescriptor, MethodDescriptor};
use std::{sync::Arc, time::Duration};
use tutti_base::{Body, body};
use tutti_isolate::{HandleError, Handler};
use tutti_proto::{
    json::{JsonFault, Unknown, to_protobuf},
    paths::{Found, Match},
};

/// How much longer than the message JSON may be: numbers are words, and fields have names.
const TIMES_LONGER: usize = 4;
/// Where a host that is one service's has its document, beside the path below its name.
const DOCUMENT: &str = "/.well-known/openapi.json";
/// Fields of a request that are about its body as it came, or that are gRPC's own.
const NOT_PASSED_ON: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
    header::TRANSFER_ENCODING,
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
];

/// A call: what is called, with which message, and what of its reply is the answer.
struct Wanted {
    method: MethodDescriptor,
    message: Vec<u8>,
    response: Option<FieldDescriptor>,
}

/// What JSON calls are answered with.
pub(super) struct Behind {
    /// What takes the service's gRPC calls.
    pub(super) calls: Arc<dyn Handler>,
    pub(super) about: Arc<About>,
    /// Longest message, in bytes.
    pub(super) message_bytes: usize,
    /// Longest wait for the body.
    pub(super) timeout: Duration,
}

/// Answers a request that is not gRPC.
pub(super) async fn answer(behind: Behind, request: Request<Body>) -> Result<Response<Body>, HandleError> {
    let Some(opened) = behind.about.open() else {
        return Ok(Failure::new(Code::Internal, "the service's description is gone").respond());
    };
    let (parts, body) = request.into_parts();
    if let Some(response) = document(&behind.about, &parts) {
        return Ok(response);
    }
    // Whether there is anything to call is said before a body is waited for.
    if let Err(failure) = target(&opened, &parts) {
        return Ok(failure.respond());
    }
    let most = behind.message_bytes.saturating_mul(TIMES_LONGER);
    let read = read(body, most, behind.timeout).await;
    let wanted = match read.and_then(|body| wanted(&opened, &parts, &body)) {
        Ok(wanted) => wanted,
        Err(failure) => return Ok(failure.respond()),
    };
    let path = format!("/{}/{}", opened.service.full_name(), wanted.method.name());
    let Ok(uri) = Uri::try_from(path) else {
        return Ok(Failure::new(Code::Internal, "the method has no path").respond());
    };
    let mut written = frame::begin();
    written.extend(&wanted.message);
    let mut call = Request::new(body::full(frame::finish(written, Encoding::Identity)));
    *call.method_mut() = Method::POST;
    *call.uri_mut() = uri;
    *call.extensions_mut() = parts.extensions;
    *call.headers_mut() = passed_on(parts.headers);
    let response = behind.calls.handle(call).await?;
    Ok(reply::answer(opened, wanted.method, wanted.response, response).await)
}

/// The service's OpenAPI document, if that is what is asked for.
fn document(about: &About, parts: &Parts) -> Option<Response<Body>> {
    let path = parts.uri.path();
    let below = || path.strip_prefix('/')?.strip_prefix(about.service.as_str())?.strip_prefix('/');
    let is_document = path == DOCUMENT || below() == Some("openapi.json");
    if !is_document || parts.method != Method::GET {
        return None;
    }
    let document = about.document()?;
    let mut response = Response::new(body::full(document));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(response)
}

/// What a request is for.
enum Target<'a> {
    /// A method, by its name.
    Method(MethodDescriptor),
    /// A method, by its rule.
    Rule(Match<'a>),
}

fn target<'a>(opened: &'a Opened, parts: &Parts) -> Result<Target<'a>, Failure> {
    let path = parts.uri.path();
    let service = opened.service.full_name();
    let named = path.strip_prefix('/').and_then(|path| path.strip_prefix(service)?.strip_prefix('/'));
    if let Some(method) = named.and_then(|name| opened.method(name)) {
        if parts.method != Method::POST {
            return Err(Failure::not_allowed(&["POST"]));
        }
        return callable(&method).map(|()| Target::Method(method));
    }
    match opened.routes.find(parts.method.as_str(), path) {
        Found::Route(found) => callable(&found.route.method).map(|()| Target::Rule(found)),
        Found::OtherVerbs(verbs) => Err(Failure::not_allowed(&verbs)),
        Found::Nothing => Err(Failure::new(
            Code::NotFound,
            format!("{service} has nothing at this path; GET /{service}/openapi.json tells what it has"),
        )),
    }
}

fn callable(method: &MethodDescriptor) -> Result<(), Failure> {
    if method.is_client_streaming() {
        let what = format!("{} takes a stream of requests, and so is called over gRPC only", method.name());
        return Err(Failure::new(Code::Unimplemented, what));
    }
    Ok(())
}

/// What a request calls, with the message that it means.
fn wanted(opened: &Opened, parts: &Parts, body: &[u8]) -> Result<Wanted, Failure> {
    if let Some(encoding) = parts.headers.get(header::CONTENT_ENCODING)
        && encoding.as_bytes() != b"identity"
    {
        return Err(Failure::unsupported("a compressed body is not understood: send the JSON as it is"));
    }
    if !body.is_empty() && !is_json(&parts.headers) {
        return Err(Failure::unsupported(
            "the body's content type must be application/json: as in curl -H 'content-type: application/json'",
        ));
    }
    match target(opened, parts)? {
        Target::Method(method) => {
            let message = match body.iter().all(u8::is_ascii_whitespace) {
                true => Vec::new(),
                false => to_protobuf(&method.input(), body, Unknown::Refuse)?,
            };
            Ok(Wanted { method, message, response: None })
        }
        Target::Rule(found) => {
            let message = found.message(parts.uri.query(), body)?;
            let route = found.route;
            Ok(Wanted { method: route.method.clone(), message, response: route.response.clone() })
        }
    }
}

async fn read(body: Body, most: usize, timeout: Duration) -> Result<Bytes, Failure> {
    let reading = tokio::time::timeout(timeout, collected(body, most));
    reading.await.unwrap_or_else(|_| Err(Failure::new(Code::DeadlineExceeded, "the client sends no more")))
}

async fn collected(mut body: Body, most: usize) -> Result<Bytes, Failure> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::new(Code::Cancelled, "the client broke its request off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len().saturating_add(data.len()) > most {
            let what =
                format!("the body is longer than {most} bytes, which is the most that this service takes");
            return Err(Failure::too_large(what));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// `application/json`, or a type whose name ends in `+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

fn passed_on(mut headers: HeaderMap) -> HeaderMap {
    for name in NOT_PASSED_ON {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    headers
}

impl From<JsonFault> for Failure {
    fn from(fault: JsonFault) -> Failure {
        let hint = fault.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Failure::new(Code::InvalidArgument, format!("{fault}{hint}"))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::new(status.code, status.message)
    }
}

#[cfg(test)]
mod tests;
