//! Where each object stands in the store: `global/PLURAL/NAME` or `zones/PROVIDER/ZONE/PLURAL/NAME`.
//!
//! One machine is a global tier and one zone in one store, under these two prefixes, with the real hand-down between
//! them.

use tutti_model::{Kind, name::ZoneName};

/// The tier that an object lives in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Home {
    /// The global tier.
    Global,
    /// One zone.
    Zone(ZoneName),
}

impl Home {
    /// The home of a kind, for a control that serves this zone.
    #[must_use]
    pub fn of(kind: Kind, zone: &ZoneName) -> Home {
        if kind.is_global() { Home::Global } else { Home::Zone(zone.clone()) }
    }

    /// The prefix of everything of a kind in this home, ending in a slash.
    #[must_use]
    pub fn prefix(&self, kind: Kind) -> String {
        match self {
            Home::Global => format!("global/{}/", kind.plural()),
            Home::Zone(zone) => format!("zones/{zone}/{}/", kind.plural()),
        }
    }

    /// The key of one object.
    #[must_use]
    pub fn key(&self, kind: Kind, name: &str) -> String {
        format!("{}{name}", self.prefix(kind))
    }
}
