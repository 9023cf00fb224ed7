//! Failures as gRPC says them: the code, the sentence, and what a program reads beside them.

use crate::server::reply::Refusal;
use prost::Message;
use prost_types::Any;
use std::collections::BTreeMap;
use tonic::{Code, Status};

/// The domain of our error reasons.
const DOMAIN: &str = "tutti";

/// `google.rpc.Status`, as `grpc-status-details-bin` carries it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ErrorInfo {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
    #[prost(string, tag = "2")]
    pub(super) domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FieldViolation {
    #[prost(string, tag = "1")]
    pub(super) field: String,
    #[prost(string, tag = "2")]
    pub(super) description: String,
}

/// The status of a refused request.
pub(super) fn status(refusal: Refusal, request_id: &str) -> Status {
    let Refusal { problem, faults } = refusal;
    if problem.code == tutti_model::ErrorCode::Internal {
        tracing::error!(request_id, %problem, "request failed");
    }
    let code = i32::from(problem.code.grpc_status());
    let mut metadata = BTreeMap::from([("request_id".to_owned(), request_id.to_owned())]);
    metadata.extend(problem.object.map(|object| ("object".to_owned(), object)));
    metadata.extend(problem.hint.map(|hint| ("hint".to_owned(), hint)));
    let info =
        ErrorInfo { reason: problem.code.as_str().to_ascii_uppercase(), domain: DOMAIN.to_owned(), metadata };
    let mut details = vec![any("google.rpc.ErrorInfo", &info)];
    if !faults.is_empty() {
        let violation = |description| FieldViolation { field: String::new(), description };
        let request = BadRequest { field_violations: faults.into_iter().map(violation).collect() };
        details.push(any("google.rpc.BadRequest", &request));
    }
    let whole = RpcStatus { code, message: problem.detail.clone(), details };
    Status::with_details(Code::from_i32(code), problem.detail, whole.encode_to_vec().into())
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_model::Problem;

    #[test]
    fn a_failure_says_its_code_object_and_hint() {
        let problem = Problem::conflict("it is busy").object("service a:b").hint("wait");
        let status = status(problem.into(), "42");
        assert_eq!((status.code(), status.message()), (Code::Aborted, "it is busy"));
        let whole = RpcStatus::decode(status.details()).unwrap();
        assert_eq!((whole.code, whole.details.len()), (10, 1));
        let info = ErrorInfo::decode(whole.details[0].value.as_slice()).unwrap();
        assert_eq!((&*info.reason, &*info.domain), ("CONFLICT", "tutti"));
        let said: Vec<_> = info.metadata.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(said, [("hint", "wait"), ("object", "service a:b"), ("request_id", "42")]);
    }

    #[test]
    fn every_fault_is_told() {
        let faults = [Problem::invalid("one"), Problem::invalid("two")];
        let status = status(Refusal::faults("the version", &faults), "42");
        let whole = RpcStatus::decode(status.details()).unwrap();
        let request = BadRequest::decode(whole.details[1].value.as_slice()).unwrap();
        let said: Vec<_> = request.field_violations.iter().map(|fault| &*fault.description).collect();
        assert_eq!(said, ["one", "two"]);
    }
}
