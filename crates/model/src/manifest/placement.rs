//! `[service.placement]`: what a service asks of the nodes that its instances run on.

use super::Reader;
use crate::{
    Problem, limits,
    scheduling::{Constraint, LabelKey, Strategy, Toleration},
};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Where instances may run, and how they are shared out among the nodes where they may.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// Which of the nodes that fit it becomes.
    #[serde(skip_serializing_if = "Strategy::is_default")]
    pub strategy: Strategy,
    /// The label over whose values instances are spread first, such as `rack`; nodes without it count as one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<LabelKey>,
    /// What must hold of a node's labels when an instance is placed; what runs already stays where a label changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// Taints that it lives with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// The keys of `[service.placement]`.
pub(super) const KEYS: [&str; 4] = ["strategy", "spread", "constraints", "tolerations"];

impl Placement {
    /// Whether it asks for nothing in particular.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Placement::default()
    }

    /// What is beyond its bounds, with the key.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&'static str, String)> {
        let counts = [
            ("placement.constraints", self.constraints.len()),
            ("placement.tolerations", self.tolerations.len()),
        ];
        counts
            .into_iter()
            .filter(|(_, count)| *count > limits::PLACEMENT_TERMS)
            .map(|(key, count)| (key, format!("{count} are more than {}", limits::PLACEMENT_TERMS)))
    }
}

impl Reader {
    pub(super) fn placement(&mut self, section: &toml::Table) -> Placement {
        match section.get("placement") {
            None => Placement::default(),
            Some(toml::Value::Table(table)) => {
                self.unknown_keys("service.placement", table, &KEYS);
                Placement {
                    strategy: self.parsed(table, "strategy").unwrap_or_default(),
                    spread: self.parsed(table, "spread"),
                    constraints: self.terms(table, "constraints"),
                    tolerations: self.terms(table, "tolerations"),
                }
            }
            Some(toml::Value::String(strategy)) => Placement {
                strategy: strategy
                    .parse()
                    .map_err(|problem: Problem| self.fault("placement", problem.detail))
                    .unwrap_or_default(),
                ..Placement::default()
            },
            Some(other) => {
                self.fault(
                    "placement",
                    format!("a strategy or a section is wanted, not {}", other.type_str()),
                );
                Placement::default()
            }
        }
    }

    /// A list of texts, or one.
    fn terms<T: FromStr<Err = Problem>>(&mut self, table: &toml::Table, key: &str) -> Vec<T> {
        let texts: Vec<&str> = match table.get(key) {
            None => Vec::new(),
            Some(toml::Value::String(text)) => vec![text],
            Some(toml::Value::Array(items)) if items.iter().all(toml::Value::is_str) => {
                items.iter().filter_map(toml::Value::as_str).collect()
            }
            Some(_) => {
                self.fault(&format!("placement.{key}"), "a list of texts is wanted");
                Vec::new()
            }
        };
        let mut terms = Vec::with_capacity(texts.len());
        for text in texts {
            match text.parse::<T>() {
                Ok(term) => terms.push(term),
                Err(problem) => self.fault(&format!("placement.{key}"), problem.detail),
            }
        }
        terms
    }
}
