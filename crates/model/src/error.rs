//! The closed set of error codes and the one error that crosses every boundary.
//!
//! Each code has exactly one HTTP status, gRPC status, exit code and metric label. Internal errors are per-operation
//! enums in their own crates; they become a [`Problem`] at the edge of that crate.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of failure this is. The set is closed: clients may match on it exhaustively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request can never succeed as it is written.
    Invalid,
    /// No token, or one that is unknown, expired or revoked.
    Unauthenticated,
    /// A good token without the right.
    Forbidden,
    /// The object does not exist, or this caller may not know that it does.
    NotFound,
    /// An object of this name is there already.
    AlreadyExists,
    /// The object changed meanwhile, or is busy with something else.
    Conflict,
    /// A named limit would be exceeded.
    QuotaExceeded,
    /// A part that is needed does not answer now; trying again may help.
    Unavailable,
    /// The time allowed ran out.
    Timeout,
    /// A fault of Tutti's own.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [ErrorCode; 10] = [
        ErrorCode::Invalid,
        ErrorCode::Unauthenticated,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::AlreadyExists,
        ErrorCode::Conflict,
        ErrorCode::QuotaExceeded,
        ErrorCode::Unavailable,
        ErrorCode::Timeout,
        ErrorCode::Internal,
    ];

    /// The code as it stands in JSON, metric labels and documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::Invalid => "invalid",
            ErrorCode::Unauthenticated => "unauthenticated",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NotFound => "not_found",
            ErrorCode::AlreadyExists => "already_exists",
            ErrorCode::Conflict => "conflict",
            ErrorCode::QuotaExceeded => "quota_exceeded",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Timeout => "timeout",
            ErrorCode::Internal => "internal",
        }
    }

    /// A short human title, the `title` of problem+json.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            ErrorCode::Invalid => "Invalid request",
            ErrorCode::Unauthenticated => "Not authenticated",
            ErrorCode::Forbidden => "Not allowed",
            ErrorCode::NotFound => "Not found",
            ErrorCode::AlreadyExists => "Already exists",
            ErrorCode::Conflict => "Conflict",
            ErrorCode::QuotaExceeded => "Limit exceeded",
            ErrorCode::Unavailable => "Unavailable",
            ErrorCode::Timeout => "Timed out",
            ErrorCode::Internal => "Internal error",
        }
    }

    /// The HTTP status (RFC 9110).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            ErrorCode::Invalid => 400,
            ErrorCode::Unauthenticated => 401,
            ErrorCode::Forbidden => 403,
            ErrorCode::NotFound => 404,
            ErrorCode::AlreadyExists | ErrorCode::Conflict => 409,
            ErrorCode::QuotaExceeded => 429,
            ErrorCode::Unavailable => 503,
            ErrorCode::Timeout => 504,
            ErrorCode::Internal => 500,
        }
    }

    /// The gRPC status number (grpc/statuscodes).
    #[must_use]
    pub const fn grpc_status(self) -> u8 {
        match self {
            ErrorCode::Invalid => 3,
            ErrorCode::Timeout => 4,
            ErrorCode::NotFound => 5,
            ErrorCode::AlreadyExists => 6,
            ErrorCode::Forbidden => 7,
            ErrorCode::QuotaExceeded => 8,
            ErrorCode::Conflict => 10,
            ErrorCode::Internal => 13,
            ErrorCode::Unavailable => 14,
            ErrorCode::Unauthenticated => 16,
        }
    }

    /// The exit code of the command line: 0 is done, 1 failed, 2 usage, then one per code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            ErrorCode::Invalid => 3,
            ErrorCode::Unauthenticated => 4,
            ErrorCode::Forbidden => 5,
            ErrorCode::NotFound => 6,
            ErrorCode::AlreadyExists => 7,
            ErrorCode::Conflict => 8,
            ErrorCode::QuotaExceeded => 9,
            ErrorCode::Unavailable => 10,
            ErrorCode::Timeout => 11,
            ErrorCode::Internal => 12,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong, to which object, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The kind of failure.
    pub code: ErrorCode,
    /// One sentence for a person, lowercase, without a trailing period.
    pub detail: String,
    /// The object concerned, as `kind name`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What to do next, where we know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with a code and a sentence.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Problem { code, detail: detail.into(), object: None, hint: None }
    }

    /// The request can never succeed as it is written.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Problem::new(ErrorCode::Invalid, detail)
    }

    /// No object `name` of `kind`.
    pub fn not_found(kind: impl fmt::Display, name: impl fmt::Display) -> Self {
        Problem::new(ErrorCode::NotFound, format!("{kind} \"{name}\" not found"))
            .object(format!("{kind} {name}"))
    }

    /// An object `name` of `kind` is there already.
    pub fn already_exists(kind: impl fmt::Display, name: impl fmt::Display) -> Self {
        Problem::new(ErrorCode::AlreadyExists, format!("{kind} \"{name}\" already exists"))
            .object(format!("{kind} {name}"))
    }

    /// The object changed meanwhile or is busy.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Problem::new(ErrorCode::Conflict, detail)
    }

    /// A needed part does not answer now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Problem::new(ErrorCode::Unavailable, detail)
    }

    /// A fault of Tutti's own.
    pub fn internal(detail: impl Into<String>) -> Self {
        Problem::new(ErrorCode::Internal, detail)
    }

    /// Names the object concerned.
    #[must_use]
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_has_its_own_exit_code_and_grpc_status() {
        let exits: BTreeSet<u8> = ErrorCode::ALL.iter().map(|code| code.exit_code()).collect();
        let grpc: BTreeSet<u8> = ErrorCode::ALL.iter().map(|code| code.grpc_status()).collect();
        assert_eq!(exits.len(), ErrorCode::ALL.len());
        assert_eq!(grpc.len(), ErrorCode::ALL.len());
        assert!(exits.iter().all(|code| *code > 2), "0, 1 and 2 are taken");
    }

    #[test]
    fn a_code_reads_back_from_its_own_text() {
        for code in ErrorCode::ALL {
            let text = serde_json::to_string(&code).unwrap();
            assert_eq!(text, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<ErrorCode>(&text).unwrap(), code);
        }
    }
}
