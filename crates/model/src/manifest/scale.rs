//! `[service.scale]`: how much of the load one worker is to have; more of them serve where it is more.

use super::Reader;
use crate::Millis;
use serde::{Deserialize, Serialize};

/// What one worker is to have of the load.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Scale {
    /// Requests at once; by default seven tenths of those that it may serve at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Requests a second; by default they are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rps: Option<u32>,
    /// With `min = 0`: how long nothing may be asked of a worker before it is put to sleep; from 1 second to 1 day, by
    /// default [`Scale::IDLE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Millis>,
}

/// The keys of `[service.scale]`.
pub(super) const KEYS: [&str; 3] = ["concurrency", "rps", "idle"];

impl Scale {
    /// How long a worker that may sleep stays awake for nothing, unless told: as long as load is looked back on.
    pub const IDLE: Millis = Millis::seconds(60);

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
        let idle = self.idle.filter(|idle| !(Millis::seconds(1)..=Millis::seconds(86_400)).contains(idle));
        let idle = idle.map(|idle| ("scale.idle", format!("{idle} is not from 1s to 24h")));
        targets.into_iter().filter_map(none).chain(idle)
    }
}

impl Reader {
    pub(super) fn scale(&mut self, section: &toml::Table) -> Scale {
        match section.get("scale") {
            None => Scale::default(),
            Some(toml::Value::Table(table)) => {
                self.unknown_keys("service.scale", table, &KEYS);
                Scale {
                    concurrency: self.integer(table, "concurrency"),
                    rps: self.integer(table, "rps"),
                    idle: self.parsed(table, "idle"),
                }
            }
            Some(other) => {
                self.fault("scale", format!("a section is wanted, not {}", other.type_str()));
                Scale::default()
            }
        }
    }
}
