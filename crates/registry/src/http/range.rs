//! Ranges of bytes in headers. Pure.

use std::ops::Range;

/// What a `Range` header asks for (RFC 9110, 14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: no header, or one that a server may ignore (several ranges, other units, nonsense).
    Whole,
    /// This part.
    Part(Range<u64>),
    /// A part that the content does not have.
    Unsatisfiable,
}

/// Reads a `Range` header for content of `size` bytes.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(set) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Whole };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => part(first..last.saturating_add(1).min(size)),
        (Some(first), None) if last.is_empty() => part(first..size),
        (None, Some(last)) if first.is_empty() => part(size.saturating_sub(last)..size),
        _ => Wanted::Whole,
    }
}

fn part(range: Range<u64>) -> Wanted {
    if range.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(range) }
}

fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The first and last byte of an upload's `Content-Range`, written `FIRST-LAST` there; some clients write
/// `bytes FIRST-LAST/SIZE`.
pub(super) fn chunk(header: &str) -> Option<(u64, u64)> {
    let header = header.trim().strip_prefix("bytes ").unwrap_or(header.trim());
    let header = header.split_once('/').map_or(header, |(range, _)| range);
    let (first, last) = header.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_three_forms() {
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-4"), 10), Wanted::Part(0..5));
        assert_eq!(wanted(Some("bytes=4-99"), 10), Wanted::Part(4..10));
        assert_eq!(wanted(Some("bytes=4-"), 10), Wanted::Part(4..10));
        assert_eq!(wanted(Some("bytes=-3"), 10), Wanted::Part(7..10));
        assert_eq!(wanted(Some("bytes=-30"), 10), Wanted::Part(0..10));
        for unsatisfiable in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(wanted(Some(unsatisfiable), 10), Wanted::Unsatisfiable, "{unsatisfiable}");
        }
        for ignored in
            ["bytes=5-4", "bytes=-", "bytes=0-1,3-4", "lines=1-2", "bytes", "bytes=+1-2", "bytes=a-b"]
        {
            assert_eq!(wanted(Some(ignored), 10), Wanted::Whole, "{ignored}");
        }
        assert_eq!(chunk("0-99"), Some((0, 99)));
        assert_eq!(chunk("bytes 5-9/20"), Some((5, 9)));
        assert_eq!(chunk("9-5"), None);
        assert_eq!(chunk("x"), None);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_nor_past_the_end(header in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in any::<u64>()) {
            if let Wanted::Part(range) = wanted(Some(&header), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
