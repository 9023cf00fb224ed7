//! Counters and latency histograms by version, as every ingress reports them.
//!
//! Figures are cumulative since the ingress started, so that a lost or repeated report changes nothing; whoever wants
//! a window subtracts.

use crate::{Millis, ServiceRef, VersionName};
use serde::{Deserialize, Serialize};

/// Buckets below which every microsecond has its own, and the number of buckets for each doubling above. A bucket is
/// at most a sixteenth of its value wide, so a quantile is at most 6.25 % too high.
const SUB_BUCKETS: usize = 16;
/// log2 of [`SUB_BUCKETS`].
const SUB_BITS: u32 = 4;
/// Doublings above the first buckets: the last bucket begins at about 128 s, beyond any timeout that matters.
const DOUBLINGS: usize = 23;
/// How many buckets a histogram has.
pub const BUCKETS: usize = SUB_BUCKETS * (DOUBLINGS + 1);

/// The bucket of a latency in microseconds.
#[must_use]
pub fn bucket_of(micros: u64) -> usize {
    let octave = 63 - (micros | 1).leading_zeros();
    if octave < SUB_BITS {
        return usize::try_from(micros).unwrap_or(0);
    }
    let shift = octave - SUB_BITS;
    // The top bit and the SUB_BITS below it: 16 to 31.
    let mantissa = usize::try_from(micros >> shift).unwrap_or(0);
    let bucket = usize::try_from(shift).unwrap_or(0) * SUB_BUCKETS + mantissa;
    bucket.min(BUCKETS - 1)
}

/// The highest latency in microseconds that falls into a bucket.
#[must_use]
pub fn bucket_top(bucket: usize) -> u64 {
    if bucket < SUB_BUCKETS {
        return bucket as u64;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    let mantissa = (bucket % SUB_BUCKETS + SUB_BUCKETS) as u64;
    ((mantissa + 1) << shift) - 1
}

/// Latencies, as counts by bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(Vec<(u16, u64)>);

impl Histogram {
    /// A histogram from one count for each bucket.
    #[must_use]
    pub fn from_counts(counts: impl IntoIterator<Item = u64>) -> Self {
        let filled = counts.into_iter().zip(0u16..).filter(|(count, _)| *count > 0);
        Histogram(filled.map(|(count, bucket)| (bucket, count)).collect())
    }

    /// How many latencies it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The filled buckets: the highest latency in each, in microseconds, and how many fell into it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(bucket, count)| (bucket_top(usize::from(*bucket)), *count))
    }

    /// The latency in microseconds that `per_mille` thousandths of all did not exceed; `None` without any.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let rank = (self.count() * per_mille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        self.buckets().find_map(|(top, count)| {
            seen += count;
            (seen >= rank).then_some(top)
        })
    }

    /// Adds another's counts to this one's.
    pub fn add(&mut self, other: &Histogram) {
        self.merge(other, u64::saturating_add);
    }

    /// Takes an earlier state of the same counts away.
    pub fn subtract(&mut self, earlier: &Histogram) {
        self.merge(earlier, u64::saturating_sub);
        self.0.retain(|(_, count)| *count > 0);
    }

    fn merge(&mut self, other: &Histogram, with: impl Fn(u64, u64) -> u64) {
        for (bucket, count) in &other.0 {
            match self.0.binary_search_by_key(bucket, |(bucket, _)| *bucket) {
                Ok(at) => {
                    if let Some((_, own)) = self.0.get_mut(at) {
                        *own = with(*own, *count);
                    }
                }
                Err(at) => self.0.insert(at, (*bucket, with(0, *count))),
            }
        }
    }
}

/// What became of the requests of one version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionStats {
    /// Requests answered, errors included.
    pub answers: u64,
    /// Of these, the ones that failed: HTTP 5xx, a gRPC status that blames the server, or no answer.
    pub errors: u64,
    /// Time from the request's head to the answer's head.
    pub latency: Histogram,
    /// Requests running now; a gauge, not cumulative.
    pub running: u64,
}

impl VersionStats {
    /// Adds another's figures to this one's.
    pub fn add(&mut self, other: &VersionStats) {
        self.answers = self.answers.saturating_add(other.answers);
        self.errors = self.errors.saturating_add(other.errors);
        self.running = self.running.saturating_add(other.running);
        self.latency.add(&other.latency);
    }

    /// What came after `earlier`; the gauge stays as it is.
    #[must_use]
    pub fn since(&self, earlier: &VersionStats) -> VersionStats {
        let mut latency = self.latency.clone();
        latency.subtract(&earlier.latency);
        VersionStats {
            answers: self.answers.saturating_sub(earlier.answers),
            errors: self.errors.saturating_sub(earlier.errors),
            running: self.running,
            latency,
        }
    }

    /// The quantile as a span, rounded up to whole milliseconds.
    #[must_use]
    pub fn latency_millis(&self, per_mille: u64) -> Option<Millis> {
        self.latency.quantile(per_mille).map(|micros| Millis(micros.div_ceil(1000)))
    }
}

/// The figures of one version of one service at one ingress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStats {
    /// The service.
    pub service: ServiceRef,
    /// The version; `None` for a service of plain upstreams.
    pub version: Option<VersionName>,
    /// Its figures.
    pub stats: VersionStats,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(values: &[u64]) -> Histogram {
        let mut counts = vec![0u64; BUCKETS];
        for value in values {
            counts[bucket_of(*value)] += 1;
        }
        Histogram::from_counts(counts)
    }

    proptest! {
        #[test]
        fn a_bucket_is_close_above_its_values(micros in 0u64..120_000_000) {
            let top = bucket_top(bucket_of(micros));
            prop_assert!(top >= micros);
            prop_assert!(top - micros <= micros / 16);
        }

        #[test]
        fn quantiles_are_close_above_the_exact_ones(mut values in proptest::collection::vec(0u64..100_000_000, 1..200), per_mille in 1u64..=1000) {
            let found = histogram(&values).quantile(per_mille).unwrap();
            values.sort_unstable();
            let rank = (values.len() as u64 * per_mille).div_ceil(1000).max(1);
            let exact = values[usize::try_from(rank).unwrap() - 1];
            prop_assert!(found >= exact && found - exact <= exact / 16, "{found} for {exact}");
        }

        #[test]
        fn a_window_is_what_came_after(before in proptest::collection::vec(0u64..1_000_000, 0..50), after in proptest::collection::vec(0u64..1_000_000, 0..50)) {
            let earlier = histogram(&before);
            let mut all = earlier.clone();
            all.add(&histogram(&after));
            all.subtract(&earlier);
            prop_assert_eq!(all, histogram(&after));
        }
    }

    #[test]
    fn endless_latencies_fall_into_the_last_bucket() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(Histogram::default().quantile(990), None);
    }
}
