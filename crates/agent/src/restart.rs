//! What follows when an instance has ended by itself: another start after a pause, or none. Pure.

use tutti_base::{Backoff, Random};
use tutti_model::Millis;

/// Starts that may end before the instance was ever ready. A new version that cannot run is told within a second, and
/// not only when its deployment's patience ends.
pub(crate) const START_ATTEMPTS: u32 = 3;
/// Pauses between these starts.
const START_PAUSES: [Millis; 2] = [Millis(100), Millis(500)];
/// The first pause after the end of an instance that had been ready, and the longest.
const PAUSES: (Millis, Millis) = (Millis::seconds(1), Millis::seconds(60));
/// Whoever has run this long starts with the first pause again.
const STEADY: Millis = Millis::seconds(600);

/// How often an instance has ended.
#[derive(Debug)]
pub(crate) struct Restarts {
    attempts: u32,
    count: u32,
    pauses: Backoff,
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is started again.
    Again {
        /// After this pause.
        pause: Millis,
        /// What happened and what follows, in one sentence.
        reason: String,
    },
    /// It is not started again.
    Never {
        /// Why, in one sentence.
        reason: String,
    },
}

impl Restarts {
    /// It has not ended yet.
    pub(crate) const fn new(random: Random) -> Self {
        Restarts { attempts: 0, count: 0, pauses: Backoff::new(PAUSES.0, PAUSES.1, random) }
    }

    /// How often it was to be started again.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// It ended after `ran`; `what` says how. `ever_ready` is whether it was ready in this or an earlier life.
    pub(crate) fn ended(&mut self, ever_ready: bool, ran: Millis, what: &str) -> Verdict {
        if !ever_ready {
            self.attempts = self.attempts.saturating_add(1);
            let pause = START_PAUSES.get(self.attempts.saturating_sub(1) as usize).copied();
            let Some(pause) = pause.filter(|_| self.attempts < START_ATTEMPTS) else {
                let reason = format!("crash loop: {what}, {} times before it was ever ready", self.attempts);
                return Verdict::Never { reason };
            };
            self.count = self.count.saturating_add(1);
            let reason =
                format!("{what} before it was ready (start {} of {START_ATTEMPTS} next)", self.attempts + 1);
            return Verdict::Again { pause, reason };
        }
        if ran >= STEADY {
            self.pauses.succeed();
        }
        let pause = self.pauses.fail();
        self.count = self.count.saturating_add(1);
        let loops = if self.pauses.failures() > 1 { "crash loop: " } else { "" };
        let reason = format!("{loops}{what} (restart {}, next in {})", self.count, rounded(pause));
        Verdict::Again { pause, reason }
    }
}

/// A pause as people read it: whole seconds from one second on.
pub(crate) fn rounded(pause: Millis) -> Millis {
    if pause.0 < 1000 { pause } else { Millis(pause.0.div_ceil(1000) * 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(verdict: &Verdict) -> Millis {
        match verdict {
            Verdict::Again { pause, .. } => *pause,
            Verdict::Never { reason } => panic!("{reason}"),
        }
    }

    #[test]
    fn a_first_start_fails_for_good_at_the_third_end() {
        let mut restarts = Restarts::new(Random::seeded(1));
        assert_eq!(
            restarts.ended(false, Millis(5), "exited with code 3"),
            Verdict::Again {
                pause: Millis(100),
                reason: "exited with code 3 before it was ready (start 2 of 3 next)".into()
            }
        );
        assert_eq!(pause(&restarts.ended(false, Millis(5), "exited with code 3")), Millis(500));
        assert_eq!(
            restarts.ended(false, Millis(5), "exited with code 3"),
            Verdict::Never {
                reason: "crash loop: exited with code 3, 3 times before it was ever ready".into()
            }
        );
    }

    #[test]
    fn who_was_ready_is_restarted_for_ever_ever_slower_until_it_is_steady() {
        let mut restarts = Restarts::new(Random::seeded(1));
        let first = restarts.ended(true, Millis(5), "exited with code 3");
        assert!((500..=1000).contains(&pause(&first).0), "{first:?}");
        assert!(
            matches!(&first, Verdict::Again { reason, .. } if reason.starts_with("exited with code 3 (restart 1, next in "))
        );
        let second = restarts.ended(true, Millis(5), "exited with code 3");
        assert!(
            matches!(&second, Verdict::Again { reason, .. } if reason.starts_with("crash loop: exited with code 3 (restart 2, next in ")),
            "{second:?}"
        );
        let late = (0..50).map(|_| pause(&restarts.ended(true, Millis(5), "x"))).last().unwrap();
        assert!((30_000..=60_000).contains(&late.0), "{late}");
        assert_eq!(restarts.count(), 52);
        let steady = restarts.ended(true, STEADY, "exited with code 3");
        assert!((500..=1000).contains(&pause(&steady).0), "{steady:?}");
    }

    #[test]
    fn pauses_are_told_in_whole_seconds() {
        assert_eq!(rounded(Millis(3721)).to_string(), "4s");
        assert_eq!(rounded(Millis(500)).to_string(), "500ms");
    }
}
