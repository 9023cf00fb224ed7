//! Numbers: JSON's grammar, and integers that may be written with a fraction or an exponent.

/// How many bytes at the beginning of `text` are a number as JSON writes them; 0 if none.
pub(super) fn grammar(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let byte = |at: usize| bytes.get(at).copied();
    let mut at = usize::from(byte(0) == Some(b'-'));
    match byte(at) {
        Some(b'0') => at += 1,
        Some(b'1'..=b'9') => at += digits(at),
        _ => return 0,
    }
    if byte(at) == Some(b'.') {
        match digits(at + 1) {
            0 => return 0,
            more => at += more + 1,
        }
    }
    if matches!(byte(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(byte(at + 1), Some(b'+' | b'-')));
        match digits(at + 1 + sign) {
            0 => return 0,
            more => at += more + 1 + sign,
        }
    }
    at
}

/// Why a number is not the integer it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotInteger {
    /// Not a number at all.
    Malformed,
    /// It has a fraction.
    Fraction,
    /// It is beyond what 128 bits hold.
    Range,
}

/// The integer that this number is: `3`, `3.0` and `30e-1` are 3.
pub(super) fn integer(text: &str) -> Result<i128, NotInteger> {
    if text.is_empty() || grammar(text) != text.len() {
        return Err(NotInteger::Malformed);
    }
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let exponent: i64 = exponent.parse().map_err(|_| match exponent.starts_with('-') {
        true => NotInteger::Fraction,
        false => NotInteger::Range,
    })?;
    let shift = exponent.saturating_sub(i64::try_from(fraction.len()).unwrap_or(i64::MAX));
    let trimmed = significant.trim_end_matches('0');
    let zeros = i64::try_from(significant.len() - trimmed.len()).unwrap_or(i64::MAX);
    let zeros = u32::try_from(shift.saturating_add(zeros)).map_err(|_| match shift < 0 {
        true => NotInteger::Fraction,
        false => NotInteger::Range,
    })?;
    let value = trimmed.parse::<i128>().ok();
    let value =
        value.and_then(|value| value.checked_mul(10_i128.checked_pow(zeros)?)).ok_or(NotInteger::Range)?;
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_may_have_an_exponent_or_an_empty_fraction() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("-0.00", 0),
            ("0e99999999999999999999999", 0),
            ("12", 12),
            ("-12.0", -12),
            ("1.5e1", 15),
            ("100e-2", 1),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("9223372036854775808", 9_223_372_036_854_775_808),
        ] {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        for (text, fault) in [
            ("1.5", NotInteger::Fraction),
            ("1e-1", NotInteger::Fraction),
            ("1e-99999999999999999999", NotInteger::Fraction),
            ("1e99999999999999999999", NotInteger::Range),
            ("1e60", NotInteger::Range),
            ("01", NotInteger::Malformed),
            ("+1", NotInteger::Malformed),
            ("1.", NotInteger::Malformed),
            (".5", NotInteger::Malformed),
            ("1e", NotInteger::Malformed),
            (" 1", NotInteger::Malformed),
            ("", NotInteger::Malformed),
            ("0x10", NotInteger::Malformed),
        ] {
            assert_eq!(integer(text), Err(fault), "{text}");
        }
    }
}
