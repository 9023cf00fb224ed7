//! Any engine, with faults injected: for tests of what lives above the store.
//!
//! Every fault follows from the seed and the order of calls. An injected fault keeps to the contract: what answers
//! `NoSpace` did nothing, what answers `Unavailable` may have done everything, and a watch that breaks ends with an
//! error and without a gap.

use crate::{Entry, LeaseId, List, Listing, Revision, Store, StoreError, Txn, TxnOutcome, Watch, WatchEvent};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;
use tutti_base::{Clock, Random};
use tutti_model::{Millis, Timestamp};

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers `Unavailable`, and did nothing.
    Before,
    /// It answers `Unavailable`, and took effect all the same.
    After,
    /// It answers `NoSpace`.
    NoSpace,
    /// It answers `ReadOnly`.
    ReadOnly,
}

/// How often faults happen, each in a thousandth of the calls it can happen to, and how long a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// [`Fault::Before`] on a write, and `Unavailable` on a read.
    pub before: u64,
    /// [`Fault::After`] on a write.
    pub after: u64,
    /// [`Fault::NoSpace`] on a write.
    pub no_space: u64,
    /// A watch breaks instead of giving its next event.
    pub watch_breaks: u64,
    /// A watch is late: it holds its next event, and all after it, up to `stall`. Others tell what is newer meanwhile.
    pub watch_stalls: u64,
    /// The longest that a watch is late.
    pub stall: Millis,
    /// The longest that a call is held up; each waits for a random part of it, by the clock.
    pub latency: Millis,
}

/// The hands on a [`Faulty`] store. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    random: Random,
    clock: Arc<dyn Clock>,
    plan: Mutex<Plan>,
    paused: AtomicBool,
    /// Counts the times that all watches were broken.
    breaks: AtomicU64,
    /// Told when either changes. It wakes in the order of waiting, which `tokio::sync::watch` does not: that one draws
    /// lots, and no seed would tell the same story twice.
    changed: Notify,
}

impl Shared {
    /// Returns once it is so.
    async fn until(&self, is_so: impl Fn(&Shared) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(self) {
                return;
            }
            changed.await;
        }
    }
}

#[derive(Debug, Default)]
struct Plan {
    rates: Rates,
    next: VecDeque<Fault>,
    injected: u64,
    /// Watches of these keys tell nothing before then.
    late: Vec<(String, Timestamp)>,
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on faults happen so often.
    pub fn set_rates(&self, rates: Rates) {
        self.plan().rates = rates;
    }

    /// The next `count` writes fail so, whatever the rates; after those already asked for.
    pub fn fail_next(&self, count: usize, fault: Fault) {
        self.plan().next.extend(std::iter::repeat_n(fault, count));
    }

    /// Calls, and events of watches, wait from now on until [`Faults::resume`].
    pub fn pause(&self) {
        self.0.paused.store(true, Ordering::SeqCst);
    }

    /// Whatever waits goes on.
    pub fn resume(&self) {
        self.0.paused.store(false, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    /// Watches of exactly this prefix tell nothing new before `until`.
    pub fn delay(&self, prefix: &str, until: Timestamp) {
        let mut plan = self.plan();
        plan.late.retain(|(known, _)| known != prefix);
        plan.late.push((prefix.to_owned(), until));
    }

    /// When a watch of this prefix may tell something again.
    fn late(&self, prefix: &str) -> Timestamp {
        let plan = self.plan();
        let late = plan.late.iter().find(|(known, _)| known == prefix);
        late.map_or(Timestamp(0), |(_, until)| *until)
    }

    /// Ends every running watch with `Unavailable`.
    pub fn break_watches(&self) {
        self.0.breaks.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    /// How many faults there were so far, breaks of all watches not counted.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.plan().injected
    }

    fn happens(&self, rate: u64) -> bool {
        rate > 0 && self.0.random.below(1000) < rate
    }

    async fn held_up(&self) {
        self.0.until(|shared| !shared.paused.load(Ordering::SeqCst)).await;
        let latency = self.plan().rates.latency;
        if latency.0 > 0 {
            self.0.clock.sleep(Millis(self.0.random.below(latency.0 + 1))).await;
        }
    }

    async fn before_read(&self) -> Result<(), StoreError> {
        self.held_up().await;
        let rate = self.plan().rates.before;
        if self.happens(rate) {
            self.plan().injected += 1;
            return Err(unavailable());
        }
        Ok(())
    }

    fn next_write(&self) -> Option<Fault> {
        let mut plan = self.plan();
        let rates = plan.rates;
        let fault = plan.next.pop_front().or_else(|| {
            [(rates.before, Fault::Before), (rates.after, Fault::After), (rates.no_space, Fault::NoSpace)]
                .into_iter()
                .find(|(rate, _)| self.happens(*rate))
                .map(|(_, fault)| fault)
        });
        plan.injected += u64::from(fault.is_some());
        fault
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.held_up().await;
        match self.next_write() {
            None => write.await,
            Some(Fault::Before) => Err(unavailable()),
            Some(Fault::After) => {
                // What was wrong with the request, if anything, is as unknown as the rest.
                let _outcome = write.await;
                Err(unavailable())
            }
            Some(Fault::NoSpace) => Err(StoreError::NoSpace("an injected fault".into())),
            Some(Fault::ReadOnly) => Err(StoreError::ReadOnly("an injected fault".into())),
        }
    }

    fn watch(&self, prefix: &str, inner: Watch) -> Watch {
        let breaks = self.0.breaks.load(Ordering::SeqCst);
        let watching =
            Watching { inner: Some(inner), prefix: prefix.to_owned(), breaks, faults: self.clone() };
        Box::pin(stream::unfold(watching, Watching::next))
    }
}

struct Watching {
    /// `None` after an error.
    inner: Option<Watch>,
    prefix: String,
    /// How often watches had been broken when it began.
    breaks: u64,
    faults: Faults,
}

impl Watching {
    async fn next(mut self) -> Option<(Result<WatchEvent, StoreError>, Self)> {
        let inner = self.inner.as_mut()?;
        let event = tokio::select! {
            biased;
            () = self.faults.0.until(|shared| shared.breaks.load(Ordering::SeqCst) != self.breaks) => {
                Err(unavailable())
            }
            event = inner.next() => event?,
        };
        self.faults.held_up().await;
        let late = self.faults.late(&self.prefix);
        if late > self.faults.0.clock.now() {
            self.faults.0.clock.sleep_until(late).await;
        }
        let rates = self.faults.plan().rates;
        if self.faults.happens(rates.watch_stalls) {
            self.faults.plan().injected += 1;
            let late = Millis(self.faults.0.random.below(rates.stall.0 + 1));
            self.faults.0.clock.sleep(late).await;
        }
        let event = if event.is_ok() && self.faults.happens(rates.watch_breaks) {
            self.faults.plan().injected += 1;
            Err(unavailable())
        } else {
            event
        };
        if event.is_err() {
            self.inner = None;
        }
        Some((event, self))
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("an injected fault".into())
}

/// A store that fails when it is told to.
#[derive(Debug)]
pub struct Faulty<S: ?Sized> {
    faults: Faults,
    inner: Arc<S>,
}

impl<S: Store + ?Sized> Faulty<S> {
    /// A store that works until [`Faulty::faults`] says otherwise.
    #[must_use]
    pub fn new(inner: Arc<S>, random: Random, clock: Arc<dyn Clock>) -> Self {
        let faults = Faults(Arc::new(Shared {
            random,
            clock,
            plan: Mutex::default(),
            paused: AtomicBool::new(false),
            breaks: AtomicU64::new(0),
            changed: Notify::new(),
        }));
        Faulty { faults, inner }
    }

    /// The hands on it.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

#[async_trait]
impl<S: Store + ?Sized> Store for Faulty<S> {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.faults.before_read().await?;
        self.inner.get(key).await
    }

    async fn list(&self, list: List) -> Result<Listing, StoreError> {
        self.faults.before_read().await?;
        self.inner.list(list).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.faults.write(self.inner.txn(txn)).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError> {
        self.faults.before_read().await?;
        Ok(self.faults.watch(prefix, self.inner.watch(prefix, after).await?))
    }

    async fn grant(&self, ttl: Millis) -> Result<LeaseId, StoreError> {
        self.faults.write(self.inner.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.faults.before_read().await?;
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.faults.write(self.inner.revoke(lease)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.faults.write(self.inner.compact(revision)).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.faults.before_read().await?;
        self.inner.revision().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use tutti_base::clock::VirtualClock;

    fn faulty(seed: u64) -> (Faulty<MemoryStore>, VirtualClock) {
        let clock = VirtualClock::default();
        let inner = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        (Faulty::new(inner, Random::seeded(seed), Arc::new(clock.clone())), clock)
    }

    #[tokio::test]
    async fn fails_as_told_and_then_works() {
        let (store, _clock) = faulty(1);
        let faults = store.faults();
        faults.fail_next(1, Fault::Before);
        faults.fail_next(1, Fault::After);
        faults.fail_next(1, Fault::NoSpace);
        let write = || store.txn(Txn::new().put("a", *b"1"));
        assert!(matches!(write().await, Err(StoreError::Unavailable(_))));
        assert_eq!(store.revision().await.unwrap(), 0);
        assert!(matches!(write().await, Err(StoreError::Unavailable(_))));
        assert_eq!(store.revision().await.unwrap(), 1);
        assert!(matches!(write().await, Err(StoreError::NoSpace(_))));
        assert_eq!(write().await.unwrap(), TxnOutcome::Committed(2));
        assert_eq!(faults.injected(), 3);
    }

    #[tokio::test]
    async fn the_same_seed_fails_the_same_calls() {
        let run = async |seed| {
            let (store, _clock) = faulty(seed);
            store.faults().set_rates(Rates { before: 200, after: 200, no_space: 100, ..Rates::default() });
            let mut answers = Vec::new();
            for _ in 0..200 {
                answers.push(store.txn(Txn::new().put("a", *b"1")).await.map_err(|error| error.to_string()));
            }
            answers
        };
        let first = run(7).await;
        assert_eq!(first, run(7).await);
        assert_ne!(first, run(8).await);
        assert!(first.iter().any(Result::is_ok) && first.iter().any(Result::is_err));
    }

    #[tokio::test]
    async fn watches_break_and_can_be_resumed() {
        let (store, _clock) = faulty(1);
        let mut watch = store.watch("", Some(0)).await.unwrap();
        store.txn(Txn::new().put("a", *b"1")).await.unwrap();
        let Some(Ok(WatchEvent::Changes { revision: 1, .. })) = watch.next().await else { panic!() };
        store.faults().break_watches();
        assert!(matches!(watch.next().await, Some(Err(StoreError::Unavailable(_)))));
        assert!(watch.next().await.is_none());
        store.txn(Txn::new().put("a", *b"2")).await.unwrap();
        let mut watch = store.watch("", Some(1)).await.unwrap();
        let Some(Ok(WatchEvent::Changes { revision: 2, .. })) = watch.next().await else { panic!() };
    }

    #[tokio::test]
    async fn a_watch_that_is_late_misses_nothing() {
        let (store, clock) = faulty(1);
        store.faults().set_rates(Rates { watch_stalls: 1000, stall: Millis(1000), ..Rates::default() });
        let mut watch = store.watch("", Some(0)).await.unwrap();
        store.txn(Txn::new().put("a", *b"1")).await.unwrap();
        store.txn(Txn::new().put("a", *b"2")).await.unwrap();
        let mut told = tokio::spawn(async move { (watch.next().await, watch.next().await) });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!told.is_finished());
        assert!(store.get("a").await.unwrap().is_some(), "only the watch is late");
        let told = loop {
            clock.advance(Millis(1000));
            tokio::select! {
                biased;
                told = &mut told => break told.unwrap(),
                () = tokio::task::yield_now() => {}
            }
        };
        assert!(matches!(told.0, Some(Ok(WatchEvent::Changes { revision: 1, .. }))));
        assert!(matches!(told.1, Some(Ok(WatchEvent::Changes { revision: 2, .. }))));
    }

    #[tokio::test]
    async fn a_paused_or_slow_store_waits() {
        let (store, clock) = faulty(1);
        let faults = store.faults();
        faults.pause();
        let store = Arc::new(store);
        let waiting = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.txn(Txn::new().put("a", *b"1")).await }
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        faults.resume();
        waiting.await.unwrap().unwrap();

        faults.set_rates(Rates { latency: Millis(1000), ..Rates::default() });
        let waiting = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.get("a").await }
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        clock.advance(Millis(1000));
        assert!(waiting.await.unwrap().unwrap().is_some());
    }
}
