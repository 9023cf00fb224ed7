//! Since when the instances of singletons that are to stop get no more leases. It is counted by how long this machine has
//! run: a time of day that is set forward must not make a lease look over that its agent still holds.

use std::collections::BTreeMap;
use tutti_base::{Clock, Uptime};
use tutti_model::{InstanceId, Timestamp};

/// When this control first knew of each that it is to stop. By its own clock, and after the write: what another control
/// knew, or what it took a write to take, does not matter.
#[derive(Debug, Default)]
pub(super) struct Revoked(BTreeMap<InstanceId, Uptime>);

impl Revoked {
    /// Notes that an instance is to stop, or that it is not, or not there any more.
    pub(super) fn note(&mut self, instance: &InstanceId, is_to_stop: bool, clock: &dyn Clock) {
        if !is_to_stop {
            self.0.remove(instance);
        } else if !self.0.contains_key(instance) {
            self.0.insert(instance.clone(), clock.uptime());
        }
    }

    /// The same by the time of day as it is now: as long ago as it was by the machine's own count.
    pub(super) fn by_time_of_day(&self, clock: &dyn Clock) -> BTreeMap<InstanceId, Timestamp> {
        let (now, uptime) = (clock.now(), clock.uptime());
        let ago = |since: Uptime| Timestamp(now.0.saturating_sub(uptime.since(since).0));
        self.0.iter().map(|(instance, since)| (instance.clone(), ago(*since))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_model::Millis;

    /// A time of day, and how long the machine has run.
    #[derive(Debug)]
    struct Both(u64, u64);

    #[async_trait::async_trait]
    impl Clock for Both {
        fn now(&self) -> Timestamp {
            Timestamp(self.0)
        }

        fn uptime(&self) -> Uptime {
            Uptime(Millis(self.1))
        }

        async fn sleep_until(&self, _: Timestamp) {}
    }

    #[test]
    fn a_clock_that_is_set_makes_no_lease_older() {
        let instance = InstanceId::from_bits(1);
        let mut revoked = Revoked::default();
        revoked.note(&instance, true, &Both(1_000_000, 50_000));
        // What comes again is no news.
        revoked.note(&instance, true, &Both(1_002_000, 52_000));
        let ago = |clock: &Both| clock.now().since(revoked.by_time_of_day(clock)[&instance]);
        assert_eq!(ago(&Both(1_004_000, 54_000)), Millis(4000));
        assert_eq!(ago(&Both(9_999_000, 54_000)), Millis(4000), "an hour forward");
        assert_eq!(ago(&Both(500_000, 54_000)), Millis(4000), "and back");
        revoked.note(&instance, false, &Both(1_005_000, 55_000));
        assert!(revoked.by_time_of_day(&Both(1_005_000, 55_000)).is_empty());
    }
}
