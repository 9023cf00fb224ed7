//! Names to be looked at again: at once, or when their time has come.

use std::collections::{BTreeMap, BTreeSet};
use tutti_model::Timestamp;

/// The names that a loop has to look at.
#[derive(Debug, Default)]
pub struct Wake {
    due: BTreeSet<String>,
    later: BTreeMap<String, Timestamp>,
}

impl Wake {
    /// Look at it at once.
    pub fn now(&mut self, name: impl Into<String>) {
        self.due.insert(name.into());
    }

    /// Look at it at that time, instead of whatever time it had; `None` for no time.
    pub fn at(&mut self, name: &str, when: Option<Timestamp>) {
        match when {
            Some(when) => self.later.insert(name.to_owned(), when),
            None => self.later.remove(name),
        };
    }

    /// When the next name is due by time.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.later.values().min().copied()
    }

    /// Whether a name is due now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes every name that is due.
    pub fn take(&mut self, now: Timestamp) -> BTreeSet<String> {
        let ripe: Vec<String> =
            self.later.iter().filter(|(_, when)| **when <= now).map(|(name, _)| name.clone()).collect();
        for name in ripe {
            self.later.remove(&name);
            self.due.insert(name);
        }
        std::mem::take(&mut self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_due_once() {
        let mut wake = Wake::default();
        wake.now("a");
        wake.at("b", Some(Timestamp(10)));
        wake.at("c", Some(Timestamp(20)));
        wake.at("c", None);
        assert_eq!(wake.next(), Some(Timestamp(10)));
        assert_eq!(wake.take(Timestamp(10)), BTreeSet::from(["a".into(), "b".into()]));
        assert!(wake.take(Timestamp(99)).is_empty());
    }
}
