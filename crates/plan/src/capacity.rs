//! How many workers a version needs.

use tutti_model::{Share, version::VersionSpec};

/// What there is to serve now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Requests of the service, over all its versions, that run now.
    pub running: u64,
}

/// The workers that a share needs, and whether the version's `max` is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// How many are to serve.
    pub workers: u32,
    /// How many today's load would need, if that is more than `max` allows.
    pub beyond_max: Option<u32>,
}

/// `max(1, ceil(W × share))`, and as many more as today's load needs at the version's concurrency, up to its `max`.
/// None for a share of nothing.
#[must_use]
pub fn need(version: &VersionSpec, share: Share, workers: u32, load: Load) -> Need {
    if share == Share::ZERO {
        return Need { workers: 0, beyond_max: None };
    }
    let by_workers = share.workers(workers);
    let expected = (u128::from(load.running) * u128::from(share.millionths())).div_ceil(1_000_000);
    let by_load = expected.div_ceil(u128::from(version.manifest.concurrency.max(1)));
    let wanted = by_workers.max(u32::try_from(by_load).unwrap_or(u32::MAX));
    let max = version.manifest.max.max(1);
    Need { workers: wanted.min(max), beyond_max: (wanted > max).then_some(wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::fixtures::version;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn covers_share_and_load_within_max(workers in 1u32..50, millionths in 1u32..=1_000_000, running in 0u64..10_000) {
            let version = version("1.0");
            let share = Share::from_millionths(millionths);
            let need = need(&version, share, workers, Load { running });
            prop_assert!(need.workers >= 1);
            prop_assert!(need.workers <= version.manifest.max);
            if need.beyond_max.is_none() {
                prop_assert!(need.workers >= share.workers(workers));
                let room = u64::from(need.workers) * u64::from(version.manifest.concurrency);
                prop_assert!(room * 1_000_000 >= running * u64::from(millionths));
            }
        }
    }

    #[test]
    fn nothing_needs_nothing() {
        assert_eq!(need(&version("1.0"), Share::ZERO, 10, Load { running: 1000 }).workers, 0);
    }
}
