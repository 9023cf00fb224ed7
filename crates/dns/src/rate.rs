//! How much one network is told over UDP, where anybody can write any sender: whoever asks more is told to come over TCP,
//! in as many bytes as it sent, so that nobody else can be flooded with answers.

use std::{collections::hash_map::RandomState, hash::BuildHasher as _, net::IpAddr};
use tutti_model::Timestamp;

/// Networks that are told apart; two that fall on one place take turns in it, and are told too much rather than too
/// little. A place has 24 bytes.
const PLACES: usize = 8192;
/// Whole answers in a second to one network: what a large resolver asks that caches each of some thousand names for the
/// five seconds that an answer lasts.
pub(crate) const PER_SECOND: u32 = 1000;

/// What was told lately.
#[derive(Debug)]
pub(crate) struct Rates {
    places: Vec<Place>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    network: u64,
    second: u64,
    told: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Rates { places: vec![Place::default(); PLACES], hasher: RandomState::new() }
    }
}

impl Rates {
    /// Whether who asks from here is told the whole answer.
    pub(crate) fn admits(&mut self, from: IpAddr, now: Timestamp) -> bool {
        let (network, second) = (network(from), now.0 / 1000);
        let hash = usize::try_from(self.hasher.hash_one(network) % PLACES as u64).unwrap_or_default();
        let Some(place) = self.places.get_mut(hash) else { return true };
        if place.network != network || place.second != second {
            *place = Place { network, second, told: 0 };
        }
        place.told = place.told.saturating_add(1);
        place.told <= PER_SECOND
    }
}

/// Its network: of IPv4 24 bits, of IPv6 56, which is what one customer has.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
        IpAddr::V6(address) => {
            let high = u64::try_from(address.to_bits() >> 72).unwrap_or_default();
            // Never the same as one of IPv4.
            high | 1 << 63
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_asks_too_much_waits_for_the_next_second_and_others_do_not() {
        let mut rates = Rates::default();
        let at = |milliseconds| Timestamp(1_700_000_000_000 + milliseconds);
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        let admitted = (0..3 * PER_SECOND)
            .filter(|n| rates.admits(from(&format!("192.0.2.{}", n % 256)), at(u64::from(*n) % 1000)));
        assert_eq!(admitted.count(), PER_SECOND as usize);
        assert!(!rates.admits(from("::ffff:192.0.2.1"), at(999)));
        assert!(rates.admits(from("192.0.2.1"), at(1000)));
        assert!(rates.admits(from("2001:db8::1"), at(1000)));
    }

    #[test]
    fn networks_are_what_one_customer_has() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:ff::2"));
        assert_ne!(of("2001:db8:0:100::1"), of("2001:db8:0:200::1"));
    }
}
