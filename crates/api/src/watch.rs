//! Watching objects: the one way in which desired state flows down.
//!
//! On the wire it is newline-delimited JSON, one event a line.

use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tutti_model::{Problem, Resource, resource::Object};

/// What a watch says. Without a starting revision it begins with `Init`, every object there is, and `InitDone`; with
/// one, at the first change after it. Each `Changes` is one whole transaction: who has applied it has everything up to
/// its revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", bound(serialize = "S: Object", deserialize = "S: Object"))]
pub enum WatchEvent<S: Object> {
    /// What was known before is void; what is follows.
    Init,
    /// One object there is.
    InitItem(Box<Resource<S>>),
    /// That was all, as of this revision.
    InitDone {
        /// The store revision.
        revision: u64,
    },
    /// One transaction's changes. Empty as a sign of life: everything up to `revision` has been sent.
    Changes {
        /// The transaction's store revision.
        revision: u64,
        /// Its changes, in name order.
        changes: Vec<Change<S>>,
    },
}

/// One change of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", bound(serialize = "S: Object", deserialize = "S: Object"))]
pub enum Change<S: Object> {
    /// It was created or changed.
    Put(Box<Resource<S>>),
    /// It is gone.
    Delete {
        /// Its name.
        name: String,
    },
}

/// A running watch. It resumes by itself after losing its source, and ends only when its reader drops it, or with a
/// problem that trying again cannot mend (no right, no such kind).
pub type WatchStream<S> = BoxStream<'static, Result<WatchEvent<S>, Problem>>;
