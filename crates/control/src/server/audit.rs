//! One line for each request that changes something: who, what, on which object, with which outcome.

use super::call::Caller;
use http::{Method, StatusCode};

/// Whether requests of this method may change something.
pub(super) fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Notes how a request ended.
pub(super) fn note(request_id: &str, caller: &Caller, operation: &str, object: &str, status: StatusCode) {
    let (token, status) = (caller.token(), status.as_u16());
    tracing::info!(target: "tutti::audit", request_id, token, operation, object, status, "request");
}
