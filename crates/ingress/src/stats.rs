//! What is counted, by service and version.
//!
//! Plain atomics: a request costs four additions, to cells that only requests of the same version touch. Sharding them
//! by core would save some tens of nanoseconds under contention and cost every reader and 3 KiB for each shard.

use crate::Edge;
use std::{
    fmt::Write as _,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tutti_model::{
    ErrorCode,
    stats::{BUCKETS, Histogram, ServiceStats, VersionStats, bucket_of},
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
pub(crate) struct Failures([AtomicU64; ErrorCode::ALL.len()]);

impl Failures {
    pub(crate) fn count(&self, code: ErrorCode) {
        if let Some((_, count)) = ErrorCode::ALL.iter().zip(&self.0).find(|(one, _)| **one == code) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The bounds of the latency buckets that metrics show, in microseconds: the usual ones of Prometheus, from 1 ms on.
const METRIC_BUCKETS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// Takes one figure out of all.
type Figure = fn(&VersionStats) -> u64;

/// Everything in Prometheus' text format. Labels are names from tables, so there are no more of them than versions.
pub(crate) fn metrics(edge: &Edge) -> String {
    let mut out = String::new();
    let stats = edge.tables.stats();
    let reached = *edge.reached.borrow();
    let single = [
        ("tutti_ingress_table_revision", "gauge", "Store revision up to which tables are applied.", reached),
        (
            "tutti_ingress_services",
            "gauge",
            "Services with a table.",
            u64::try_from(edge.tables.count()).unwrap_or(u64::MAX),
        ),
        (
            "tutti_ingress_upstream_connections",
            "gauge",
            "Open connections to plain upstreams.",
            u64::try_from(edge.pool.open()).unwrap_or(u64::MAX),
        ),
    ];
    for (name, kind, help, value) in single {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    let name = "tutti_ingress_failures_total";
    let help = "Requests that the ingress itself answered with a failure.";
    head(&mut out, name, "counter", help);
    for (code, count) in ErrorCode::ALL.iter().zip(&edge.failures.0) {
        let _ = writeln!(out, "{name}{{code=\"{code}\"}} {}", count.load(Ordering::Relaxed));
    }
    let figures: [(&str, &str, &str, Figure); 3] = [
        ("tutti_ingress_answers_total", "counter", "Requests answered, errors included.", |stats| {
            stats.answers
        }),
        (
            "tutti_ingress_errors_total",
            "counter",
            "Answers that blame the service, or none at all.",
            |stats| stats.errors,
        ),
        ("tutti_ingress_running", "gauge", "Requests running now.", |stats| stats.running),
    ];
    for (name, kind, help, figure) in figures {
        head(&mut out, name, kind, help);
        for one in &stats {
            let _ = writeln!(out, "{name}{{{}}} {}", labels(one), figure(&one.stats));
        }
    }
    latencies(&mut out, &stats);
    out
}

/// The lines before a family's figures. OpenMetrics names the family without the suffix of its counters.
fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let family = name.trim_end_matches("_total");
    let _ = writeln!(out, "# HELP {family} {help}\n# TYPE {family} {kind}");
}

/// The sum is that of the upper ends of the inner buckets, so at most 6.25 % high.
fn latencies(out: &mut String, stats: &[ServiceStats]) {
    let name = "tutti_ingress_latency_seconds";
    let _ =
        writeln!(out, "# HELP {name} From a request's head to its answer's head.\n# TYPE {name} histogram");
    for one in stats {
        let labels = labels(one);
        for bound in METRIC_BUCKETS {
            let below: u64 =
                one.stats.latency.buckets().filter(|(top, _)| *top <= bound).map(|(_, count)| count).sum();
            let _ = writeln!(
                out,
                "{name}_bucket{{{labels},le=\"{}\"}} {below}",
                Duration::from_micros(bound).as_secs_f64()
            );
        }
        let count = one.stats.latency.count();
        let micros = one
            .stats
            .latency
            .buckets()
            .fold(0u64, |sum, (top, count)| sum.saturating_add(top.saturating_mul(count)));
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", Duration::from_micros(micros).as_secs_f64());
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
    }
}

fn labels(stats: &ServiceStats) -> String {
    match &stats.version {
        Some(version) => format!("service=\"{}\",version=\"{version}\"", stats.service),
        None => format!("service=\"{}\",version=\"\"", stats.service),
    }
}
