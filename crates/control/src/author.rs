//! Who asked for what is being written: set around a request's handler, read where transactions are committed.
//!
//! It goes with the task and not with each call, so that no handler can forget it: whatever is committed while it is
//! set has its audit record in the same transaction. The loops have no author, and write no records.

use crate::objects::Objects;
use serde_json::Value;
use tutti_model::{
    DomainName, Kind, Resource, UserName,
    audit::{self, AuditSpec},
    limits,
};

/// Who asks, and for what.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    /// The token's or member's name.
    pub(crate) who: String,
    /// The user whose token it is.
    pub(crate) user: Option<UserName>,
    /// The address that the request came from.
    pub(crate) from: Option<String>,
    /// The request's id.
    pub(crate) request: String,
    /// The operation.
    pub(crate) operation: &'static str,
    /// What it is about, if that is known before it is done.
    pub(crate) object: Option<String>,
    /// The domain that it lives in.
    pub(crate) domain: Option<DomainName>,
}

tokio::task_local! {
    static AUTHOR: Author;
}

/// Does `doing` on behalf of `author`.
pub(crate) async fn on_behalf<T>(author: Option<Author>, doing: impl Future<Output = T>) -> T {
    match author {
        Some(author) => AUTHOR.scope(author, doing).await,
        None => doing.await,
    }
}

/// Whoever this task acts for.
pub(crate) fn current() -> Option<Author> {
    AUTHOR.try_with(Clone::clone).ok()
}

/// One object of a transaction, with its spec before and after.
#[derive(Debug, Clone)]
pub(crate) struct Changed {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Where it is stored, and the revision it is replaced at, if `before` must be read.
    pub(crate) replaces: Option<(String, u64)>,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// The record of a transaction.
pub(crate) fn record(objects: &Objects, author: Author, changed: &[Changed]) -> Resource<AuditSpec> {
    let at = objects.clock().now();
    let first = changed.first();
    let object = author.object.or_else(|| first.map(|first| audit::named(first.kind, &first.name)));
    let domain = author.domain.or_else(|| {
        let domain = first.filter(|first| first.kind == Kind::Domain)?;
        domain.name.parse().ok()
    });
    let told = changed.iter().take(limits::AUDIT_CHANGES);
    let spec = AuditSpec {
        at,
        who: author.who,
        user: author.user,
        from: author.from,
        request: author.request,
        operation: author.operation.to_owned(),
        object: object.unwrap_or_default(),
        domain,
        changes: told
            .map(|one| audit::change(one.kind, &one.name, one.before.as_ref(), one.after.as_ref()))
            .collect(),
        left_out: changed.len().saturating_sub(limits::AUDIT_CHANGES),
    };
    objects.make(objects.newest_first(at), spec)
}
