//! Reads everything in a store as of one revision while writes go on, and fills an empty store with what was read.
//!
//! What goes with a lease is left out, as by [`crate::migrate`], with which this shares the mark of a target that is not
//! whole yet and the raising of its revision. How what was read is kept meanwhile is the caller's.

use crate::{
    Revision, Store,
    migrate::{Filling, Mark, Migrated, Pages, Tally, raise, survey, take, unmark},
};
use std::sync::Arc;
use tutti_model::Problem;

/// One key and its value.
pub type Pair = (String, Arc<[u8]>);

/// A store as of a moment, read page by page.
#[derive(Debug)]
pub struct Reading<'a> {
    revision: Revision,
    pages: Pages<'a>,
    tally: Tally,
}

impl<'a> Reading<'a> {
    /// Begins to read what is there now.
    ///
    /// # Errors
    /// The store's own.
    pub async fn begin(store: &'a dyn Store) -> Result<Self, Problem> {
        let revision = store.revision().await?;
        Ok(Reading { revision, pages: Pages::of(store, revision), tally: Tally::default() })
    }

    /// The revision that is read.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The next keys; `None` at the end.
    ///
    /// # Errors
    /// `conflict` if so much was written meanwhile that the store has forgotten this revision; the store's own.
    pub async fn next(&mut self) -> Result<Option<Vec<Pair>>, Problem> {
        let Some(page) = self.pages.next().await? else { return Ok(None) };
        let lasting = page.into_iter().filter(|entry| entry.lease.is_none());
        let pairs: Vec<Pair> = lasting.map(|entry| (entry.key, entry.value)).collect();
        pairs.iter().for_each(|(key, value)| self.tally.add(key, value));
        Ok(Some(pairs))
    }

    /// What was read.
    #[must_use]
    pub fn finish(self) -> Migrated {
        self.tally.finish(self.revision)
    }
}

/// An empty store that is being filled. Until [`Restoring::finish`] it is no store that anything starts over.
#[derive(Debug)]
pub struct Restoring<'a> {
    store: &'a dyn Store,
    mark: Mark,
}

impl<'a> Restoring<'a> {
    /// Takes an empty store, or one that a restore of the same `backup` had begun to fill, and empties that. Its
    /// revision goes above the backup's, so that who knew the one is told to read the other anew.
    ///
    /// # Errors
    /// `already_exists` if anything else is in it; `conflict` if another work is; the store's own.
    pub async fn begin(store: &'a dyn Store, backup: &str, revision: Revision) -> Result<Self, Problem> {
        let mark = take(store, &format!("restore of {backup}")).await?;
        raise(store, &mark, revision).await?;
        Ok(Restoring { store, mark })
    }

    /// Takes these keys in.
    ///
    /// # Errors
    /// `conflict` if another restore took the store over; the store's own.
    pub async fn put(&self, pairs: Vec<Pair>) -> Result<(), Problem> {
        let mut filling = Filling::new(self.store, &self.mark);
        for (key, value) in pairs {
            filling.put(key, value).await?;
        }
        filling.finish().await
    }

    /// Reads everything back, and declares the store whole if that is what was `expected`. Gives its revision.
    ///
    /// # Errors
    /// `internal` if it is something else; the store's own.
    pub async fn finish(self, expected: &Migrated) -> Result<Revision, Problem> {
        let found = survey(self.store, self.store.revision().await?).await?;
        if (found.keys, found.bytes, &found.digest) != (expected.keys, expected.bytes, &expected.digest) {
            return Err(Problem::internal(format!(
                "the store is not what the backup holds: {} keys with digest {} instead of {} with {}",
                found.keys, found.digest, expected.keys, expected.digest
            ))
            .hint("restore again, into this store or an empty one"));
        }
        unmark(self.store, &self.mark).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{List, MemoryStore, Txn, migrate::is_unfinished};
    use tutti_base::clock::VirtualClock;
    use tutti_model::{ErrorCode, Millis};

    fn memory() -> MemoryStore {
        MemoryStore::new(Arc::new(VirtualClock::default()))
    }

    async fn contents(store: &dyn Store) -> Vec<Pair> {
        let entries = store.list(List::default()).await.unwrap().entries;
        entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    #[tokio::test]
    async fn what_is_restored_is_one_moment_and_no_lease() {
        let (from, to) = (memory(), memory());
        for index in 0..200 {
            from.txn(Txn::new().put(format!("k/{index:03}"), *b"old")).await.unwrap();
        }
        let before = contents(&from).await;
        let lease = from.grant(Millis::seconds(9)).await.unwrap();
        from.txn(Txn::new().put_leased("a/alive", *b"", lease)).await.unwrap();
        let mut reading = Reading::begin(&from).await.unwrap();
        let restoring = Restoring::begin(&to, "b1", reading.revision()).await.unwrap();
        let mut index = 0;
        while let Some(pairs) = reading.next().await.unwrap() {
            restoring.put(pairs).await.unwrap();
            // Ahead of and behind what was read.
            for key in [format!("k/{index:03}"), format!("k/{:03}", 199 - index), format!("n/{index}")] {
                from.txn(Txn::new().put(key, *b"new")).await.unwrap();
            }
            index += 1;
        }
        let read = reading.finish();
        assert!(is_unfinished(&to).await.unwrap());
        let revision = restoring.finish(&read).await.unwrap();
        assert_eq!(contents(&to).await, before);
        assert_eq!(read.keys, 200);
        assert!(revision > read.revision && !is_unfinished(&to).await.unwrap());
        let problem = Restoring::begin(&to, "b1", 1).await.err().unwrap();
        assert_eq!(problem.code, ErrorCode::AlreadyExists);
    }

    #[tokio::test]
    async fn one_that_was_cut_off_goes_on_over_its_own_data_alone() {
        let to = memory();
        let first = Restoring::begin(&to, "b1", 5).await.unwrap();
        first.put(vec![("half".into(), Arc::from(*b"x"))]).await.unwrap();
        assert_eq!(Restoring::begin(&to, "b2", 5).await.err().unwrap().code, ErrorCode::Conflict);
        let again = Restoring::begin(&to, "b1", 5).await.unwrap();
        assert_eq!(
            first.put(vec![("late".into(), Arc::from(*b"x"))]).await.unwrap_err().code,
            ErrorCode::Conflict
        );
        let mut tally = Tally::default();
        tally.add("whole", b"y");
        again.put(vec![("whole".into(), Arc::from(*b"z"))]).await.unwrap();
        assert_eq!(again.finish(&tally.finish(5)).await.unwrap_err().code, ErrorCode::Internal);
        assert!(is_unfinished(&to).await.unwrap());
    }
}
