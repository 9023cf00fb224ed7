//! What a service may ask of the nodes it runs on, and what a node says to keep services away: labels, constraints,
//! taints and tolerations, each with the text that people write. Which node it becomes is decided in `plan`.

use crate::{
    Problem,
    name::{plain_name, text_type},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Longest key or value of a label, in bytes (as in Kubernetes, so that what is written for one fits the other).
pub const LABEL_BYTES: usize = 63;
/// Most values that one constraint names.
pub const CONSTRAINT_VALUES: usize = 16;

/// Letters, digits, `-`, `_`, `.` and `/`, starting and ending with a letter or digit.
fn is_word(text: &str, slash: bool) -> bool {
    let inner = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') || (slash && byte == b'/')
    };
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= LABEL_BYTES
        && text.bytes().all(inner)
        && edge(text.bytes().next())
        && edge(text.bytes().last())
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $what:literal, slash: $slash:literal, empty: $empty:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        plain_name!($name);

        impl FromStr for $name {
            type Err = Problem;

            fn from_str(text: &str) -> Result<Self, Problem> {
                if is_word(text, $slash) || ($empty && text.is_empty()) {
                    return Ok($name(text.to_owned()));
                }
                Err(Problem::invalid(format!(
                    concat!($what, " \"{}\" is not 1 to {} letters, digits and inner - _ ."),
                    text, LABEL_BYTES
                )))
            }
        }
    };
}

word!(
    /// The key of a label or taint, such as `rack` or `example.com/disk`.
    LabelKey, "key", slash: true, empty: false
);
word!(
    /// The value of a label or taint; empty for one that is only there or not.
    LabelValue, "value", slash: false, empty: true
);

/// The labels of a node.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// Reads `KEY=VALUE` or `KEY`, which is the same with an empty value.
///
/// # Errors
/// A key or value that is none.
pub fn label(text: &str) -> Result<(LabelKey, LabelValue), Problem> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((key.parse()?, value.parse()?))
}

/// A label or taint as people write it.
fn write_label(f: &mut fmt::Formatter<'_>, key: &LabelKey, value: &LabelValue) -> fmt::Result {
    if value.as_str().is_empty() { write!(f, "{key}") } else { write!(f, "{key}={value}") }
}

/// What must hold of a node's labels: `KEY` (it is there), `!KEY` (it is not), `KEY=A|B` (it has one of these values),
/// `KEY!=A|B` (it has none of these, or is not there).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    key: LabelKey,
    wants: Wants,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Wants {
    Present,
    Absent,
    OneOf(Vec<LabelValue>),
    NoneOf(Vec<LabelValue>),
}

impl Constraint {
    /// Whether it holds of these labels.
    #[must_use]
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.wants {
            Wants::Present => value.is_some(),
            Wants::Absent => value.is_none(),
            Wants::OneOf(values) => value.is_some_and(|value| values.contains(value)),
            Wants::NoneOf(values) => value.is_none_or(|value| !values.contains(value)),
        }
    }

    /// The label that it is about.
    #[must_use]
    pub const fn key(&self) -> &LabelKey {
        &self.key
    }

    /// The values that it names.
    #[must_use]
    pub fn values(&self) -> &[LabelValue] {
        match &self.wants {
            Wants::Present | Wants::Absent => &[],
            Wants::OneOf(values) | Wants::NoneOf(values) => values,
        }
    }

    /// Whether it holds where the label is there with a value that it does not name.
    #[must_use]
    pub const fn holds_of_others(&self) -> bool {
        matches!(self.wants, Wants::Present | Wants::NoneOf(_))
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, joined) = (&self.key, |values: &[LabelValue]| {
            values.iter().map(LabelValue::as_str).collect::<Vec<_>>().join("|")
        });
        match &self.wants {
            Wants::Present => write!(f, "{key}"),
            Wants::Absent => write!(f, "!{key}"),
            Wants::OneOf(values) => write!(f, "{key}={}", joined(values)),
            Wants::NoneOf(values) => write!(f, "{key}!={}", joined(values)),
        }
    }
}

impl FromStr for Constraint {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |problem: Problem| {
            Problem::invalid(format!("constraint \"{text}\": {}", problem.detail))
                .hint("write KEY, !KEY, KEY=VALUE or KEY!=VALUE, with | between several values")
        };
        let values = |text: &str| -> Result<Vec<LabelValue>, Problem> {
            let values: Vec<LabelValue> = text.split('|').map(str::parse).collect::<Result<_, _>>()?;
            if values.len() > CONSTRAINT_VALUES {
                let many = format!("{} values are more than {CONSTRAINT_VALUES}", values.len());
                return Err(Problem::invalid(many));
            }
            Ok(values)
        };
        let read = || -> Result<Constraint, Problem> {
            if let Some((key, of)) = text.split_once("!=") {
                return Ok(Constraint { key: key.trim().parse()?, wants: Wants::NoneOf(values(of.trim())?) });
            }
            if let Some((key, of)) = text.split_once('=') {
                return Ok(Constraint { key: key.trim().parse()?, wants: Wants::OneOf(values(of.trim())?) });
            }
            match text.strip_prefix('!') {
                Some(key) => Ok(Constraint { key: key.trim().parse()?, wants: Wants::Absent }),
                None => Ok(Constraint { key: text.trim().parse()?, wants: Wants::Present }),
            }
        };
        read().map_err(wrong)
    }
}

text_type!(Constraint);

/// What a taint does to instances that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Effect {
    /// No new ones are placed there.
    NoSchedule,
    /// None are placed there, and those that run there move elsewhere.
    NoExecute,
}

impl Effect {
    /// Every effect.
    pub const ALL: [Effect; 2] = [Effect::NoSchedule, Effect::NoExecute];

    /// It as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::NoSchedule => "NoSchedule",
            Effect::NoExecute => "NoExecute",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What keeps instances away from a node unless their manifest tolerates it: `KEY[=VALUE]:EFFECT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Taint {
    /// What it is about.
    pub key: LabelKey,
    /// Which of it; may be empty.
    pub value: LabelValue,
    /// What it does.
    pub effect: Effect,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_label(f, &self.key, &self.value)?;
        write!(f, ":{}", self.effect)
    }
}

impl FromStr for Taint {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: String| {
            Problem::invalid(format!("taint \"{text}\": {why}"))
                .hint("write KEY:NoSchedule or KEY=VALUE:NoExecute")
        };
        let (of, effect) = text.rsplit_once(':').ok_or_else(|| wrong("it has no effect".into()))?;
        let effect = Effect::ALL.into_iter().find(|known| known.as_str() == effect);
        let effect = effect.ok_or_else(|| wrong("its effect is neither NoSchedule nor NoExecute".into()))?;
        let (key, value) = label(of).map_err(|problem| wrong(problem.detail))?;
        Ok(Taint { key, value, effect })
    }
}

text_type!(Taint);

/// What a service tolerates of a node's taints: `KEY` (with any value) or `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Toleration {
    key: LabelKey,
    value: Option<LabelValue>,
}

impl Toleration {
    /// Whether it tolerates this taint, whatever its effect.
    #[must_use]
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.key == taint.key && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }
}

impl fmt::Display for Toleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => write!(f, "{}", self.key),
        }
    }
}

impl FromStr for Toleration {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let read = || match text.split_once('=') {
            Some((key, value)) => Ok(Toleration { key: key.parse()?, value: Some(value.parse()?) }),
            None => Ok(Toleration { key: text.parse()?, value: None }),
        };
        read().map_err(|problem: Problem| {
            Problem::invalid(format!("toleration \"{text}\": {}", problem.detail))
                .hint("write KEY or KEY=VALUE, as in the taint")
        })
    }
}

text_type!(Toleration);

/// Which of the nodes that could take an instance it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One that has the fewest of the service, then the one with the most room: a node that dies takes little with it.
    #[default]
    Spread,
    /// The fullest in which it still fits: as few nodes as will do, so that a node pool can give others back.
    Pack,
}

impl Strategy {
    /// Whether it is the one that is taken where nobody says.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Strategy::default()
    }
}

impl FromStr for Strategy {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text {
            "spread" => Ok(Strategy::Spread),
            "pack" => Ok(Strategy::Pack),
            _ => Err(Problem::invalid(format!("\"{text}\" is neither \"spread\" nor \"pack\""))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(texts: &[&str]) -> Labels {
        texts.iter().map(|text| label(text).unwrap()).collect()
    }

    #[test]
    fn constraints_read_back_and_hold_as_they_say() {
        let here = labels(&["rack=r1", "gpu", "example.com/disk=ssd"]);
        let cases = [
            ("gpu", true),
            ("fpga", false),
            ("!fpga", true),
            ("!gpu", false),
            ("rack=r1", true),
            ("rack=r2|r1", true),
            ("rack=r2", false),
            ("rack!=r2|r3", true),
            ("rack!=r1", false),
            ("arch!=arm64", true),
            ("arch=arm64", false),
            ("example.com/disk=ssd", true),
            ("gpu=", true),
        ];
        for (text, holds) in cases {
            let constraint: Constraint = text.parse().unwrap();
            assert_eq!(constraint.to_string(), text);
            let other = labels(&[&format!("{}=other", constraint.key())]);
            assert_eq!(constraint.holds(&other), constraint.holds_of_others(), "{text}");
            assert_eq!(
                constraint.values().len(),
                text.split_once('=').map_or(0, |(_, of)| of.split('|').count())
            );
            assert_eq!(constraint.holds(&here), holds, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let many = format!("rack={}", vec!["r"; CONSTRAINT_VALUES + 1].join("|"));
        for bad in ["", "!", "=", "=a", "!=a", "rack=a b", "-rack", "rack=a/b", many.as_str()] {
            let problem = bad.parse::<Constraint>().unwrap_err();
            assert!(problem.detail.starts_with("constraint ") && problem.hint.is_some(), "{bad}");
        }
        let long = "k".repeat(LABEL_BYTES + 1);
        assert!(long.parse::<LabelKey>().is_err() && long[1..].parse::<LabelKey>().is_ok());
        for bad in ["gpu", "gpu:", "gpu:noschedule", ":NoSchedule", "gpu=a b:NoExecute"] {
            assert!(bad.parse::<Taint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tolerations_match_taints_by_key_and_value() {
        let taint: Taint = "gpu=a100:NoExecute".parse().unwrap();
        assert_eq!(taint.to_string(), "gpu=a100:NoExecute");
        for (text, tolerated) in [("gpu", true), ("gpu=a100", true), ("gpu=h100", false), ("gpu=", false)] {
            let toleration: Toleration = text.parse().unwrap();
            assert_eq!(toleration.to_string(), text);
            assert_eq!(toleration.tolerates(&taint), tolerated, "{text}");
        }
        let bare: Taint = "spot:NoSchedule".parse().unwrap();
        assert_eq!(bare.to_string(), "spot:NoSchedule");
        assert!("spot".parse::<Toleration>().unwrap().tolerates(&bare));
    }
}
