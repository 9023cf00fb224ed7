//! Amounts of memory, cpu and bandwidth as people write them: `64Mi`, `1G`, `250m`, `2`, `10Mbit`.

use crate::Problem;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A number of bytes. Text: a whole number with `Ki, Mi, Gi, Ti` (powers of 1024), `K, M, G, T` (powers of 1000), or
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Whether it is nothing.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }

    /// Mebibytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        ByteSize(count << 20)
    }
}

const BYTE_UNITS: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("T", 1_000_000_000_000),
    ("Gi", 1 << 30),
    ("G", 1_000_000_000),
    ("Mi", 1 << 20),
    ("M", 1_000_000),
    ("Ki", 1 << 10),
    ("K", 1000),
];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BYTE_UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            Problem::invalid(format!(
                "\"{text}\" is not a size: write a whole number and a unit, such as 64Mi, 512M or 1Gi"
            ))
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor = match unit {
            "" => 1,
            unit => BYTE_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, factor)| *factor)
                .ok_or_else(wrong)?,
        };
        number.checked_mul(factor).map(ByteSize).ok_or_else(wrong)
    }
}

/// Thousandths of a cpu. Text: `250m` or a decimal number of cpus, such as `2` or `0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MilliCpu(pub u32);

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

impl FromStr for MilliCpu {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::invalid(format!("\"{text}\" is not an amount of cpu: write 250m, 0.5 or 2"));
        if let Some(milli) = text.strip_suffix('m') {
            return milli.parse().map(MilliCpu).map_err(|_| wrong());
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) || text.ends_with('.') {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let fraction: u32 = format!("{fraction:0<3}").parse().map_err(|_| wrong())?;
        whole.checked_mul(1000).and_then(|milli| milli.checked_add(fraction)).map(MilliCpu).ok_or_else(wrong)
    }
}

/// Bits a second. Text: a whole number with `Gbit`, `Mbit`, `Kbit` (powers of 1000) or `bit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Bandwidth(pub u64);

impl Bandwidth {
    /// Whether it is none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }

    /// Millions of bits a second.
    #[must_use]
    pub const fn mbit(count: u64) -> Self {
        Bandwidth(count.saturating_mul(1_000_000))
    }
}

const BIT_UNITS: [(&str, u64); 4] =
    [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("Kbit", 1000), ("bit", 1)];

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BIT_UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Bandwidth {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            Problem::invalid(format!(
                "\"{text}\" is not a bandwidth: write a whole number and a unit, such as 10Mbit, 500Kbit or 1Gbit"
            ))
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor = match unit {
            // A bare number could be meant in anything; only none is the same in all.
            "" if number == 0 => 1,
            unit => BIT_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, factor)| *factor)
                .ok_or_else(wrong)?,
        };
        number.checked_mul(factor).map(Bandwidth).ok_or_else(wrong)
    }
}

macro_rules! serde_text {
    ($name:ident, $expects:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expects)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<$name, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
    };
}

serde_text!(ByteSize, "a size such as \"64Mi\" or \"1G\"");
serde_text!(MilliCpu, "an amount of cpu such as \"250m\" or 2");
serde_text!(Bandwidth, "a bandwidth such as \"10Mbit\" or \"1Gbit\"");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sizes_read_back(value in any::<u64>()) {
            prop_assert_eq!(ByteSize(value).to_string().parse::<ByteSize>().unwrap(), ByteSize(value));
        }

        #[test]
        fn bandwidths_read_back(value in any::<u64>()) {
            prop_assert_eq!(Bandwidth(value).to_string().parse::<Bandwidth>().unwrap(), Bandwidth(value));
        }

        #[test]
        fn cpus_read_back(value in any::<u32>()) {
            prop_assert_eq!(MilliCpu(value).to_string().parse::<MilliCpu>().unwrap(), MilliCpu(value));
        }
    }

    #[test]
    fn reads_what_people_write() {
        assert_eq!("64Mi".parse::<ByteSize>().unwrap(), ByteSize::mib(64));
        assert_eq!("0.5".parse::<MilliCpu>().unwrap(), MilliCpu(500));
        assert_eq!("1.25".parse::<MilliCpu>().unwrap(), MilliCpu(1250));
        for text in ["", "Mi", "64mb", "-1", "1.5Mi"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!("10Mbit".parse::<Bandwidth>().unwrap(), Bandwidth::mbit(10));
        assert_eq!("0".parse::<Bandwidth>().unwrap(), Bandwidth(0));
        for text in ["", "10", "Mbit", "1.5Mbit", "10mbit", "10Mbps", "99999999999999Gbit"] {
            assert!(text.parse::<Bandwidth>().is_err(), "{text}");
        }
        for text in ["", "m", "1.", ".5", "1.2345", "-1"] {
            assert!(text.parse::<MilliCpu>().is_err(), "{text}");
        }
    }
}
