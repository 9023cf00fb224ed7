//! Whose turn it is: versions by weight, exact over time and without a lock.
//!
//! Request `n` of a service stands at position `n × STEP mod 1,000,000` on a ring, and each version holds an arc as
//! long as its share in millionths. As the step is coprime to the ring's length, every million requests visit every
//! position once: shares are exact over a million. As it is close to the golden ratio of it, any run of requests is
//! spread evenly: shares are nearly exact over any window, and a share of 10% is every tenth request or so, not the
//! first tenth of them.

use std::sync::atomic::{AtomicU64, Ordering};

/// The ring: shares are whole millionths.
pub(crate) const RING: u64 = 1_000_000;
/// Near `RING / φ` and coprime to the ring's prime factors 2 and 5.
const STEP: u64 = 618_033;

/// Counts one service's requests.
#[derive(Debug, Default)]
pub(crate) struct Turns(AtomicU64);

/// One request's turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// The request's number.
    pub(crate) number: u64,
    /// Its position on the ring.
    pub(crate) position: u32,
}

impl Turns {
    /// The next request's. One atomic addition is all that requests of one service share.
    pub(crate) fn next(&self) -> Turn {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let position = number % RING * STEP % RING;
        Turn { number, position: u32::try_from(position).unwrap_or(0) }
    }
}

impl Turn {
    /// 64 well-mixed bits, other ones for every request (splitmix64).
    pub(crate) const fn bits(self) -> u64 {
        mix(self.number)
    }
}

/// The finishing steps of splitmix64.
pub(crate) const fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hits(from: u64, requests: u64, arc: std::ops::Range<u32>) -> i64 {
        let turns = Turns(AtomicU64::new(from));
        (0..requests).map(|_| i64::from(arc.contains(&turns.next().position))).sum()
    }

    proptest! {
        #[test]
        fn any_window_is_nearly_exact(from in any::<u32>(), requests in 1u64..20_000, start in 0u32..1_000_000, length in 1u32..1_000_000) {
            let end = (start + length).min(1_000_000);
            let exact = (requests as f64) * f64::from(end - start) / 1e6;
            let off = (hits(u64::from(from), requests, start..end) as f64 - exact).abs();
            prop_assert!(off <= 6.0, "{off} off after {requests}");
        }
    }

    #[test]
    fn a_million_requests_are_exact() {
        for arc in [0..1, 0..1000, 250_000..350_000, 1..1_000_000] {
            assert_eq!(hits(123_456, RING, arc.clone()), i64::from(arc.end - arc.start));
        }
    }
}
