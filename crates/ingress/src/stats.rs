//! What is counted, by service and version.
//!
//! Plain atomics: a request costs four additions, to cells that only requests of the same version touch. Sharding them
//! by core would save some tens of nanoseconds under contention and cost every reader and 3 KiB for each shard.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tutti_model::{
    ErrorCode,
    stats::{BUCKETS, Histogram, VersionStats, bucket_of},
};

/// The counts of one version.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    answers: AtomicU64,
    errors: AtomicU64,
    running: AtomicU64,
    /// Made with the first answer: most of ten thousand services are asked little or nothing.
    latency: OnceLock<Box<[AtomicU64]>>,
}

impl Counters {
    /// An answer's head has come after `latency`, or it is sure that none will.
    pub(crate) fn answer(&self, latency: Duration, error: bool) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if error {
            self.error();
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let buckets = self.latency.get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect());
        if let Some(bucket) = buckets.get(bucket_of(micros)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An answer that was counted turned out to be an error.
    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// A request begins; it runs until the guard is dropped.
    pub(crate) fn start(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// The figures now.
    pub(crate) fn read(&self) -> VersionStats {
        let latency = self.latency.get().map_or_else(Histogram::default, |buckets| {
            Histogram::from_counts(buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)))
        });
        VersionStats {
            answers: self.answers.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            latency,
            running: self.running.load(Ordering::Relaxed),
        }
    }

    /// Whether there ever was a request.
    pub(crate) fn is_untouched(&self) -> bool {
        self.answers.load(Ordering::Relaxed) == 0 && self.running.load(Ordering::Relaxed) == 0
    }
}

/// One running request.
#[derive(Debug)]
pub(crate) struct Running(Arc<Counters>);

impl Running {
    pub(crate) fn counters(&self) -> &Counters {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Requests that the ingress itself answered with a failure, by code.
#[derive(Debug, Default)]
struct Failures([AtomicU64; ErrorCode::ALL.len()]);

impl Failures {
    fn count(&self, code: ErrorCode) {
        if let Some((_, count)) = ErrorCode::ALL.iter().zip(&self.0).find(|(one, _)| **one == code) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What became of requests at the ingress itself.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Requests that it answered with a failure, by code.
    failures: Failures,
    /// Attempts after one that surely reached no instance.
    retries: AtomicU64,
}

impl Own {
    /// A request is answered with a failure.
    pub(crate) fn failure(&self, code: ErrorCode) {
        self.failures.count(code);
    }

    /// A request is sent elsewhere.
    pub(crate) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Failures by code.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        let counts = self.failures.0.iter().map(|count| count.load(Ordering::Relaxed));
        ErrorCode::ALL.iter().copied().zip(counts)
    }

    /// Requests that were sent elsewhere.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}
