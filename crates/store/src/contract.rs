//! The contract of every engine.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::{fmt::Debug, sync::Arc};
use tutti_model::{ErrorCode, Millis, Problem};

/// The number of a committed transaction; each is above the last, and by one in a store that has its engine to itself.
/// Where others write to what it lives in too (an etcd cluster that is shared), their transactions are counted with it.
/// A store is at revision 0 before anything was written.
pub type Revision = u64;

/// Names a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// At most [`tutti_model::limits::STORE_KEY_BYTES`] bytes.
    pub key: String,
    /// At most [`tutti_model::limits::STORE_VALUE_BYTES`] bytes.
    pub value: Arc<[u8]>,
    /// The revision that created this life of the key.
    pub created: Revision,
    /// The revision of its last change.
    pub modified: Revision,
    /// The lease it goes with, if any.
    pub lease: Option<LeaseId>,
}

/// What must hold for a transaction to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// No such key.
    Absent(String),
    /// There is such a key.
    Present(String),
    /// The key's last change is exactly this revision.
    Modified(String, Revision),
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: Arc<[u8]>,
        /// The lease it goes with.
        lease: Option<LeaseId>,
    },
    /// Removes a key; nothing happens if there is none.
    Delete {
        /// The key.
        key: String,
    },
}

/// Operations that take effect together, if every comparison holds. No key may stand in two operations, and there are
/// at most [`tutti_model::limits::STORE_TXN_OPERATIONS`] operations and as many comparisons. All keys and values of the
/// operations have at most [`tutti_model::limits::STORE_TXN_BYTES`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// What must hold.
    pub compares: Vec<Compare>,
    /// What is done then.
    pub operations: Vec<Operation>,
}

impl Txn {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Txn::default()
    }

    /// And this must hold.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// And this key is set.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Arc<[u8]>>) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value: value.into(), lease: None });
        self
    }

    /// And this key is set, to go with a lease.
    #[must_use]
    pub fn put_leased(mut self, key: impl Into<String>, value: impl Into<Arc<[u8]>>, lease: LeaseId) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value: value.into(), lease: Some(lease) });
        self
    }

    /// And this key is removed.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.operations.push(Operation::Delete { key: key.into() });
        self
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxnOutcome {
    /// It took effect, and is on disk. A transaction that changed nothing has the store's current revision.
    Committed(Revision),
    /// A comparison did not hold, and nothing happened.
    Refused {
        /// The index of the first comparison that did not hold.
        compare: usize,
    },
}

/// Which keys a list gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    /// Keys that start with this.
    pub prefix: String,
    /// As of this revision; `None` for the current one.
    pub at: Option<Revision>,
    /// Keys after this one, exclusive.
    pub after: Option<String>,
    /// At most so many; `None` for all.
    pub limit: Option<usize>,
}

impl List {
    /// All current keys that start with `prefix`.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        List { prefix: prefix.into(), ..List::default() }
    }
}

/// What a list gives, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The revision that they are of.
    pub revision: Revision,
    /// Whether more follow.
    pub more: bool,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key was set.
    Put(Entry),
    /// The key was removed.
    Delete {
        /// The key.
        key: String,
    },
}

/// What a watch says.
///
/// Without a starting revision it begins with `Init`, one `InitItem` for each key there is, and `InitDone`; with one,
/// at the first change after it. From then on there is one `Changes` for each transaction that touched the prefix,
/// whole and in order, so that a reader who has applied it has everything up to `revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// What was known before is void; what is follows.
    Init,
    /// One key there is.
    InitItem(Entry),
    /// That was all, as of this revision.
    InitDone {
        /// The revision.
        revision: Revision,
    },
    /// One transaction's changes below the prefix.
    Changes {
        /// The transaction's revision.
        revision: Revision,
        /// Its changes, in key order.
        changes: Vec<Change>,
    },
}

/// A running watch. It ends after an error. A reader that falls too far behind gets [`StoreError::Lagged`] rather than
/// a gap; it may watch again from the last revision it applied.
pub type Watch = BoxStream<'static, Result<WatchEvent, StoreError>>;

/// What can go wrong in a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The request breaks a limit or rule of the contract; nothing happened.
    #[error("the store refused the request: {0}")]
    Invalid(String),
    /// History before `oldest` is gone: start again without a revision.
    #[error("revision {asked} was compacted away; the oldest retained one is {oldest}")]
    Compacted {
        /// The revision asked for.
        asked: Revision,
        /// The oldest that can be asked for.
        oldest: Revision,
    },
    /// A revision that does not exist yet was asked for.
    #[error("revision {asked} is in the future; the store is at {current}")]
    Future {
        /// The revision asked for.
        asked: Revision,
        /// The store's revision.
        current: Revision,
    },
    /// The watcher was too slow; it may resume from the last revision it applied.
    #[error("the watcher fell too far behind")]
    Lagged,
    /// The lease does not exist or has expired.
    #[error("lease {0:?} does not exist or has expired")]
    LeaseGone(LeaseId),
    /// The disk is full. Nothing of the transaction happened.
    #[error("no space left for the store at {0}")]
    NoSpace(String),
    /// The medium cannot be written. Nothing of the transaction happened.
    #[error("the store at {0} cannot be written: the file or its medium is read-only")]
    ReadOnly(String),
    /// The store does not answer, and whether the transaction took effect is not known.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// What is stored cannot be read.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        let code = match &error {
            StoreError::Invalid(_) | StoreError::Future { .. } => ErrorCode::Invalid,
            StoreError::Compacted { .. } => ErrorCode::Conflict,
            StoreError::LeaseGone(_) => ErrorCode::NotFound,
            StoreError::Lagged
            | StoreError::NoSpace(_)
            | StoreError::ReadOnly(_)
            | StoreError::Unavailable(_) => ErrorCode::Unavailable,
            StoreError::Corrupt(_) => ErrorCode::Internal,
        };
        let problem = Problem::new(code, error.to_string());
        match error {
            StoreError::NoSpace(_) => {
                problem.hint("free some space; nothing acknowledged was lost, and writing goes on then")
            }
            StoreError::ReadOnly(_) => {
                problem.hint("make the data folder writable, or name another with --data-dir")
            }
            StoreError::Compacted { .. } => {
                problem.hint("list again, and watch from the revision that the list gives")
            }
            _ => problem,
        }
    }
}

/// A store.
#[async_trait]
pub trait Store: Send + Sync + Debug + 'static {
    /// The current value of a key.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Keys below a prefix.
    ///
    /// # Errors
    /// `Compacted` or `Future` for a revision that cannot be given.
    async fn list(&self, list: List) -> Result<Listing, StoreError>;

    /// Commits a transaction, or refuses it whole.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError>;

    /// Watches the keys below a prefix: from now with what there is, or the changes after a revision.
    ///
    /// # Errors
    /// `Compacted` or `Future` for a revision that cannot be given.
    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError>;

    /// A new lease that expires unless it is kept alive within `ttl`; its keys go with it, in one transaction.
    async fn grant(&self, ttl: Millis) -> Result<LeaseId, StoreError>;

    /// Moves a lease's expiry to its whole `ttl` from now.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease now, and removes its keys.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Forgets what happened before `revision`; the state as of it can still be listed.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// The current revision.
    async fn revision(&self) -> Result<Revision, StoreError>;
}
