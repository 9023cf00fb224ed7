//! A failure as JSON, with the HTTP status that gRPC's code maps to.

use crate::grpc::status::{Code, Status};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use percent_encoding::percent_decode;
use tutti_base::{Body, body};
use tutti_proto::json::quote;

/// gRPC's codes by their numbers.
pub(super) const CODES: [Code; 17] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The status in trailers, or in the head of an answer that has nothing else.
pub(super) fn status(headers: &HeaderMap) -> Option<Status> {
    let number: usize = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let text = headers.get("grpc-message").map(|value| value.as_bytes()).unwrap_or_default();
    let details =
        headers.get("grpc-status-details-bin").and_then(|value| BASE64.decode(value.as_bytes()).ok());
    Some(Status {
        code: CODES.get(number).copied().unwrap_or(Code::Unknown),
        message: percent_decode(text).decode_utf8_lossy().into_owned(),
        details: details.unwrap_or_default(),
    })
}

/// How a JSON call failed.
#[derive(Debug)]
pub(super) struct Failure {
    code: Code,
    message: String,
    /// A JSON list.
    details: String,
    /// Where HTTP has a more exact one than the code's.
    status: Option<StatusCode>,
    /// The methods that the path takes.
    allow: Option<String>,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), details: "[]".to_owned(), status: None, allow: None }
    }

    pub(super) fn details(self, details: String) -> Failure {
        Failure { details, ..self }
    }

    /// The path is there, for other HTTP methods.
    pub(super) fn not_allowed(verbs: &[&str]) -> Failure {
        let allow = verbs.join(", ");
        Failure {
            status: Some(StatusCode::METHOD_NOT_ALLOWED),
            allow: Some(allow.clone()),
            ..Failure::new(Code::Unimplemented, format!("this path takes {allow}"))
        }
    }

    pub(super) fn unsupported(message: &str) -> Failure {
        let failure = Failure::new(Code::InvalidArgument, message);
        Failure { status: Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), ..failure }
    }

    pub(super) fn too_large(message: String) -> Failure {
        let failure = Failure::new(Code::ResourceExhausted, message);
        Failure { status: Some(StatusCode::PAYLOAD_TOO_LARGE), ..failure }
    }

    /// `{"code": 5, "message": "…", "details": []}`.
    pub(super) fn json(&self) -> String {
        let number = CODES.iter().position(|code| *code == self.code).unwrap_or(2);
        let mut text = format!("{{\"code\":{number},\"message\":");
        quote(&self.message, &mut text);
        text.push_str(",\"details\":");
        text.push_str(&self.details);
        text.push('}');
        text
    }

    pub(super) fn respond(self) -> Response<Body> {
        self.respond_with(HeaderMap::new())
    }

    pub(super) fn respond_with(self, headers: HeaderMap) -> Response<Body> {
        let mut response = Response::new(body::full(self.json() + "\n"));
        *response.status_mut() = self.status.unwrap_or_else(|| http_status(self.code));
        *response.headers_mut() = headers;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        response
    }
}

/// As `google.rpc.Code` maps them; 499 is what is common for a client that went away.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
