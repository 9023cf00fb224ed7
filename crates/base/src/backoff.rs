//! Waiting longer after each failure, with jitter, so that those who failed together don't return together.

use crate::Random;
use tutti_model::Millis;

/// The next pause after a failure: doubles from `first` up to `most`, each time between half and the whole of that.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Millis,
    most: Millis,
    failures: u32,
    random: Random,
}

impl Backoff {
    /// No failure yet.
    #[must_use]
    pub const fn new(first: Millis, most: Millis, random: Random) -> Self {
        Backoff { first, most, failures: 0, random }
    }

    /// The pause after one more failure.
    pub fn fail(&mut self) -> Millis {
        let doubled = self.first.0.saturating_mul(1u64 << self.failures.min(32)).min(self.most.0);
        self.failures = self.failures.saturating_add(1);
        Millis(doubled / 2 + self.random.below(doubled / 2 + 1))
    }

    /// How many failures there were in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// It worked.
    pub const fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_starts_over() {
        let mut backoff = Backoff::new(Millis(100), Millis::seconds(5), Random::seeded(1));
        let first = backoff.fail();
        assert!((50..=100).contains(&first.0));
        let last = (0..40).map(|_| backoff.fail()).last().unwrap();
        assert!((2500..=5000).contains(&last.0));
        backoff.succeed();
        assert!((50..=100).contains(&backoff.fail().0));
    }
}
