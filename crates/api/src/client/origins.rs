//! Where requests go: one address, or one of several controls of a cluster, of which the last that answered is kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use tutti_model::Problem;

/// Most controls of one cluster that a client is told of.
const ORIGINS: usize = 16;

/// What addresses begin with: scheme, host and port, and a path before `/v1` where there is one; without a trailing
/// slash.
#[derive(Debug)]
pub(super) struct Origins {
    all: Vec<String>,
    good: AtomicUsize,
}

/// One of them, as it was taken.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) text: String,
    place: usize,
}

impl Origins {
    pub(super) fn one(origin: String) -> Origins {
        Origins { all: vec![origin], good: AtomicUsize::new(0) }
    }

    /// # Errors
    /// `invalid` if there are none, or too many.
    pub(super) fn several(all: Vec<String>) -> Result<Origins, Problem> {
        if all.is_empty() || all.len() > ORIGINS {
            return Err(Problem::invalid(format!("1 to {ORIGINS} addresses of controls are wanted")));
        }
        Ok(Origins { all, good: AtomicUsize::new(0) })
    }

    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    /// The one to ask.
    pub(super) fn current(&self) -> Origin {
        let place = self.good.load(Ordering::Relaxed);
        Origin { text: self.all.get(place).cloned().unwrap_or_default(), place }
    }

    /// Goes to the next one; unless somebody has left this one already, as all requests that were on it find it bad at
    /// once.
    pub(super) fn leave(&self, bad: &Origin) {
        let next = (bad.place + 1) % self.all.len().max(1);
        let _ = self.good.compare_exchange(bad.place, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_bad_at_once_is_left_once() {
        let origins = Origins::several(["a", "b", "c"].map(str::to_owned).to_vec()).unwrap();
        let (first, same) = (origins.current(), origins.current());
        origins.leave(&first);
        origins.leave(&same);
        assert_eq!(origins.current().text, "b");
        origins.leave(&origins.current());
        origins.leave(&origins.current());
        assert_eq!(origins.current().text, "a");
        let one = Origins::one("a".to_owned());
        one.leave(&one.current());
        assert_eq!(one.current().text, "a");
        assert!(Origins::several(Vec::new()).is_err() && Origins::several(vec!["a".into(); 17]).is_err());
    }
}
