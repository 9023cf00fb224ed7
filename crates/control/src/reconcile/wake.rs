//! Names to be looked at again: at once, or when their time has come.

use std::collections::{BTreeMap, BTreeSet};
use tutti_model::Timestamp;

/// The names that a loop has to look at.
#[derive(Debug, Default)]
pub struct Wake {
    due: BTreeSet<String>,
    later: BTreeMap<String, Timestamp>,
    /// The same as `later`, earliest first.
    by_time: BTreeSet<(Timestamp, String)>,
}

impl Wake {
    /// Look at it at once.
    pub fn now(&mut self, name: impl Into<String>) {
        self.due.insert(name.into());
    }

    /// Look at it at that time, instead of whatever time it had; `None` for no time.
    pub fn at(&mut self, name: &str, when: Option<Timestamp>) {
        let before = match when {
            Some(when) => self.later.insert(name.to_owned(), when),
            None => self.later.remove(name),
        };
        if let Some(before) = before {
            self.by_time.remove(&(before, name.to_owned()));
        }
        if let Some(when) = when {
            self.by_time.insert((when, name.to_owned()));
        }
    }

    /// When the next name is due by time.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(when, _)| *when)
    }

    /// Takes every name that is due.
    pub fn take(&mut self, now: Timestamp) -> BTreeSet<String> {
        while self.next().is_some_and(|when| when <= now) {
            if let Some((_, name)) = self.by_time.pop_first() {
                self.later.remove(&name);
                self.due.insert(name);
            }
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
        wake.at("b", Some(Timestamp(30)));
        wake.at("b", Some(Timestamp(10)));
        assert_eq!(wake.next(), Some(Timestamp(10)));
        assert_eq!(wake.take(Timestamp(10)), BTreeSet::from(["a".into(), "b".into()]));
        assert!(wake.take(Timestamp(99)).is_empty());
    }
}
