//! What is kept of each change that somebody asked for: who, what, from where, before and after.
//!
//! A record never shows what nobody may see. [`shown`] says for each kind what of it stands in records; who adds a kind
//! must decide. How records are written, listed and trimmed is control's business.

use crate::{DomainName, Kind, Timestamp, limits, resource::Object, user::UserName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One change, as it was committed: the record's revision is the change's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSpec {
    /// When.
    pub at: Timestamp,
    /// The token's or member's name; in parentheses for who has none.
    pub who: String,
    /// The user whose token it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// The address that the request came from; absent for the control socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The request's id, as its answer and the log have it.
    pub request: String,
    /// The operation of the API.
    pub operation: String,
    /// What it was about, as `KIND NAME`.
    pub object: String,
    /// The domain that it lives in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainName>,
    /// What was written, in the order of the transaction.
    pub changes: Vec<AuditChange>,
    /// How many further ones were written that are not shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What became of one object. Without `before` and `after` its spec stayed as it was, or is not shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditChange {
    /// The object, as `KIND NAME`.
    pub object: String,
    /// What was done to it.
    pub change: Change,
    /// Its spec before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Its spec after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Why something is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was not there before.
    Created,
    /// It was replaced.
    Updated,
    /// It is gone.
    Deleted,
}

impl Change {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Change::Created => "created",
            Change::Updated => "updated",
            Change::Deleted => "deleted",
        }
    }
}

/// Nothing becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditStatus {}

impl Object for AuditSpec {
    type Status = AuditStatus;
    const KIND: Kind = Kind::Audit;
}

/// What of a kind's objects stands in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Its name and its spec, without fields of these names, however deep they stand.
    Spec(&'static [&'static str]),
    /// Its name alone.
    Name,
    /// That there is one of its kind: its name is a secret's hash.
    Kind,
}

/// What of a kind stands in records: never what opens, proves or seals anything. Values of environment variables may
/// hold what people should have made a secret, and would outlive the version here.
#[must_use]
pub const fn shown(kind: Kind) -> Shown {
    match kind {
        Kind::Domain
        | Kind::Route
        | Kind::Zone
        | Kind::User
        | Kind::Alias
        | Kind::Quota
        | Kind::Node
        | Kind::Pool
        | Kind::Table
        | Kind::Ingress
        | Kind::Presence
        | Kind::Leader
        | Kind::Report
        | Kind::Event => Shown::Spec(&[]),
        Kind::Service | Kind::Version | Kind::Deployment | Kind::Instance | Kind::Assignment => {
            Shown::Spec(&["env"])
        }
        Kind::Token => Shown::Spec(&["hash"]),
        Kind::Claim => Shown::Spec(&["text"]),
        Kind::Member => Shown::Spec(&["joined_by"]),
        Kind::Secret | Kind::Cluster | Kind::Authority | Kind::Audit => Shown::Name,
        Kind::JoinToken => Shown::Kind,
    }
}

/// How a record names an object.
#[must_use]
pub fn named(kind: Kind, name: &str) -> String {
    match shown(kind) {
        Shown::Spec(_) | Shown::Name => format!("{kind} {name}"),
        Shown::Kind => kind.to_string(),
    }
}

/// What a record says of one object, from its specs before and after.
#[must_use]
pub fn change(kind: Kind, name: &str, before: Option<&Value>, after: Option<&Value>) -> AuditChange {
    let done = match (before, after) {
        (None, _) => Change::Created,
        (Some(_), Some(_)) => Change::Updated,
        (Some(_), None) => Change::Deleted,
    };
    let mut told =
        AuditChange { object: named(kind, name), change: done, before: None, after: None, note: None };
    let Shown::Spec(without) = shown(kind) else {
        told.note = Some(format!("a {kind} is not shown"));
        return told;
    };
    if before == after {
        return told;
    }
    let mut cut = |spec: Option<&Value>| {
        let spec = without_fields(spec?.clone(), without);
        let bytes = spec.to_string().len();
        if bytes <= limits::AUDIT_SPEC_BYTES {
            return Some(spec);
        }
        told.note = Some(format!("left out: {bytes} bytes are more than {}", limits::AUDIT_SPEC_BYTES));
        None
    };
    let (before, after) = (cut(before), cut(after));
    (told.before, told.after) = (before, after);
    told
}

fn without_fields(value: Value, without: &[&str]) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, _)| !without.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name, without_fields(value, without))).collect())
        }
        Value::Array(items) => items.into_iter().map(|item| without_fields(item, without)).collect(),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_kind_shows_what_opens_something() {
        let spec = json!({
            "hash": "MARKER", "sealed": "MARKER", "root": { "sealed_key": "MARKER" },
            "issuer": { "sealed_key": "MARKER" }, "text": "MARKER", "joined_by": "MARKER",
            "manifest": { "env": { "PASSWORD": "MARKER" } },
        });
        let hides = [
            (Kind::Token, "hash"),
            (Kind::Secret, "sealed"),
            (Kind::Cluster, "root"),
            (Kind::Authority, "issuer"),
            (Kind::Claim, "text"),
            (Kind::Member, "joined_by"),
            (Kind::Version, "manifest"),
            (Kind::Instance, "manifest"),
            (Kind::JoinToken, "hash"),
        ];
        for (kind, field) in hides {
            let spec = json!({ field: spec[field] });
            let told = serde_json::to_string(&change(kind, "n", Some(&json!({})), Some(&spec))).unwrap();
            assert!(!told.contains("MARKER"), "{kind}: {told}");
        }
        assert_eq!(named(Kind::JoinToken, "MARKER"), "join_token");
    }

    #[test]
    fn what_is_too_large_is_left_out_with_a_note_and_what_stayed_is_not_told() {
        let long = |bytes: usize| Value::String("x".repeat(bytes - 2));
        let told = change(Kind::Route, "r", None, Some(&long(limits::AUDIT_SPEC_BYTES)));
        assert!(told.after.is_some() && told.note.is_none());
        let told = change(Kind::Route, "r", Some(&json!(1)), Some(&long(limits::AUDIT_SPEC_BYTES + 1)));
        assert_eq!((told.before, told.after), (Some(json!(1)), None));
        assert_eq!(told.note.unwrap(), "left out: 4097 bytes are more than 4096");
        let told = change(Kind::Route, "r", Some(&json!(1)), Some(&json!(1)));
        assert_eq!((told.change, told.before, told.after), (Change::Updated, None, None));
    }
}
