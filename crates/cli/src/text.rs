//! How amounts and moments look to people.

use tutti_model::{Millis, ServiceRef, Split, Timestamp, VersionRef};

/// The narrowest that text is broken to, in columns: room for a few words.
const LEAST_ROOM: usize = 20;

/// How long ago, in one unit: `12s`, `5m`, `3h`, `9d`. Each unit goes on to twice the next one's size, so that there
/// are always two digits to compare by.
pub(crate) fn age(span: Millis) -> String {
    let seconds = span.0 / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The age of something at `now`.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> String {
    age(now.since(then))
}

/// A moment from the start of something: `+0.42s`, `+75s`.
pub(crate) fn offset(span: Millis) -> String {
    match span.0 {
        0..10_000 => format!("+{}.{:02}s", span.0 / 1000, span.0 % 1000 / 10),
        10_000..100_000 => format!("+{}.{}s", span.0 / 1000, span.0 % 1000 / 100),
        _ => format!("+{}s", span.0 / 1000),
    }
}

/// A moment in full, UTC: `2026-11-21T07:19:29.123Z`.
pub(crate) fn moment(at: Timestamp) -> String {
    let known = i64::try_from(at.0).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    known.map_or_else(|| at.0.to_string(), |at| format!("{at:.3}"))
}

/// A number of bytes in binary units, with one decimal: `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths of the unit, so that no float is needed.
    let (mut tenths, mut unit) = (bytes.saturating_mul(10) / 1024, "KiB");
    for next in UNITS.into_iter().skip(1) {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// `text` in at most `width` characters, its middle left out if need be: the ends of names tell them apart.
pub(crate) fn middle(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let tail = kept / 2;
    let head = kept - tail;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{start}…{end}")
}

/// A service in as few letters as find it again: the domain of a qualified name goes without saying where its package
/// is that domain and nothing more, since then no other domain can be meant.
pub(crate) fn service(service: &ServiceRef) -> String {
    let name = service.service.as_str();
    let rest = name.strip_prefix(&service.domain.reversed()).and_then(|rest| rest.strip_prefix('.'));
    match rest {
        Some(rest) if !rest.contains('.') => name.to_owned(),
        _ => service.to_string(),
    }
}

/// A version, likewise.
pub(crate) fn version(version: &VersionRef) -> String {
    format!("{}@{}", service(&version.service), version.version)
}

/// Versions with their shares as a sentence has them: `1.0 at 90%, 1.1 at 10%`.
pub(crate) fn split(split: &Split) -> String {
    let shares: Vec<String> = split.iter().map(|(version, share)| format!("{version} at {share}")).collect();
    if shares.is_empty() { "nothing".to_owned() } else { shares.join(", ") }
}

/// Breaks `text`, whose first line starts at column `indent`, between words into lines of at most `width` columns;
/// the others start there too. What has no spaces stays whole: names are copied.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let room = width.saturating_sub(indent).max(LEAST_ROOM);
    let mut out = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out
}

/// `1 instance`, `2 instances`.
pub(crate) fn count(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `text` without control characters, which a terminal would obey. Tabs are kept.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_offsets_and_sizes() {
        let ages = [(0, "0s"), (119_999, "119s"), (120_000, "2m"), (7_200_000, "2h"), (172_800_000, "2d")];
        for (span, text) in ages {
            assert_eq!(age(Millis(span)), text);
        }
        for (span, text) in [(0, "+0.00s"), (420, "+0.42s"), (12_345, "+12.3s"), (123_456, "+123s")] {
            assert_eq!(offset(Millis(span)), text);
        }
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX).split(' ').nth(1), Some("TiB"));
        assert_eq!(moment(Timestamp(1_790_000_000_123)), "2026-09-21T14:13:20.123Z");
    }

    #[test]
    fn the_middle_goes_first() {
        assert_eq!(middle("example.com:web@1.0", 40), "example.com:web@1.0");
        assert_eq!(middle("example.com:web@1.0", 11), "examp…b@1.0");
        assert_eq!(middle("abc", 1), "…");
        for width in 1..30 {
            assert!(middle("example.com:web@1.0 — ünïcode", width).chars().count() <= width);
        }
    }

    #[test]
    fn lines_break_between_words_and_hang() {
        let text = "i-0123456789 of 1.0 on vm: cannot run /app/prog: the interpreter is not on this host";
        let wrapped = wrap(text, 60, 21);
        assert!(wrapped.lines().skip(1).all(|line| line.starts_with(&" ".repeat(21))), "{wrapped}");
        assert!(wrapped.lines().skip(1).all(|line| line.chars().count() <= 60), "{wrapped}");
        assert!(wrapped.lines().next().is_some_and(|line| line.chars().count() <= 39), "{wrapped}");
        assert_eq!(
            wrapped.split_whitespace().collect::<Vec<_>>(),
            text.split_whitespace().collect::<Vec<_>>()
        );
        assert_eq!(wrap("two  spaces stay", 80, 2), "two  spaces stay");
        let long = "x".repeat(100);
        assert_eq!(wrap(&long, 80, 2), long);
    }

    #[test]
    fn services_are_named_as_shortly_as_they_can_be_found() {
        for (full, short) in [
            ("example.com:com.example.HelloWorld", "com.example.HelloWorld"),
            // Were sub.example.com a domain too, the short form would mean a service of that.
            ("example.com:com.example.sub.HelloWorld", "example.com:com.example.sub.HelloWorld"),
            ("example.com:org.other.HelloWorld", "example.com:org.other.HelloWorld"),
            ("example.com:web", "example.com:web"),
        ] {
            assert_eq!(service(&full.parse().unwrap()), short);
            assert_eq!(version(&format!("{full}@1.0").parse().unwrap()), format!("{short}@1.0"));
        }
    }

    #[test]
    fn lines_of_strangers_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\tc"), "a\u{fffd}[2Jb\tc");
    }
}
