//! Who a request is, for whoever follows it through logs and traces.

use crate::turn::mix;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::atomic::{AtomicU64, Ordering};
use tutti_base::Random;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Makes ids: random enough to be unique, and without a lock.
#[derive(Debug)]
pub(crate) struct Identities {
    seed: [u64; 3],
    next: AtomicU64,
}

impl Identities {
    pub(crate) fn new(random: &Random) -> Self {
        Identities { seed: [random.bits(), random.bits(), random.bits()], next: AtomicU64::new(0) }
    }

    /// Sees to it that a request carries a valid `traceparent` (W3C Trace Context) and an `x-request-id`; gives the
    /// latter, as far as it is text.
    pub(crate) fn stamp(&self, headers: &mut HeaderMap) -> HeaderValue {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [first, second, third] = self.seed.map(|seed| mix(seed.wrapping_add(number)));
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
        write_hex(&mut text, 3, first | 1);
        write_hex(&mut text, 19, second);
        if !headers.get(TRACEPARENT).is_some_and(|value| is_traceparent(value.as_bytes())) {
            write_hex(&mut text, 36, third | 1);
            // State of a trace that is not carried on means nothing.
            headers.remove(TRACESTATE);
            if let Ok(value) = HeaderValue::from_bytes(&text) {
                headers.insert(TRACEPARENT, value);
            }
        }
        if let Some(id) = headers.get(REQUEST_ID) {
            return id.clone();
        }
        let id = HeaderValue::from_bytes(text.get(3..35).unwrap_or_default());
        let id = id.unwrap_or(HeaderValue::from_static("unknown"));
        headers.insert(REQUEST_ID, id.clone());
        id
    }
}

fn write_hex(text: &mut [u8], at: usize, bits: u64) {
    for (place, shift) in text.iter_mut().skip(at).zip((0..64).step_by(4).rev()) {
        let digit = u8::try_from(bits >> shift & 15).unwrap_or(0);
        *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
    }
}

fn is_traceparent(text: &[u8]) -> bool {
    let lower_hex =
        |part: &[u8]| part.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let mut parts = text.split(|byte| *byte == b'-');
    let (version, trace, parent, flags) = (parts.next(), parts.next(), parts.next(), parts.next());
    let sized =
        |part: Option<&[u8]>, length: usize| part.is_some_and(|part| part.len() == length && lower_hex(part));
    let zero = |part: Option<&[u8]>| part.is_some_and(|part| part.iter().all(|byte| *byte == b'0'));
    sized(version, 2)
        && version != Some(b"ff")
        && sized(trace, 32)
        && !zero(trace)
        && sized(parent, 16)
        && !zero(parent)
        && sized(flags, 2)
        // Only a later version may have more parts.
        && (version != Some(b"00") || parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_ids_that_are_valid_and_differ() {
        let identities = Identities::new(&Random::seeded(1));
        let (mut one, mut other) = (HeaderMap::new(), HeaderMap::new());
        assert_ne!(identities.stamp(&mut one), identities.stamp(&mut other));
        assert!(is_traceparent(one["traceparent"].as_bytes()), "{one:?}");
        assert_ne!(one["traceparent"], other["traceparent"]);
        assert_eq!(one["x-request-id"].as_bytes(), &one["traceparent"].as_bytes()[3..35]);
    }

    #[test]
    fn keeps_what_is_valid_and_replaces_the_rest() {
        let identities = Identities::new(&Random::seeded(1));
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what";
        for (text, kept) in [
            (good, true),
            (later, true),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-x", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-00", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", false),
            ("x", false),
        ] {
            let mut headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static(text))]);
            headers.insert(REQUEST_ID, HeaderValue::from_static("mine"));
            assert_eq!(identities.stamp(&mut headers), "mine");
            assert_eq!(headers[&TRACEPARENT] == text, kept, "{text}");
        }
    }
}
