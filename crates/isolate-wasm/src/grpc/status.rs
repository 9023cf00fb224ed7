//! How a call ended: gRPC's status, as a component says it and as it is sent.

use super::codec::{Malformed, Reason, Unencodable};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tutti_isolate::HandleError;
use wasmtime::component::Val;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Longest message of a status that is sent, in bytes, before it is encoded for a header. Clients take 8 KiB of trailers
/// and more; what is longer is cut.
const MESSAGE_BYTES: usize = 1024;
/// Longest details of a status, for the same reason. Longer ones are left out: half of them would be none.
const DETAILS_BYTES: usize = 4096;

/// gRPC percent-encodes what is not printable ASCII, and the percent sign.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// gRPC's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// In the order of their numbers, as the interface `tutti:grpc/call` names them.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "ok"),
    (Code::Cancelled, "cancelled"),
    (Code::Unknown, "unknown"),
    (Code::InvalidArgument, "invalid-argument"),
    (Code::DeadlineExceeded, "deadline-exceeded"),
    (Code::NotFound, "not-found"),
    (Code::AlreadyExists, "already-exists"),
    (Code::PermissionDenied, "permission-denied"),
    (Code::ResourceExhausted, "resource-exhausted"),
    (Code::FailedPrecondition, "failed-precondition"),
    (Code::Aborted, "aborted"),
    (Code::OutOfRange, "out-of-range"),
    (Code::Unimplemented, "unimplemented"),
    (Code::Internal, "internal"),
    (Code::Unavailable, "unavailable"),
    (Code::DataLoss, "data-loss"),
    (Code::Unauthenticated, "unauthenticated"),
];

impl Code {
    fn position(self) -> usize {
        CODES.iter().position(|(code, _)| *code == self).unwrap_or(2)
    }

    fn wit_name(self) -> &'static str {
        CODES.get(self.position()).map_or("unknown", |(_, name)| name)
    }

    fn from_wit_name(name: &str) -> Code {
        CODES.iter().find(|(_, known)| *known == name).map_or(Code::Unknown, |(code, _)| *code)
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// An encoded `google.rpc.Status`, or nothing.
    pub(crate) details: Vec<u8>,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into(), details: Vec::new() }
    }

    pub(crate) fn ok() -> Status {
        Status::new(Code::Ok, "")
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }

    /// What a caller is told of a guest that did not end by itself. How it failed is the tenant's business, and in the
    /// instance's log.
    pub(crate) fn of_failure(failure: &HandleError, streams: bool) -> Status {
        match failure {
            HandleError::Trap(why) if why.contains(TOO_MUCH_COPIED) => {
                Status::new(Code::ResourceExhausted, "the service's reply is too large")
            }
            HandleError::Trap(why) if why == STOPPED => {
                Status::new(Code::Unavailable, "the instance was stopped")
            }
            HandleError::Trap(_) => Status::new(Code::Internal, "the service failed; its log says how"),
            // The cpu time of a call without streams is bounded by the same number as its time.
            HandleError::Time if streams => {
                Status::new(Code::ResourceExhausted, "the service used up the cpu time of this call")
            }
            HandleError::Time => Status::new(Code::DeadlineExceeded, "the service exceeded its time limit"),
            HandleError::Memory => {
                Status::new(Code::ResourceExhausted, "the service exceeded its memory limit")
            }
            HandleError::Full(_) => Status::new(Code::Unavailable, "this node is busy with other calls"),
        }
    }

    /// As a component takes it.
    pub(crate) fn to_val(&self) -> Val {
        let details = self.details.iter().copied().map(Val::U8).collect();
        Val::Record(vec![
            ("code".to_owned(), Val::Enum(self.code.wit_name().to_owned())),
            ("message".to_owned(), Val::String(self.message.clone())),
            ("details".to_owned(), Val::List(details)),
        ])
    }

    /// As a component gives it; its type was checked when it was loaded.
    pub(crate) fn from_val(value: &Val) -> Status {
        let mut status = Status::new(Code::Unknown, "");
        let Val::Record(fields) = value else { return status };
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("code", Val::Enum(code)) => status.code = Code::from_wit_name(code),
                ("message", Val::String(message)) => status.message.clone_from(message),
                ("details", Val::List(bytes)) => {
                    let byte = |byte: &Val| if let Val::U8(byte) = byte { Some(*byte) } else { None };
                    status.details = bytes.iter().filter_map(byte).collect();
                }
                _ => {}
            }
        }
        status
    }

    /// Writes it into trailers, or into the head of an answer that has nothing else.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, HeaderValue::from(self.code.position()));
        let message = self.message.get(..self.message.floor_char_boundary(MESSAGE_BYTES)).unwrap_or_default();
        let encoded = utf8_percent_encode(message, ENCODED).to_string();
        if !encoded.is_empty()
            && let Ok(value) = HeaderValue::try_from(encoded)
        {
            headers.insert(GRPC_MESSAGE, value);
        }
        if !self.details.is_empty()
            && self.details.len() <= DETAILS_BYTES
            && let Ok(value) = HeaderValue::try_from(STANDARD_NO_PAD.encode(&self.details))
        {
            headers.insert(GRPC_DETAILS, value);
        }
    }

    /// What is not sent of it, for the service's log.
    pub(crate) fn cut(&self) -> Option<String> {
        (self.details.len() > DETAILS_BYTES).then(|| {
            format!(
                "the details of a status were left out: they have {} bytes, and at most {DETAILS_BYTES} are sent",
                self.details.len()
            )
        })
    }
}

/// What a guest's failure says that was ended with its instance.
const STOPPED: &str = "the instance was stopped";
/// What the engine says when a guest gives the host more at once than it may.
const TOO_MUCH_COPIED: &str = "fuel allocated for hostcalls has been exhausted";

impl Status {
    /// The client has sent what is no message.
    pub(crate) fn of_malformed(malformed: &Malformed) -> Status {
        match malformed.reason {
            Reason::TooLarge => Status::new(Code::ResourceExhausted, malformed.to_string()),
            Reason::Schema => Status::new(Code::Internal, "the service's description does not hold together"),
            _ => Status::new(Code::InvalidArgument, format!("malformed request: {malformed}")),
        }
    }

    /// The service has given what is no message.
    pub(crate) fn of_unencodable(unencodable: &Unencodable) -> Status {
        match unencodable {
            Unencodable::TooLong(most) => Status::new(
                Code::ResourceExhausted,
                format!(
                    "the service's reply is longer than {most} bytes, which is the most that it may send"
                ),
            ),
            Unencodable::Type { .. } => Status::new(Code::Internal, "the service failed; its log says how"),
        }
    }
}
