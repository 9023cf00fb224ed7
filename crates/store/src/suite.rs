//! The conformance suite: what every engine of the contract must do, and nothing that only one of them does.
//!
//! An engine's test gives [`run_all`] a way to make empty stores; each case gets one of its own. Cases answer with a
//! [`Failure`] that says what was wrong, so that the suite can also be run outside a test, against a cluster.

mod lease;
mod list;
mod load;
mod txn;
mod watch;

use crate::{Entry, List, Revision, Store, StoreError, Txn, TxnOutcome, Watch, WatchEvent};
use futures_util::{StreamExt as _, future::BoxFuture};
use std::{any::Any, fmt, sync::Arc, time::Duration};
use tutti_model::Millis;

/// How long a case may take; the longest takes a few seconds on a slow disk.
const CASE: Duration = Duration::from_secs(180);
/// How long anything that must happen may take to happen.
const SOON: Duration = Duration::from_secs(30);

/// An empty store to be tested, with an engine to itself: its revisions are counted.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Lets time pass for the store's leases, by moving its clock or by really waiting.
    pub advance: Box<dyn Fn(Millis) -> BoxFuture<'static, ()> + Send + Sync>,
    /// What must live as long as the store: its folder, its server.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

/// What an engine did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// In these words.
    pub fn new(what: impl Into<String>) -> Self {
        Failure(what.into())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure(format!("an unexpected error: {error}"))
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Failure(format!("a task of the suite ended early: {error}"))
    }
}

/// How a case ends.
pub type Outcome = Result<(), Failure>;

/// One promise of the contract.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What is promised.
    pub name: &'static str,
    /// Finds out.
    pub run: fn(Subject) -> BoxFuture<'static, Outcome>,
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<Case> {
    [txn::CASES, list::CASES, lease::CASES, watch::CASES, load::CASES].concat()
}

/// Runs every case on a store of its own.
///
/// # Errors
/// The name and fault of every case that failed.
pub async fn run_all(
    make: &(dyn Fn() -> BoxFuture<'static, Result<Subject, Failure>> + Sync),
) -> Result<usize, Failure> {
    let cases = cases();
    let mut failed = Vec::new();
    for case in &cases {
        let run = async { (case.run)(make().await?).await };
        let outcome = tokio::time::timeout(CASE, run)
            .await
            .unwrap_or_else(|_| Err(Failure(format!("not done after {} seconds", CASE.as_secs()))));
        if let Err(failure) = outcome {
            failed.push(format!("{}: {failure}", case.name));
        }
    }
    if failed.is_empty() { Ok(cases.len()) } else { Err(Failure(failed.join("\n"))) }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Failure(otherwise())) }
}

fn same<T: PartialEq + fmt::Debug>(what: &str, got: &T, wanted: &T) -> Outcome {
    ensure(got == wanted, || format!("{what}: {got:?} instead of {wanted:?}"))
}

/// The revision of a transaction that must commit.
async fn commit(store: &dyn Store, txn: Txn) -> Result<Revision, Failure> {
    match store.txn(txn.clone()).await? {
        TxnOutcome::Committed(revision) => Ok(revision),
        TxnOutcome::Refused { compare } => {
            Err(Failure(format!("{txn:?} was refused for its comparison {compare}")))
        }
    }
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Result<Revision, Failure> {
    commit(store, Txn::new().put(key, value.as_bytes())).await
}

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn entry(key: &str, value: &str, created: Revision, modified: Revision) -> Entry {
    Entry { key: key.into(), value: bytes(value), created, modified, lease: None }
}

/// What a watch says next, which must be soon.
async fn said(watch: &mut Watch) -> Result<Result<WatchEvent, StoreError>, Failure> {
    tokio::time::timeout(SOON, watch.next())
        .await
        .map_err(|_| Failure("a watch did not say what it must".into()))?
        .ok_or_else(|| Failure("a watch ended without an error".into()))
}

async fn next(watch: &mut Watch) -> Result<WatchEvent, Failure> {
    Ok(said(watch).await??)
}

/// The keys there are below a prefix.
async fn keys(store: &dyn Store, list: List) -> Result<Vec<String>, Failure> {
    Ok(store.list(list).await?.entries.into_iter().map(|entry| entry.key).collect())
}
