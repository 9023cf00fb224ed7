//! A store whose requests are counted and timed, for metrics. It changes nothing of what they do.

use crate::{Entry, LeaseId, List, Listing, Revision, Store, StoreError, Txn, TxnOutcome, Watch};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tutti_base::metrics::{Exposition, MetricKind};
use tutti_model::Millis;

/// The upper bounds of the buckets of times, in microseconds: a read of SQLite takes tens, a write the time of an fsync,
/// and what takes seconds is on its way to a time limit.
const BOUNDS: [u64; 10] = [250, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// What is asked of a store, as the label says it.
const OPERATIONS: [&str; 4] = ["get", "list", "txn", "lease"];

/// The counts of one operation.
#[derive(Debug, Default)]
struct Counts {
    failed: AtomicU64,
    /// By the bounds; the last one beyond them.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

#[derive(Debug, Default)]
struct Figures {
    operations: [Counts; OPERATIONS.len()],
    watches: AtomicU64,
    watches_lost: AtomicU64,
}

/// The store, measured. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Measured {
    store: Arc<dyn Store>,
    figures: Arc<Figures>,
}

/// An open watch, until it is dropped.
struct Open(Arc<Figures>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Measured {
    /// Measures what is asked of `store` from now on.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Measured {
        Measured { store, figures: Arc::default() }
    }

    /// What was measured.
    pub fn metrics(&self, text: &mut Exposition) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let all = || OPERATIONS.iter().zip(&self.figures.operations);
        let mut failed = text.family(
            "tutti_store_failures",
            MetricKind::Counter,
            "Requests to the store that had no good answer, by operation.",
        );
        for (operation, counts) in all() {
            failed.put(&[("operation", operation)], read(&counts.failed));
        }
        let mut took = text.family(
            "tutti_store_request_seconds",
            MetricKind::Histogram,
            "Time that requests to the store took, by operation.",
        );
        for (operation, counts) in all() {
            let mut count = 0u64;
            let mut below = Vec::with_capacity(BOUNDS.len());
            for (bound, bucket) in BOUNDS.iter().zip(&counts.buckets) {
                count = count.saturating_add(read(bucket));
                below.push((Duration::from_micros(*bound).as_secs_f64(), count));
            }
            count = count.saturating_add(counts.buckets.last().map_or(0, read));
            let sum = Duration::from_micros(read(&counts.micros)).as_secs_f64();
            took.put_histogram(&[("operation", operation)], &below, sum, count);
        }
        text.single(
            "tutti_store_watches",
            MetricKind::Gauge,
            "Watches of this process that are open at the store.",
            read(&self.figures.watches),
        );
        text.single(
            "tutti_store_watches_lost",
            MetricKind::Counter,
            "Watches that the store ended; each is opened again.",
            read(&self.figures.watches_lost),
        );
    }

    async fn timed<T>(
        &self,
        operation: usize,
        asked: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = asked.await;
        let Some(counts) = self.figures.operations.get(operation) else { return answer };
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = counts.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        counts.micros.fetch_add(micros, Ordering::Relaxed);
        if answer.is_err() {
            counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

/// The places of operations in [`OPERATIONS`].
const GET: usize = 0;
const LIST: usize = 1;
const TXN: usize = 2;
const LEASE: usize = 3;

#[async_trait]
impl Store for Measured {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.timed(GET, self.store.get(key)).await
    }

    async fn list(&self, list: List) -> Result<Listing, StoreError> {
        self.timed(LIST, self.store.list(list)).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.timed(TXN, self.store.txn(txn)).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError> {
        let watch = self.store.watch(prefix, after).await?;
        self.figures.watches.fetch_add(1, Ordering::Relaxed);
        let open = Open(Arc::clone(&self.figures));
        Ok(watch
            .inspect(move |event| {
                if event.is_err() {
                    open.0.watches_lost.fetch_add(1, Ordering::Relaxed);
                }
            })
            .boxed())
    }

    async fn grant(&self, ttl: Millis) -> Result<LeaseId, StoreError> {
        self.timed(LEASE, self.store.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.timed(LEASE, self.store.keep_alive(lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.timed(LEASE, self.store.revoke(lease)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.timed(GET, self.store.revision()).await
    }
}
