//! Copies everything from one store into an empty one, of any two engines.
//!
//! What goes with a lease stays behind: it says who lives, and nobody does while a store is copied. Keys get revisions
//! of their own in the target, all above the source's last one, and the target's history begins after them. So whoever
//! has read the source and comes back to the target is told to read anew, whatever revision they bring.
//!
//! A key marks the target until it is whole: a copy that is cut off is known by it, is not opened as a store, and is
//! begun anew by the next try. Every write compares the mark, so that of two copies into one target only the later
//! goes on.

use crate::{Compare, Entry, List, Revision, Store, StoreError, Txn, TxnOutcome, check};
use futures_util::future;
use std::{sync::Arc, time::Duration};
use tutti_base::sha256::Hasher;
use tutti_model::{
    Digest, ErrorCode, Problem,
    limits::{STORE_TXN_BYTES, STORE_TXN_OPERATIONS},
};

/// Below this stands what a copy keeps in its target. It sorts before all keys of objects.
const MARK: &str = "!migration";
/// What a copy writes there.
const COPY: &str = "unfinished";
/// Keys read at once.
const PAGE: usize = 64;
/// How long whatever is bound to a lease may take to go. An ingress that is no more goes 10 s after the store is opened.
const LEASES: Duration = Duration::from_secs(20);
/// Pause before looking again.
const PAUSE: Duration = Duration::from_millis(500);
/// Writes under way at once while the target's revision is raised.
const RAISERS: u64 = 64;

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Keys that were copied.
    pub keys: u64,
    /// Bytes of these and their values.
    pub bytes: u64,
    /// SHA-256 over keys and values, the same of both sides.
    pub digest: Digest,
    /// The revision of the target from which on it can be watched.
    pub revision: Revision,
}

/// Whether a store is the target of a copy that did not come to its end.
///
/// # Errors
/// The store's own.
pub async fn is_unfinished(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.get(MARK).await?.is_some())
}

/// Copies `from` into `to`, and reads both to see that they have the same.
///
/// # Errors
/// `already_exists` if the target has anything in it, but for a copy that was cut off; `conflict` if the source is in
/// use, is itself unfinished, or was written to meanwhile, or if another copy took the target over; `internal` if the
/// two are not the same in the end; and the stores' own. The target stays marked then, and the source as it is.
pub async fn migrate(from: &dyn Store, to: &dyn Store) -> Result<Migrated, Problem> {
    if is_unfinished(from).await? {
        return Err(Problem::conflict("the source is the target of a copy that was cut off")
            .hint("finish that one, or name the store that it was made from"));
    }
    let source = at_rest(from).await?;
    let mark = take(to, COPY).await?;
    raise(to, &mark, source.revision).await?;
    copy(from, source.revision, to, &mark).await?;
    if from.revision().await? != source.revision {
        return Err(in_use("it was written to while it was copied".into()));
    }
    let target = survey(to, to.revision().await?).await?;
    if (target.keys, target.bytes, &target.digest) != (source.keys, source.bytes, &source.digest) {
        return Err(Problem::internal(format!(
            "the copy is not what it was made from: {} keys with digest {} instead of {} with {}",
            target.keys, target.digest, source.keys, source.digest
        )));
    }
    let revision = unmark(to, &mark).await?;
    Ok(Migrated { keys: source.keys, bytes: source.bytes, digest: source.digest, revision })
}

fn in_use(why: String) -> Problem {
    Problem::new(ErrorCode::Conflict, format!("the source is in use: {why}"))
        .hint("stop whatever runs over it, and copy it again")
}

/// What is in a store, less marks.
pub(crate) struct Survey {
    revision: Revision,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
    /// A key that goes with a lease. These are not counted.
    leased: Option<String>,
}

/// Counts keys and values, and has one digest over all of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    keys: u64,
    bytes: u64,
    hasher: Hasher,
}

impl Tally {
    pub(crate) fn add(&mut self, key: &str, value: &[u8]) {
        for part in [key.as_bytes(), value] {
            let size = u64::try_from(part.len()).unwrap_or(u64::MAX);
            self.hasher.update(&size.to_be_bytes());
            self.hasher.update(part);
            self.bytes += size;
        }
        self.keys += 1;
    }

    pub(crate) fn finish(self, revision: Revision) -> Migrated {
        Migrated { keys: self.keys, bytes: self.bytes, digest: self.hasher.finish(), revision }
    }
}

pub(crate) async fn survey(store: &dyn Store, at: Revision) -> Result<Survey, StoreError> {
    let (mut tally, mut leased) = (Tally::default(), None);
    let mut pages = Pages::of(store, at);
    while let Some(page) = pages.next().await? {
        for entry in page {
            if entry.lease.is_some() {
                leased.get_or_insert(entry.key);
                continue;
            }
            tally.add(&entry.key, &entry.value);
        }
    }
    let Migrated { keys, bytes, digest, .. } = tally.finish(at);
    Ok(Survey { revision: at, keys, bytes, digest, leased })
}

/// The source, once nothing in it goes with a lease: as long as something does, somebody lives.
async fn at_rest(store: &dyn Store) -> Result<Survey, Problem> {
    let end = tokio::time::Instant::now() + LEASES;
    loop {
        let survey = survey(store, store.revision().await?).await?;
        let Some(leased) = &survey.leased else { return Ok(survey) };
        if tokio::time::Instant::now() >= end {
            return Err(in_use(format!("\"{leased}\" is kept alive")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// All entries as of a revision, but for marks, in pages.
#[derive(Debug)]
pub(crate) struct Pages<'a> {
    store: &'a dyn Store,
    at: Revision,
    /// `None` at the end.
    after: Option<Option<String>>,
}

impl<'a> Pages<'a> {
    pub(crate) fn of(store: &'a dyn Store, at: Revision) -> Self {
        Pages { store, at, after: Some(None) }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let list = List { prefix: String::new(), at: Some(self.at), after, limit: Some(PAGE) };
        let mut listing = self.store.list(list).await?;
        if listing.more {
            self.after = listing.entries.last().map(|entry| Some(entry.key.clone()));
        }
        listing.entries.retain(|entry| !entry.key.starts_with(MARK));
        Ok(Some(listing.entries))
    }
}

/// The mark in a target, as the one who copies last set it.
#[derive(Debug)]
pub(crate) struct Mark(Revision);

impl Mark {
    /// A transaction that is refused once another copy has set the mark.
    pub(crate) fn guard(&self) -> Txn {
        Txn::new().when(Compare::Modified(MARK.into(), self.0))
    }
}

pub(crate) async fn write(to: &dyn Store, txn: Txn) -> Result<Revision, Problem> {
    match to.txn(txn).await? {
        TxnOutcome::Committed(revision) => Ok(revision),
        TxnOutcome::Refused { .. } => Err(Problem::conflict("another copy goes on in the target")
            .hint("let that one come to its end, or stop it and copy again")),
    }
}

/// Marks an empty target for this work, or takes over one that the same work had marked, and empties it.
pub(crate) async fn take(to: &dyn Store, work: &str) -> Result<Mark, Problem> {
    let marked = to.get(MARK).await?;
    let first = to.list(List { limit: Some(1), ..List::default() }).await?.entries.into_iter().next();
    let compare = match (&marked, first) {
        (Some(mark), _) if *mark.value == *work.as_bytes() => Compare::Modified(MARK.into(), mark.modified),
        (Some(_), _) => {
            return Err(Problem::conflict(
                "the target was begun by another copy or restore, and is not whole",
            )
            .hint("finish that one, or name an empty store"));
        }
        (None, None) => Compare::Absent(MARK.into()),
        (None, Some(entry)) => {
            return Err(Problem::new(
                ErrorCode::AlreadyExists,
                format!("the target is not empty: it has \"{}\"", entry.key),
            )
            .hint("name an empty one"));
        }
    };
    let mark = Mark(write(to, Txn::new().when(compare).put(MARK, work.as_bytes())).await?);
    loop {
        let list = List { after: Some(MARK.into()), limit: Some(STORE_TXN_OPERATIONS), ..List::default() };
        let left = to.list(list).await?.entries;
        if left.is_empty() {
            return Ok(mark);
        }
        write(to, left.into_iter().fold(mark.guard(), |txn, entry| txn.delete(entry.key))).await?;
    }
}

/// Declares a target whole. Its history begins here.
pub(crate) async fn unmark(to: &dyn Store, mark: &Mark) -> Result<Revision, Problem> {
    let revision = write(to, mark.guard().delete(MARK)).await?;
    to.compact(revision).await?;
    Ok(revision)
}

/// Writes until the target's revision is the source's at the least.
pub(crate) async fn raise(to: &dyn Store, mark: &Mark, revision: Revision) -> Result<(), Problem> {
    loop {
        let missing = revision.saturating_sub(to.revision().await?);
        if missing == 0 {
            break;
        }
        let raisers = (0..missing.min(RAISERS))
            .map(|raiser| write(to, mark.guard().put(format!("{MARK}/{raiser:02}"), *b"")));
        future::try_join_all(raisers).await?;
    }
    let raisers = (0..RAISERS).fold(mark.guard(), |txn, raiser| txn.delete(format!("{MARK}/{raiser:02}")));
    write(to, raisers).await?;
    Ok(())
}

/// Copies what was there at `at`, in transactions as large as they may be.
async fn copy(from: &dyn Store, at: Revision, to: &dyn Store, mark: &Mark) -> Result<(), Problem> {
    let mut filling = Filling::new(to, mark);
    let mut pages = Pages::of(from, at);
    while let Some(page) = pages.next().await? {
        for entry in page.into_iter().filter(|entry| entry.lease.is_none()) {
            filling.put(entry.key, entry.value).await?;
        }
    }
    filling.finish().await
}

/// Writes keys into a marked target.
pub(crate) struct Filling<'a> {
    to: &'a dyn Store,
    mark: &'a Mark,
    txn: Txn,
}

impl<'a> Filling<'a> {
    pub(crate) fn new(to: &'a dyn Store, mark: &'a Mark) -> Self {
        Filling { to, mark, txn: mark.guard() }
    }

    pub(crate) async fn put(&mut self, key: String, value: Arc<[u8]>) -> Result<(), Problem> {
        let bytes = check::weight(&self.txn) + key.len() + value.len();
        if self.txn.operations.len() >= STORE_TXN_OPERATIONS || bytes > STORE_TXN_BYTES {
            write(self.to, std::mem::replace(&mut self.txn, self.mark.guard())).await?;
        }
        self.txn = std::mem::take(&mut self.txn).put(key, value);
        Ok(())
    }

    pub(crate) async fn finish(self) -> Result<(), Problem> {
        write(self.to, self.txn).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
