//! Objects in the store: typed reads, and transactions built from typed writes.
//!
//! The revision of an object is that of its key. A write that was decided from an object compares that revision, so
//! that nothing is decided from what is no longer so.

use crate::{
    author::{self, Author, Changed},
    keys::Home,
};
use futures_util::StreamExt as _;
use serde_json::Value;
use std::sync::Arc;
use tutti_api::{Change, WatchEvent, WatchStream};
use tutti_base::{Clock, Random};
use tutti_model::{
    Problem, Resource, Timestamp, audit::AuditSpec, event::EventSpec, limits, name::ZoneName,
    resource::Object,
};
use tutti_store::{Compare, Entry, LeaseId, List, Operation, Store, StoreError, Txn, TxnOutcome};

/// The store, seen as objects of one control.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<dyn Store>,
    zone: ZoneName,
    clock: Arc<dyn Clock>,
    random: Random,
    /// What every write compares beside its own.
    fence: Option<Compare>,
}

/// Objects read together.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<S: Object> {
    /// The objects, in name order.
    pub items: Vec<Resource<S>>,
    /// The revision they are of.
    pub revision: u64,
    /// Whether more follow.
    pub more: bool,
}

impl Objects {
    /// Objects of the global tier and of `zone` in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, zone: ZoneName, clock: Arc<dyn Clock>, random: Random) -> Self {
        Objects { store, zone, clock, random, fence: None }
    }

    /// The same objects, for writes that take effect only while this object is at its revision.
    #[must_use]
    pub fn fenced<S: Object>(&self, by: &Resource<S>) -> Self {
        let fence = Compare::Modified(self.key::<S>(&by.name), by.revision);
        Objects { fence: Some(fence), ..self.clone() }
    }

    /// The store beneath.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The zone that this control serves.
    #[must_use]
    pub const fn zone(&self) -> &ZoneName {
        &self.zone
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The source of randomness.
    #[must_use]
    pub const fn random(&self) -> &Random {
        &self.random
    }

    /// The key of an object of this kind.
    #[must_use]
    pub fn key<S: Object>(&self, name: &str) -> String {
        Home::of(S::KIND, &self.zone).key(S::KIND, name)
    }

    /// A new object, not stored yet.
    pub fn make<S: Object>(&self, name: impl Into<String>, spec: S) -> Resource<S> {
        Resource::new(name, self.random.uid(), self.clock.now(), spec)
    }

    /// A name for what happened at this moment. Names are listed in their order, and of what happened the newest is
    /// wanted first.
    pub(crate) fn newest_first(&self, at: Timestamp) -> String {
        format!("{:016x}-{:016x}", u64::MAX - at.0, self.random.bits())
    }

    /// The object of this name, if there is one.
    pub async fn find<S: Object>(&self, name: &str) -> Result<Option<Resource<S>>, Problem> {
        match self.store.get(&self.key::<S>(name)).await? {
            Some(entry) => Ok(Some(decode(&entry)?)),
            None => Ok(None),
        }
    }

    /// The object of this name.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn get<S: Object>(&self, name: &str) -> Result<Resource<S>, Problem> {
        self.find(name).await?.ok_or_else(|| Problem::not_found(S::KIND, name))
    }

    /// Every object of a kind whose name starts with `prefix`.
    pub async fn list<S: Object>(&self, prefix: &str) -> Result<Listed<S>, Problem> {
        self.page(prefix, None, None).await
    }

    /// Objects of a kind, from after the name `after` on, at most `limit`.
    pub async fn page<S: Object>(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Listed<S>, Problem> {
        let list = List {
            prefix: self.key::<S>(prefix),
            at: None,
            after: after.map(|name| self.key::<S>(name)),
            limit,
        };
        let listing = self.store.list(list).await?;
        let items = listing.entries.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Listed { items, revision: listing.revision, more: listing.more })
    }

    /// Watches a kind. It resumes by itself where it was when the store lags or does not answer, and begins again with
    /// `Init` when that revision was compacted away.
    pub fn watch<S: Object>(&self, after: Option<u64>) -> WatchStream<S> {
        let state = Watching { objects: self.clone(), prefix: self.key::<S>(""), after, running: None };
        futures_util::stream::unfold(state, |mut state| async move {
            let event = state.next::<S>().await;
            Some((event, state))
        })
        .boxed()
    }

    /// Starts a transaction.
    pub fn write(&self) -> Write {
        let txn = Txn { compares: self.fence.iter().cloned().collect(), ..Txn::new() };
        let author = author::current();
        Write { objects: self.clone(), txn, bytes: 0, fault: None, author, changed: Vec::new() }
    }
}

/// Pause before a broken watch is tried again: long enough not to hammer a store that is down, short enough not to be
/// noticed when it is back.
const WATCH_RETRY: tutti_model::Millis = tutti_model::Millis(200);

/// A watch that survives its source.
struct Watching {
    objects: Objects,
    prefix: String,
    after: Option<u64>,
    running: Option<tutti_store::Watch>,
}

impl Watching {
    async fn next<S: Object>(&mut self) -> Result<WatchEvent<S>, Problem> {
        loop {
            let Some(running) = &mut self.running else {
                match self.objects.store.watch(&self.prefix, self.after).await {
                    Ok(watch) => self.running = Some(watch),
                    Err(error) => self.recover(&error).await,
                }
                continue;
            };
            match running.next().await {
                Some(Ok(event)) => match self.typed(event) {
                    Ok(event) => return Ok(event),
                    Err(problem) => {
                        tracing::error!(%problem, prefix = %self.prefix, "an object cannot be read; left out")
                    }
                },
                Some(Err(error)) => self.recover(&error).await,
                None => self.recover(&StoreError::Lagged).await,
            }
        }
    }

    async fn recover(&mut self, error: &StoreError) {
        self.running = None;
        match error {
            StoreError::Compacted { .. } | StoreError::Future { .. } => self.after = None,
            StoreError::Lagged => {}
            error => {
                tracing::warn!(%error, prefix = %self.prefix, "watch broken; trying again");
                self.objects.clock.sleep(WATCH_RETRY).await;
            }
        }
    }

    fn typed<S: Object>(&mut self, event: tutti_store::WatchEvent) -> Result<WatchEvent<S>, Problem> {
        Ok(match event {
            tutti_store::WatchEvent::Init => WatchEvent::Init,
            tutti_store::WatchEvent::InitItem(entry) => WatchEvent::InitItem(Box::new(decode(&entry)?)),
            tutti_store::WatchEvent::InitDone { revision } => {
                self.after = Some(revision);
                WatchEvent::InitDone { revision }
            }
            tutti_store::WatchEvent::Changes { revision, changes } => {
                self.after = Some(revision);
                let typed = changes.iter().filter_map(|change| match change {
                    tutti_store::Change::Put(entry) => match decode(entry) {
                        Ok(object) => Some(Change::Put(Box::new(object))),
                        Err(problem) => {
                            tracing::error!(%problem, "an object cannot be read; left out");
                            None
                        }
                    },
                    tutti_store::Change::Delete { key } => Some(Change::Delete {
                        name: key.strip_prefix(&self.prefix).unwrap_or(key).to_owned(),
                    }),
                });
                WatchEvent::Changes { revision, changes: typed.collect() }
            }
        })
    }
}

/// Reads an object from its entry.
///
/// # Errors
/// `internal`, naming the key, if it is not what this release understands.
pub fn decode<S: Object>(entry: &Entry) -> Result<Resource<S>, Problem> {
    let mut object: Resource<S> = serde_json::from_slice(&entry.value).map_err(|error| {
        Problem::internal(format!("the stored object {} cannot be read: {error}", entry.key))
    })?;
    object.revision = entry.modified;
    Ok(object)
}

/// What was asked of an object, for its record.
fn spec<S: Object>(object: &Resource<S>) -> Option<Value> {
    Some(serde_json::to_value(&object.spec).unwrap_or(Value::Null))
}

/// A transaction of typed writes.
#[derive(Debug)]
#[must_use = "nothing is written before commit"]
pub struct Write {
    objects: Objects,
    txn: Txn,
    /// Of the keys and values to be written.
    bytes: usize,
    fault: Option<Problem>,
    /// On whose behalf; then the transaction has an audit record.
    author: Option<Author>,
    /// What the record tells of.
    changed: Vec<Changed>,
}

impl Write {
    /// And the object is created; refused if one of this name is there.
    pub fn create<S: Object>(mut self, object: &Resource<S>) -> Self {
        let key = self.objects.key::<S>(&object.name);
        self.txn.compares.push(Compare::Absent(key.clone()));
        self.note::<S>(&object.name, None, None, spec(object));
        self.put(key, object, None)
    }

    /// And the object is created, bound to a lease.
    pub fn create_leased<S: Object>(mut self, object: &Resource<S>, lease: LeaseId) -> Self {
        let key = self.objects.key::<S>(&object.name);
        self.txn.compares.push(Compare::Absent(key.clone()));
        self.put(key, object, Some(lease))
    }

    /// And the object is replaced; refused if it is no longer at the revision it was read at.
    pub fn update<S: Object>(mut self, object: &Resource<S>) -> Self {
        let key = self.objects.key::<S>(&object.name);
        self.txn.compares.push(Compare::Modified(key.clone(), object.revision));
        self.note::<S>(&object.name, Some((key.clone(), object.revision)), None, spec(object));
        self.put(key, object, None)
    }

    /// And the object is written as it is; refused if it is no longer at the revision it was read at. Of two transactions
    /// that touch one object only one is committed. Nothing of it changes, so that no record tells of it.
    pub fn touch<S: Object>(mut self, object: &Resource<S>) -> Self {
        let key = self.objects.key::<S>(&object.name);
        self.txn.compares.push(Compare::Modified(key.clone(), object.revision));
        self.put(key, object, None)
    }

    /// And the object is replaced and stays bound to its lease; refused if it is no longer at the revision it was read
    /// at.
    pub fn update_leased<S: Object>(mut self, object: &Resource<S>, lease: LeaseId) -> Self {
        let key = self.objects.key::<S>(&object.name);
        self.txn.compares.push(Compare::Modified(key.clone(), object.revision));
        self.put(key, object, Some(lease))
    }

    /// And the object is removed; refused if it is no longer at the revision it was read at.
    pub fn delete<S: Object>(mut self, object: &Resource<S>) -> Self {
        let key = self.objects.key::<S>(&object.name);
        self.txn.compares.push(Compare::Modified(key.clone(), object.revision));
        self.note::<S>(&object.name, None, spec(object), None);
        self.txn.operations.push(Operation::Delete { key });
        self
    }

    /// And what that means is told, if it is worth an event. Beside what else is written an event matters little: it
    /// compares nothing, and where the transaction has no room for it, it is left out.
    pub fn tell(self, event: Option<EventSpec>) -> Self {
        let Some(event) = event else { return self };
        let used = self.txn.operations.len().max(self.txn.compares.len());
        let (record, record_bytes) = self.kept_for_record();
        if used + record >= limits::STORE_TXN_OPERATIONS
            || self.bytes + record_bytes + limits::EVENT_BYTES > limits::STORE_TXN_BYTES
        {
            tracing::debug!(?event, "an event is left out: its transaction is full");
            return self;
        }
        let event = self.objects.make(self.objects.newest_first(event.at), event);
        let key = self.objects.key::<EventSpec>(&event.name);
        self.put(key, &event, None)
    }

    /// And the object must still be at the revision it was read at.
    pub fn unchanged<S: Object>(mut self, object: &Resource<S>) -> Self {
        self.txn.compares.push(Compare::Modified(self.objects.key::<S>(&object.name), object.revision));
        self
    }

    /// And this comparison must hold.
    pub fn when(mut self, compare: Compare) -> Self {
        self.txn.compares.push(compare);
        self
    }

    /// How many operations there are so far.
    #[must_use]
    pub const fn operations(&self) -> usize {
        self.txn.operations.len()
    }

    /// How many more objects can be written or compared in this transaction, even if they are of the largest size. Each
    /// written one is compared too.
    #[must_use]
    pub fn room(&self) -> usize {
        let (record, record_bytes) = self.kept_for_record();
        let used = self.txn.operations.len().max(self.txn.compares.len()) + record;
        let bytes = limits::STORE_TXN_BYTES.saturating_sub(self.bytes + record_bytes);
        let largest = limits::STORE_KEY_BYTES + limits::STORE_VALUE_BYTES;
        limits::STORE_TXN_OPERATIONS.saturating_sub(used).min(bytes / largest)
    }

    /// Operations and bytes that are kept for the audit record.
    const fn kept_for_record(&self) -> (usize, usize) {
        match self.author {
            Some(_) => (1, limits::STORE_KEY_BYTES + limits::AUDIT_RECORD_BYTES),
            None => (0, 0),
        }
    }

    /// Commits. `None` means that something had changed meanwhile, and nothing was written.
    ///
    /// # Errors
    /// The store's own, and `quota_exceeded` for an object that is too large to be stored.
    pub async fn commit(mut self) -> Result<Option<u64>, Problem> {
        if self.author.is_some() && !self.changed.is_empty() {
            self = self.with_record().await?;
        }
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        match self.objects.store.txn(self.txn).await? {
            TxnOutcome::Committed(revision) => Ok(Some(revision)),
            TxnOutcome::Refused { .. } => Ok(None),
        }
    }

    fn note<S: Object>(
        &mut self,
        name: &str,
        replaces: Option<(String, u64)>,
        before: Option<Value>,
        after: Option<Value>,
    ) {
        if self.author.is_some() {
            let name = name.to_owned();
            self.changed.push(Changed { kind: S::KIND, name, replaces, before, after });
        }
    }

    /// The same, with the record of what it changes: committed together, or not at all.
    async fn with_record(mut self) -> Result<Self, Problem> {
        let Some(author) = self.author.take() else { return Ok(self) };
        for changed in self.changed.iter_mut().take(limits::AUDIT_CHANGES) {
            let Some((key, revision)) = &changed.replaces else { continue };
            // If it is no longer at that revision, nothing is committed either.
            let entry = self.objects.store.get(key).await?.filter(|entry| entry.modified == *revision);
            let stored = entry.and_then(|entry| serde_json::from_slice::<Value>(&entry.value).ok());
            let spec = stored.and_then(|mut stored| stored.get_mut("spec").map(Value::take));
            changed.before = Some(spec.unwrap_or_default());
        }
        let record = author::record(&self.objects, author, &self.changed);
        let key = self.objects.key::<AuditSpec>(&record.name);
        Ok(self.put(key, &record, None))
    }

    fn put<S: Object>(mut self, key: String, object: &Resource<S>, lease: Option<LeaseId>) -> Self {
        match serde_json::to_vec(object) {
            Ok(value) if value.len() <= limits::STORE_VALUE_BYTES => {
                self.bytes += key.len() + value.len();
                self.txn.operations.push(Operation::Put { key, value: value.into(), lease });
            }
            Ok(value) => {
                self.fault = Some(Problem::new(
                    tutti_model::ErrorCode::QuotaExceeded,
                    format!(
                        "{} is {} bytes, more than {}",
                        object.object(),
                        value.len(),
                        limits::STORE_VALUE_BYTES
                    ),
                ));
            }
            Err(error) => {
                self.fault =
                    Some(Problem::internal(format!("{} cannot be written: {error}", object.object())))
            }
        }
        self
    }
}
