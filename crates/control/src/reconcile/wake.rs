//! Names to be looked at again: at once, or when their time has come.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};
use tutti_model::Timestamp;

/// Most names taken at once. A loop listens to nothing while it works on them, not even to its end: with one write each
/// they take a fraction of a second.
pub const PASS: usize = 64;

/// The names that a loop has to look at.
#[derive(Debug, Default)]
pub struct Wake {
    due: BTreeSet<String>,
    later: BTreeMap<String, Timestamp>,
    /// The same as `later`, earliest first.
    by_time: BTreeSet<(Timestamp, String)>,
    /// The last name that was taken, after which the next ones are.
    last: Option<String>,
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

    /// When the next name is due; long ago if one is due already.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        if self.due.is_empty() { self.next_by_time() } else { Some(Timestamp(0)) }
    }

    /// How many names are due, and how many will be later.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.due.len(), self.later.len())
    }

    fn next_by_time(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(when, _)| *when)
    }

    /// Takes names that are due, at most [`PASS`] of them: the others stay due. Each has its turn, since one that is
    /// due again comes after those that have waited.
    pub fn take(&mut self, now: Timestamp) -> BTreeSet<String> {
        while self.next_by_time().is_some_and(|when| when <= now) {
            if let Some((_, name)) = self.by_time.pop_first() {
                self.later.remove(&name);
                self.due.insert(name);
            }
        }
        let after = self.last.clone().unwrap_or_default();
        let waited = self.due.range::<str, _>((Bound::Excluded(after.as_str()), Bound::Unbounded));
        let again = self.due.range::<str, _>((Bound::Unbounded, Bound::Included(after.as_str())));
        let taken: Vec<String> = waited.chain(again).take(PASS).cloned().collect();
        self.last = taken.last().cloned();
        let taken: BTreeSet<String> = taken.into_iter().collect();
        self.due.retain(|name| !taken.contains(name));
        taken
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
        assert_eq!(wake.next(), Some(Timestamp(0)), "one is due already");
        assert_eq!(wake.waiting(), (1, 1));
        assert_eq!(wake.take(Timestamp(10)), BTreeSet::from(["a".into(), "b".into()]));
        assert!(wake.take(Timestamp(99)).is_empty());
        assert_eq!(wake.next(), None);
    }

    #[test]
    fn one_pass_is_bounded_and_none_waits_for_ever() {
        let mut wake = Wake::default();
        let name = |number: usize| format!("{number:04}");
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            // The first ones are due again and again.
            (0..4 * PASS)
                .filter(|number| *number < PASS || !seen.contains(&name(*number)))
                .for_each(|number| wake.now(name(number)));
            let taken = wake.take(Timestamp(1));
            assert_eq!(taken.len(), PASS);
            seen.extend(taken);
        }
        assert_eq!(seen.len(), 4 * PASS);
    }
}
