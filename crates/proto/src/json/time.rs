//! `Timestamp` as RFC 3339 text and `Duration` as seconds with an `s`.

use std::fmt::Write as _;

/// The seconds of 0001-01-01T00:00:00Z.
const EARLIEST: i64 = -62_135_596_800;
/// The seconds of 9999-12-31T23:59:59Z.
const LATEST: i64 = 253_402_300_799;
/// Longest duration: ten thousand years, as `google.protobuf.Duration` says.
const LONGEST: i64 = 315_576_000_000;
const NANOS: i32 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Seconds and nanoseconds of an RFC 3339 text.
pub(super) fn parse_timestamp(text: &str) -> Option<(i64, i32)> {
    let (date, rest) = text.split_at_checked(10)?;
    let (clock, rest) = rest.strip_prefix('T')?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let last = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, rest) = fraction(rest)?;
    let offset = match rest.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign @ ("+" | "-"), zone) => {
            let [hours, minutes] = numbers(zone, ':', [2, 2])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3600 + minutes * 60) * if sign == "+" { 1 } else { -1 }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    (EARLIEST..=LATEST).contains(&seconds).then_some((seconds, nanos))
}

/// The RFC 3339 text of a time, in UTC, with as many digits of a second as it needs in threes.
pub(super) fn timestamp(seconds: i64, nanos: i32) -> Option<String> {
    if !(EARLIEST..=LATEST).contains(&seconds) || !(0..NANOS).contains(&nanos) {
        return None;
    }
    let (year, month, day) = date(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    push_fraction(&mut text, nanos);
    text.push('Z');
    Some(text)
}

/// Seconds and nanoseconds, of one sign, of a text such as `-1.5s`.
pub(super) fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let text = text.strip_suffix('s')?;
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let whole = text.find('.').map_or(text, |at| text.get(..at).unwrap_or(text));
    if whole.is_empty() || whole.len() > 12 || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let (nanos, rest) = fraction(text.get(whole.len()..)?)?;
    let over = seconds > LONGEST || (seconds == LONGEST && nanos > 0);
    (rest.is_empty() && !over).then_some((sign * seconds, i32::try_from(sign).ok()? * nanos))
}

/// The text of a duration.
pub(super) fn duration(seconds: i64, nanos: i32) -> Option<String> {
    let mixed = (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0);
    if seconds.unsigned_abs() > LONGEST.unsigned_abs()
        || nanos.unsigned_abs() >= NANOS.unsigned_abs()
        || mixed
    {
        return None;
    }
    let mut text = String::new();
    if seconds < 0 || nanos < 0 {
        text.push('-');
    }
    let _ = write!(text, "{}", seconds.unsigned_abs());
    push_fraction(&mut text, nanos.checked_abs()?);
    text.push('s');
    Some(text)
}

fn push_fraction(text: &mut String, nanos: i32) {
    let _ = match nanos {
        0 => Ok(()),
        nanos if nanos % 1_000_000 == 0 => write!(text, ".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => write!(text, ".{:06}", nanos / 1_000),
        nanos => write!(text, ".{nanos:09}"),
    };
}

/// The nanoseconds of `.5` and what stands behind it; one to nine digits.
fn fraction(text: &str) -> Option<(i32, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=9).contains(&length) {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(length)?;
    let scale = 10_i32.checked_pow(u32::try_from(9 - length).ok()?)?;
    Some((digits.parse::<i32>().ok()?.checked_mul(scale)?, rest))
}

/// Numbers of exactly so many digits with this between them.
fn numbers<const N: usize>(text: &str, between: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut found = [0; N];
    for (number, width) in found.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        if !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that a leap day is the last
/// of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The other way round.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_as_rfc_3339_has_them() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1972-01-01T10:00:20.021Z", 63_108_020, 21_000_000),
            ("2000-02-29T00:00:00+01:00", 951_778_800, 0),
            ("0001-01-01T00:00:00Z", EARLIEST, 0),
            ("9999-12-31T23:59:59.999999999Z", LATEST, 999_999_999),
        ] {
            assert_eq!(parse_timestamp(text), Some((seconds, nanos)), "{text}");
        }
        for bad in [
            "",
            "1970-01-01",
            "1970-01-01t00:00:00Z",
            "1970-01-01T00:00:00z",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:60Z",
            "1970-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+23:59",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.1234567890Z",
            "1970-01-01T00:00:00+24:00",
            "1970-1-01T00:00:00Z",
            "197\u{e9}-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_read_with_their_s() {
        for (text, seconds, nanos) in [
            ("0s", 0, 0),
            ("-0.5s", 0, -500_000_000),
            ("1.000000001s", 1, 1),
            ("-315576000000s", -LONGEST, 0),
        ] {
            assert_eq!(parse_duration(text), Some((seconds, nanos)), "{text}");
        }
        for bad in
            ["", "s", "1", "1.s", ".5s", "1e3s", "315576000001s", "315576000000.1s", "+1s", "1.0000000001s"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(duration(1, -1), None);
        assert_eq!(duration(0, -500_000_000).as_deref(), Some("-0.500s"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in EARLIEST..=LATEST, nanos in 0..NANOS) {
            let text = timestamp(seconds, nanos).unwrap();
            prop_assert_eq!(parse_timestamp(&text), Some((seconds, nanos)));
            let seconds = seconds.clamp(-LONGEST + 1, LONGEST - 1);
            let nanos = if seconds < 0 { -nanos } else { nanos };
            let text = duration(seconds, nanos).unwrap();
            prop_assert_eq!(parse_duration(&text), Some((seconds, nanos)));
        }
    }
}
