//! The one place that turns failures into answers: `application/problem+json` (RFC 9457) for HTTP callers, a
//! trailers-only answer for gRPC callers.

use crate::{ForwardError, HopError, grpc};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::json;
use tutti_base::{Body, body};
use tutti_model::{ErrorCode, Problem};

/// Seconds after which a caller may try an overloaded service again: long enough to shed load, short enough that a
/// person waits for it.
const RETRY_AFTER_SECONDS: u16 = 1;

/// How the caller wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Plain HTTP.
    Http,
    /// gRPC: the failure is in `grpc-status`, and the HTTP status is always 200.
    Grpc,
}

impl Caller {
    /// By a request's fields.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        if grpc::is_grpc(headers) { Caller::Grpc } else { Caller::Http }
    }
}

/// A failure on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub problem: Problem,
    /// The HTTP status, where it says more than the code's own.
    status: Option<StatusCode>,
    retry_after: Option<u16>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Failure { problem, status: None, retry_after: None }
    }
}

impl Failure {
    /// What serves the request was reached and failed, or cannot be reached. The status is 502; the code stays
    /// `unavailable`, as the closed set has none of its own for it.
    pub fn bad_gateway(detail: impl Into<String>) -> Self {
        Failure {
            problem: Problem::unavailable(detail),
            status: Some(StatusCode::BAD_GATEWAY),
            retry_after: None,
        }
    }

    /// Nothing can take the request now, but soon something may.
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Failure {
            problem: Problem::unavailable(detail),
            status: None,
            retry_after: Some(RETRY_AFTER_SECONDS),
        }
    }

    /// No answer came in time.
    pub fn timeout(detail: impl Into<String>) -> Self {
        Problem::new(ErrorCode::Timeout, detail).into()
    }

    /// The HTTP status of the answer to a plain HTTP caller.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        let own = StatusCode::from_u16(self.problem.code.http_status());
        self.status.or(own.ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The answer.
    #[must_use]
    pub fn respond(&self, caller: Caller, request_id: Option<&str>) -> Response<Body> {
        let mut response = match caller {
            Caller::Http => self.http(request_id),
            Caller::Grpc => self.grpc(),
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn http(&self, request_id: Option<&str>) -> Response<Body> {
        let status = self.status();
        let title = match self.status {
            Some(status) => status.canonical_reason().unwrap_or("Unavailable"),
            None => self.problem.code.title(),
        };
        let mut document = json!({
            "type": format!("urn:tutti:problem:{}", self.problem.code),
            "title": title,
            "status": status.as_u16(),
            "detail": self.problem.detail,
            "code": self.problem.code,
        });
        let further = [
            ("object", self.problem.object.as_deref()),
            ("hint", self.problem.hint.as_deref()),
            ("request_id", request_id),
        ];
        if let Some(members) = document.as_object_mut() {
            for (name, value) in further {
                if let Some(value) = value {
                    members.insert(name.to_owned(), value.into());
                }
            }
        }
        let mut response = Response::new(body::full(document.to_string()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }

    fn grpc(&self) -> Response<Body> {
        let mut response = Response::new(body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(self.problem.code.grpc_status())));
        let text = match &self.problem.hint {
            Some(hint) => format!("{} ({hint})", self.problem.detail),
            None => self.problem.detail.clone(),
        };
        if let Ok(message) = HeaderValue::try_from(percent_encoded(&text)) {
            headers.insert("grpc-message", message);
        }
        response
    }
}

/// As gRPC wants its messages: everything but visible ASCII and space, and the percent sign itself, as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f..=0xff => out.push_str(&format!("%{byte:02X}")),
            byte => out.push(char::from(byte)),
        }
    }
    out
}

impl From<&HopError> for Failure {
    fn from(error: &HopError) -> Self {
        match error {
            HopError::Misdirected { reason, .. } | HopError::Overloaded { reason, .. } => {
                Failure::overloaded(reason)
            }
            HopError::Full(reason) => Failure::overloaded(reason),
            HopError::Failed(reason) => Failure::bad_gateway(reason),
            HopError::Timeout(_) => Failure::timeout(error.to_string()),
        }
    }
}

impl From<&ForwardError> for Failure {
    fn from(error: &ForwardError) -> Self {
        match error {
            ForwardError::Connect { .. } | ForwardError::Upstream { .. } => {
                Failure::bad_gateway(error.chain())
            }
            ForwardError::Full { .. } => Failure::overloaded(error.to_string()),
            ForwardError::Timeout { .. } => Failure::timeout(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn http_callers_get_problem_json() {
        let failure = Failure::bad_gateway("127.0.0.1:9 refused the connection");
        let response = failure.respond(Caller::Http, Some("r1"));
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let wanted = json!({
            "type": "urn:tutti:problem:unavailable", "title": "Bad Gateway", "status": 502, "code": "unavailable",
            "detail": "127.0.0.1:9 refused the connection", "request_id": "r1",
        });
        assert_eq!(document, wanted);
    }

    #[test]
    fn grpc_callers_get_a_trailers_only_answer() {
        let failure = Failure::from(Problem::not_found("host", "ä%\n").hint("x"));
        let response = failure.respond(Caller::Grpc, None);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "5");
        assert_eq!(response.headers()["grpc-message"], "host \"%C3%A4%25%0A\" not found (x)");
        assert!(http_body::Body::is_end_stream(response.body()));
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let response = Failure::from(&HopError::Full("full".into())).respond(Caller::Http, None);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (503, &HeaderValue::from_static("1"))
        );
    }
}
