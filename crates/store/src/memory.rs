//! The engine for tests and simulation: the contract's whole semantics in memory, gone with the process.
//!
//! It has no threads, and every answer follows from the order of calls and the injected clock alone. Leases that are
//! due are ended before each operation, so that time that has passed is always visible; so that a watcher hears of it
//! when nothing else happens, a task that sleeps on the clock is started with the first lease, if there is a runtime.
//! A simulation that has none calls [`MemoryStore::expire_leases`].

mod state;

use crate::{
    Entry, LeaseId, List, Listing, Revision, Store, StoreError, Txn, TxnOutcome, Watch, check,
    leases::Leases,
    watch::{self, Bounds, History, Page},
    watchers::Watchers,
};
use async_trait::async_trait;
use state::State;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};
use tokio::task::AbortHandle;
use tutti_base::Clock;
use tutti_model::Millis;

/// Revisions that can be listed and watched from, unless set otherwise: the same as SQLite's, so that a simulation
/// sees compaction where the product would.
pub const RETAIN_REVISIONS: u64 = 10_000;

/// A store in memory. Cloning shares it.
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    watchers: Arc<Watchers>,
    leases: Arc<Leases>,
    expiry: OnceLock<AbortHandle>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl MemoryStore {
    /// An empty store that keeps [`RETAIN_REVISIONS`] of history.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        MemoryStore::retaining(clock, RETAIN_REVISIONS)
    }

    /// An empty store that keeps the last `revisions` of history, and forgets older ones by itself.
    #[must_use]
    pub fn retaining(clock: Arc<dyn Clock>, revisions: u64) -> Self {
        MemoryStore(Arc::new(Shared {
            state: Mutex::new(State::new(revisions)),
            watchers: Arc::default(),
            leases: Arc::new(Leases::new(clock)),
            expiry: OnceLock::new(),
        }))
    }

    /// Ends the leases whose time is up, and removes their keys.
    pub fn expire_leases(&self) {
        drop(self.0.current());
    }
}

impl Shared {
    /// The state, with nothing in it that has expired.
    fn current(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for lease in self.leases.end_due(usize::MAX) {
            self.watchers.publish(&state.end_lease(lease));
            self.leases.forget(lease);
        }
        state
    }

    fn start_expiry(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        self.expiry.get_or_init(|| {
            let (shared, leases) = (Arc::downgrade(self), Arc::clone(&self.leases));
            let task = runtime.spawn(async move {
                loop {
                    leases.due().await;
                    let Some(shared) = shared.upgrade() else { return };
                    drop(shared.current());
                }
            });
            task.abort_handle()
        });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(expiry) = self.expiry.get() {
            expiry.abort();
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        check::key(key)?;
        Ok(self.0.current().get(key).cloned())
    }

    async fn list(&self, list: List) -> Result<Listing, StoreError> {
        check::prefix(&list.prefix)?;
        self.0.current().list(&list)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        check::txn(&txn)?;
        let mut state = self.0.current();
        let (outcome, commit) = state.txn(&txn, &self.0.leases)?;
        self.0.watchers.publish(commit.as_slice());
        Ok(outcome)
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError> {
        let history: Arc<Shared> = Arc::clone(&self.0);
        watch::open(history, prefix, after).await
    }

    async fn grant(&self, ttl: Millis) -> Result<LeaseId, StoreError> {
        check::ttl(ttl)?;
        self.0.leases.check_room(0)?;
        let id = self.0.current().grant();
        self.0.leases.add(id, ttl);
        self.0.start_expiry();
        Ok(id)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.leases.keep_alive(lease)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let mut state = self.0.current();
        self.0.leases.end(lease)?;
        self.0.watchers.publish(&state.end_lease(lease));
        self.0.leases.forget(lease);
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.0.current().compact(revision)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.0.current().bounds().current)
    }
}

#[async_trait]
impl History for Shared {
    async fn bounds(&self) -> Result<Bounds, StoreError> {
        Ok(self.current().bounds())
    }

    async fn items(&self, list: List) -> Result<Listing, StoreError> {
        self.current().list(&list)
    }

    async fn changes(&self, prefix: &str, after: Revision, upto: Revision) -> Result<Page, StoreError> {
        self.current().changes(prefix, after, upto)
    }

    fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_base::clock::VirtualClock;

    #[test]
    fn needs_no_runtime() {
        let clock = VirtualClock::default();
        let store = MemoryStore::new(Arc::new(clock.clone()));
        let mut run = std::pin::pin!(async {
            let lease = store.grant(Millis(5)).await.unwrap();
            store.txn(Txn::new().put_leased("a", *b"1", lease)).await.unwrap();
            clock.advance(Millis(5));
            store.expire_leases();
            assert_eq!(store.get("a").await.unwrap(), None);
            assert_eq!(store.revision().await.unwrap(), 2);
        });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(run.as_mut().poll(&mut context).is_ready());
    }
}
