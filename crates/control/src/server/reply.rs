//! Answers: JSON, newline-delimited JSON, and every failure as `application/problem+json`, mapped here and nowhere
//! else.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use tutti_api::wire::ProblemBody;
use tutti_model::{ErrorCode, Problem};

/// Names the request in answers and logs.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The (first) problem.
    pub(super) problem: Problem,
    /// Every fault, where the request was checked whole.
    pub(super) faults: Vec<String>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Refusal { problem, faults: Vec::new() }
    }
}

impl Refusal {
    /// A request with several faults.
    pub(super) fn faults(what: &str, faults: &[Problem]) -> Self {
        let problem = match faults {
            [one] => one.clone(),
            several => Problem::invalid(format!("{what} has {} faults", several.len())),
        };
        Refusal { problem, faults: faults.iter().map(|fault| fault.detail.clone()).collect() }
    }

    /// The answer.
    pub(super) fn response(self, request_id: &str) -> Response {
        let code = self.problem.code;
        let mut body = ProblemBody::new(self.problem, Some(request_id.to_owned()));
        body.faults = self.faults;
        let status = StatusCode::from_u16(body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = bytes(status, "application/problem+json", to_vec(&body));
        match code {
            ErrorCode::Unauthenticated => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // Soon enough to be of use, late enough not to pile up.
            ErrorCode::Unavailable => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        b"{}".to_vec()
    })
}

fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// 200 with this as JSON.
pub(super) fn ok<T: Serialize>(value: &T) -> Response {
    bytes(StatusCode::OK, "application/json", to_vec(value))
}

/// 201 with this as JSON.
pub(super) fn created<T: Serialize>(value: &T) -> Response {
    bytes(StatusCode::CREATED, "application/json", to_vec(value))
}

/// 202 with this as JSON: it was accepted, and goes on after this answer.
pub(super) fn accepted<T: Serialize>(value: &T) -> Response {
    bytes(StatusCode::ACCEPTED, "application/json", to_vec(value))
}

/// 204, nothing to say.
pub(super) fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 200 with this text.
pub(super) fn text(content_type: &'static str, body: String) -> Response {
    bytes(StatusCode::OK, content_type, body)
}

/// 200 with one JSON document a line, for as long as the stream goes on. A problem is the last line.
pub(super) fn lines<T, S>(stream: S) -> Response
where
    T: Serialize + 'static,
    S: Stream<Item = Result<T, Problem>> + Send + 'static,
{
    let lines = stream.map(|item| {
        let mut line = match item {
            Ok(value) => to_vec(&value),
            Err(problem) => to_vec(&ProblemBody::new(problem, None)),
        };
        line.push(b'\n');
        Ok::<_, std::convert::Infallible>(Bytes::from(line))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
