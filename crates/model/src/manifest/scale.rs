//! `[service.scale]`: how much of the load one worker is to have; more of them serve where it is more.

use super::Reader;
use serde::{Deserialize, Serialize};

/// What one worker is to have of the load.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// Requests at once; by default seven tenths of those that it may serve at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Requests a second; by default they are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rps: Option<u32>,
}

/// The keys of `[service.scale]`.
const KEYS: [&str; 2] = ["concurrency", "rps"];

impl Scale {
    /// Whether it asks for nothing in particular.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Scale::default()
    }

    /// What is out of its range, with the key.
    pub(super) fn faults(&self) -> impl Iterator<Item = (&'static str, String)> {
        let targets = [("scale.concurrency", self.concurrency), ("scale.rps", self.rps)];
        let none = |(key, target): (&'static str, Option<u32>)| {
            (target == Some(0)).then(|| (key, "0 would ask for workers without end: at least 1".to_owned()))
        };
        targets.into_iter().filter_map(none)
    }
}

impl Reader {
    pub(super) fn scale(&mut self, section: &toml::Table) -> Scale {
        match section.get("scale") {
            None => Scale::default(),
            Some(toml::Value::Table(table)) => {
                self.unknown_keys("service.scale", table, &KEYS);
                Scale { concurrency: self.integer(table, "concurrency"), rps: self.integer(table, "rps") }
            }
            Some(other) => {
                self.fault("scale", format!("a section is wanted, not {}", other.type_str()));
                Scale::default()
            }
        }
    }
}
