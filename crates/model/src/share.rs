//! Shares of traffic and how versions split it.
//!
//! A share is a whole number of millionths, so that `0.1%` is exact and sums have no rounding error: a [`Split`]
//! always adds up to the whole.

use crate::{Problem, VersionName, limits};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// A share of the traffic in millionths of the whole, from 0 to 1,000,000. As text a percentage, such as `10%` or
/// `0.1%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const ZERO: Share = Share(0);
    /// Everything.
    pub const WHOLE: Share = Share(1_000_000);

    /// A share of this many millionths; at most the whole.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Share {
        if millionths > 1_000_000 { Share::WHOLE } else { Share(millionths) }
    }

    /// The number of millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// What is left of the whole.
    #[must_use]
    pub const fn rest(self) -> Share {
        Share(1_000_000 - self.0)
    }

    /// `max(1, ceil(workers × share))` for a share above zero, else 0: how many of `workers` this share takes.
    #[must_use]
    pub fn workers(self, workers: u32) -> u32 {
        if self.0 == 0 {
            return 0;
        }
        let exact = u64::from(workers) * u64::from(self.0);
        u32::try_from(exact.div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 10_000, self.0 % 10_000);
        if fraction == 0 {
            return write!(f, "{whole}%");
        }
        let digits = format!("{fraction:04}");
        write!(f, "{whole}.{}%", digits.trim_end_matches('0'))
    }
}

impl FromStr for Share {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| Problem::invalid(format!("share \"{text}\" {why}"));
        let form = || wrong("is not a percentage: write 100%, 10% or 0.1%, with at most four decimals");
        let Some(number) = text.strip_suffix('%') else {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            return Err(if digits { form().hint(format!("did you mean {text}%?")) } else { form() });
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 4 {
            return Err(form());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong("is more than 100%"))?;
        let fraction: u32 = format!("{fraction:0<4}").parse().map_err(|_| form())?;
        match whole.checked_mul(10_000).and_then(|millionths| millionths.checked_add(fraction)) {
            Some(millionths) if millionths <= 1_000_000 => Ok(Share(millionths)),
            _ => Err(wrong("is more than 100%")),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How the versions of one service share its traffic: shares above zero that add up to the whole, or no version at
/// all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Split(BTreeMap<VersionName, Share>);

impl Split {
    /// No version serves.
    #[must_use]
    pub fn empty() -> Split {
        Split::default()
    }

    /// One version has everything.
    #[must_use]
    pub fn all(version: VersionName) -> Split {
        Split(BTreeMap::from([(version, Share::WHOLE)]))
    }

    /// A split from exact shares; zero shares are left out.
    ///
    /// # Errors
    /// `invalid` if they do not add up to the whole, or are more than [`limits::SPLIT_VERSIONS`].
    pub fn new(shares: impl IntoIterator<Item = (VersionName, Share)>) -> Result<Split, Problem> {
        let shares: BTreeMap<_, _> = shares.into_iter().filter(|(_, share)| *share != Share::ZERO).collect();
        if shares.len() > limits::SPLIT_VERSIONS {
            return Err(Problem::new(
                crate::ErrorCode::QuotaExceeded,
                format!("more than {} versions would share the traffic", limits::SPLIT_VERSIONS),
            ));
        }
        let sum: u64 = shares.values().map(|share| u64::from(share.0)).sum();
        if sum == 1_000_000 || shares.is_empty() {
            return Ok(Split(shares));
        }
        Err(Problem::invalid("the shares do not add up to 100%"))
    }

    /// The share of one version.
    #[must_use]
    pub fn share(&self, version: &VersionName) -> Share {
        self.0.get(version).copied().unwrap_or(Share::ZERO)
    }

    /// Every version with a share, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&VersionName, Share)> {
        self.0.iter().map(|(version, share)| (version, *share))
    }

    /// How many versions share.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no version serves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The split after `version` is given exactly `share`; what it takes comes from the others, and what it leaves goes
    /// to them, in proportion. The first version ever gets everything, whatever is asked.
    #[must_use]
    pub fn with(&self, version: &VersionName, share: Share) -> Split {
        let others: Vec<_> =
            self.0.iter().filter(|(other, _)| *other != version).map(|(v, s)| (v.clone(), *s)).collect();
        if others.is_empty() {
            return Split::all(version.clone());
        }
        let mut shares = apportion(&others, share.rest());
        shares.insert(version.clone(), share);
        shares.retain(|_, share| *share != Share::ZERO);
        Split(shares)
    }

    /// The split after the versions for which `keep` is false have lost their share to the rest, in proportion. With
    /// none left it is empty.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&VersionName) -> bool) -> Split {
        let kept: Vec<_> =
            self.0.iter().filter(|(version, _)| keep(version)).map(|(v, s)| (v.clone(), *s)).collect();
        if kept.is_empty() {
            return Split::empty();
        }
        let mut shares = apportion(&kept, Share::WHOLE);
        shares.retain(|_, share| *share != Share::ZERO);
        Split(shares)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (index, (version, share)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{version} {share}")?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shares = BTreeMap::<VersionName, Share>::deserialize(deserializer)?;
        Split::new(shares).map_err(serde::de::Error::custom)
    }
}

/// Divides `total` among `shares` in their proportion by largest remainder; ties go to the earlier name, so that the
/// same input always gives the same output.
fn apportion(shares: &[(VersionName, Share)], total: Share) -> BTreeMap<VersionName, Share> {
    let sum: u64 = shares.iter().map(|(_, share)| u64::from(share.0)).sum();
    let mut parts: Vec<(u64, u64, &VersionName)> = shares
        .iter()
        .map(|(version, share)| {
            let exact = u64::from(share.0) * u64::from(total.0);
            match sum {
                0 => (0, 0, version),
                sum => (exact / sum, exact % sum, version),
            }
        })
        .collect();
    let given: u64 = parts.iter().map(|(part, _, _)| part).sum();
    let mut left = u64::from(total.0).saturating_sub(given);
    parts.sort_by(|a, b| b.1.cmp(&a.1).then(a.2.cmp(b.2)));
    let mut result = BTreeMap::new();
    for (part, _, version) in parts {
        let extra = u64::from(left > 0);
        left -= extra;
        result.insert(version.clone(), Share(u32::try_from(part + extra).unwrap_or(1_000_000)));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> VersionName {
        text.parse().unwrap()
    }

    fn any_split() -> impl Strategy<Value = Split> {
        proptest::collection::vec(1u32..1_000_000, 1..6).prop_map(|weights| {
            let shares: Vec<_> = weights
                .iter()
                .enumerate()
                .map(|(index, weight)| (version(&format!("{index}.0")), Share(*weight)))
                .collect();
            Split(apportion(&shares, Share::WHOLE)).only(|_| true)
        })
    }

    proptest! {
        #[test]
        fn shares_read_back(millionths in 0u32..=1_000_000) {
            let share = Share(millionths);
            prop_assert_eq!(share.to_string().parse::<Share>().unwrap(), share);
        }

        #[test]
        fn a_split_always_adds_up(split in any_split(), millionths in 0u32..=1_000_000, which in 0usize..8) {
            let after = split.with(&version(&format!("{which}.0")), Share(millionths));
            let sum: u64 = after.iter().map(|(_, share)| u64::from(share.0)).sum();
            prop_assert_eq!(sum, 1_000_000);
        }

        #[test]
        fn what_is_taken_comes_in_proportion(split in any_split(), millionths in 0u32..=1_000_000) {
            let after = split.with(&version("9.0"), Share(millionths));
            for (name, before) in split.iter() {
                let exact = f64::from(before.0) * f64::from(1_000_000 - millionths) / 1e6;
                prop_assert!((f64::from(after.share(name).0) - exact).abs() <= 1.0);
            }
        }

        #[test]
        fn workers_cover_the_share(workers in 0u32..10_000, millionths in 0u32..=1_000_000) {
            let wanted = Share(millionths).workers(workers);
            let exact = f64::from(workers) * f64::from(millionths) / 1e6;
            if millionths == 0 {
                prop_assert_eq!(wanted, 0);
            } else {
                prop_assert!(wanted >= 1 && f64::from(wanted) >= exact && f64::from(wanted) < exact.max(1.0) + 1.0);
            }
        }
    }

    #[test]
    fn the_first_version_gets_everything() {
        assert_eq!(Split::empty().with(&version("1.0"), Share(100_000)), Split::all(version("1.0")));
    }

    #[test]
    fn refuses_what_is_not_a_share() {
        for (text, hint) in [
            ("10", Some("did you mean 10%?")),
            ("101%", None),
            ("-1%", None),
            ("1.23456%", None),
            ("%", None),
            ("ten%", None),
            (".5%", None),
        ] {
            let problem = text.parse::<Share>().unwrap_err();
            assert_eq!(problem.hint.as_deref(), hint, "{text}");
        }
        assert_eq!("0.1%".parse::<Share>().unwrap(), Share(1000));
    }
}
