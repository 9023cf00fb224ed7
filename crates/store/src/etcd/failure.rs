//! What etcd, or the way to it, says went wrong, and what follows from it: whether the request may have taken effect,
//! and whether to ask another member.
//!
//! etcd's answers are known by its own texts, since several share a code.

use crate::StoreError;
use tonic::{Code, ConnectError, Status};

/// What became of a request that was not answered as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The revision is older than what etcd retains.
    Compacted,
    /// The revision is yet to come.
    Future,
    /// The lease is not there.
    LeaseGone,
    /// etcd's quota is used up. The request may have been the last to take effect all the same.
    NoSpace(String),
    /// It did not take effect; it may be sent again, to another member.
    Undone(String),
    /// It did not take effect, and would not if it were sent again.
    Invalid(String),
    /// etcd found its members at odds with each other.
    Corrupt(String),
    /// It may or may not have taken effect.
    Unknown(String),
}

impl Failure {
    /// What the answer of this member means.
    pub(super) fn of(status: &Status, member: &str) -> Failure {
        let text = status.message();
        let said = || format!("etcd at {member}: {}", words(status));
        match status.code() {
            _ if unsent(status) => Failure::Undone(said()),
            Code::OutOfRange if text.contains("has been compacted") => Failure::Compacted,
            Code::OutOfRange if text.contains("future revision") => Failure::Future,
            Code::NotFound if text.contains("lease not found") => Failure::LeaseGone,
            Code::ResourceExhausted if text.contains("space exceeded") => Failure::NoSpace(format!(
                "etcd at {member}, whose quota is used up: raise its --quota-backend-bytes, or run etcdctl compact, \
                     defrag and alarm disarm"
            )),
            // Said before anything is proposed to the cluster.
            Code::ResourceExhausted if text.contains("too many requests") => Failure::Undone(said()),
            Code::Unavailable if text == "etcdserver: no leader" => Failure::Undone(said()),
            Code::InvalidArgument if text.contains("user name is empty") => Failure::Invalid(format!(
                "etcd at {member} wants a user and password, which this release cannot give it"
            )),
            Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => {
                Failure::Invalid(said())
            }
            Code::DataLoss => Failure::Corrupt(said()),
            _ => Failure::Unknown(said()),
        }
    }

    /// A member did not answer in time.
    pub(super) fn late(member: &str, limit: std::time::Duration) -> Failure {
        Failure::Unknown(format!("etcd at {member}: no answer within {} s", limit.as_secs()))
    }

    /// Whether it may be better to go on with another member.
    pub(super) const fn is_of_the_member(&self) -> bool {
        matches!(self, Failure::Undone(_) | Failure::Unknown(_) | Failure::Corrupt(_))
    }
}

/// For requests whose revisions and leases are not those of the caller.
impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        match failure {
            Failure::Compacted => StoreError::Unavailable("etcd: history was compacted meanwhile".into()),
            Failure::Future => StoreError::Unavailable("etcd: a member is behind the others".into()),
            Failure::LeaseGone => StoreError::Unavailable("etcd: a lease ended meanwhile".into()),
            Failure::NoSpace(place) => StoreError::NoSpace(place),
            Failure::Undone(why) | Failure::Unknown(why) => StoreError::Unavailable(why),
            Failure::Invalid(why) => StoreError::Invalid(why),
            Failure::Corrupt(why) => StoreError::Corrupt(why),
        }
    }
}

/// Whether there was no connection that the request could have gone over.
fn unsent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What a status says, with its innermost cause: the outer ones say only that there is one.
pub(super) fn words(status: &Status) -> String {
    let mut innermost = std::error::Error::source(status);
    while let Some(next) = innermost.and_then(std::error::Error::source) {
        innermost = Some(next);
    }
    match (status.message(), innermost) {
        (text, Some(cause)) if !text.contains(&cause.to_string()) => format!("{text}: {cause}"),
        ("", None) => status.code().to_string(),
        (text, _) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_texts_are_known() {
        let of = |code, text: &str| Failure::of(&Status::new(code, text), "a:1");
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(of(Code::OutOfRange, compacted), Failure::Compacted);
        let future = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(of(Code::OutOfRange, future), Failure::Future);
        assert_eq!(of(Code::NotFound, "etcdserver: requested lease not found"), Failure::LeaseGone);
        let full = of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert!(
            matches!(full, Failure::NoSpace(place) if place.contains("a:1") && place.contains("etcdctl"))
        );
        let busy = of(Code::ResourceExhausted, "etcdserver: too many requests");
        assert!(matches!(busy, Failure::Undone(why) if why.contains("a:1")));
        let large = of(Code::InvalidArgument, "etcdserver: request is too large");
        assert!(matches!(large, Failure::Invalid(why) if why.contains("a:1") && why.contains("too large")));
        assert!(matches!(of(Code::Unavailable, "etcdserver: no leader"), Failure::Undone(_)));
    }

    /// Whatever else is said, a write may have been done.
    #[test]
    fn what_is_not_known_is_unknown() {
        for (code, text) in [
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::Unknown, "raft proposal dropped"),
            (Code::Cancelled, ""),
            (Code::DeadlineExceeded, ""),
            (Code::Internal, "h2 protocol error"),
            (Code::OutOfRange, "decoded message length too large"),
        ] {
            let failure = Failure::of(&Status::new(code, text), "a:1");
            assert!(matches!(&failure, Failure::Unknown(why) if why.contains("a:1")), "{text}: {failure:?}");
        }
    }
}
