//! Randomness that a seed tells again.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64: a few lines, and as random as a test needs it.
pub(crate) struct Seed(u64);

impl Seed {
    /// That of the environment, another each time for `TUTTI_SEED=random`, and else always the same, so that a test that
    /// fails does so for a change, and not for a new message. Whoever uses it prints it.
    pub(crate) fn of_environment() -> u64 {
        match std::env::var("TUTTI_SEED").as_deref() {
            Ok("random") => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
            Ok(seed) => seed.parse().expect("TUTTI_SEED is a number, or \"random\""),
            Err(_) => 1_795_862_832_854_610_947,
        }
    }

    pub(crate) fn new(seed: u64) -> Seed {
        Seed(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end` - 1.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
