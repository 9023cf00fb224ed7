//! Forgetting old history. etcd keeps all of it unless somebody compacts it, and that is whoever runs this.
//!
//! History belongs to the whole cluster, with the keys of others who use it too. So it is kept by number and by time,
//! whichever keeps more: [`KEPT`] is what etcd's own automatic compaction is commonly set to. Every control does this
//! by itself; that another was faster is no fault.

use super::Shared;
use crate::StoreError;
use std::{collections::VecDeque, sync::Weak};
use tutti_base::Clock;
use tutti_model::{Millis, Timestamp};

/// How often the revision is noted, and what is older than retained is forgotten.
const EVERY: Millis = Millis::seconds(60);
/// How long a revision can be listed and watched from, at the least.
const KEPT: Millis = Millis::seconds(5 * 60);
/// How far history may grow past what is retained before it is compacted, which goes through etcd's log.
const SLACK: i64 = 256;

/// The revisions that there were lately.
#[derive(Debug, Default)]
struct Notes {
    /// When, and etcd's revision then; oldest first, and at most one older than [`KEPT`].
    notes: VecDeque<(Timestamp, i64)>,
    /// How far was compacted.
    compacted: i64,
}

impl Notes {
    /// etcd's revision to compact to, if it is time to.
    fn note(&mut self, now: Timestamp, current: i64, retain: u64) -> Option<i64> {
        self.notes.push_back((now, current));
        let old = |at: &Timestamp| at.plus(KEPT) <= now;
        while self.notes.get(1).is_some_and(|(at, _)| old(at)) {
            self.notes.pop_front();
        }
        let by_time = self.notes.front().filter(|(at, _)| old(at)).map(|(_, revision)| *revision)?;
        let by_number = current.saturating_sub(i64::try_from(retain).unwrap_or(i64::MAX));
        let target = by_time.min(by_number);
        if target < self.compacted.saturating_add(SLACK) {
            return None;
        }
        self.compacted = target;
        Some(target)
    }
}

/// Compacts from time to time, until the store is gone.
pub(super) async fn run(store: Weak<Shared>, clock: std::sync::Arc<dyn Clock>, retain: u64) {
    let mut notes = Notes::default();
    loop {
        let Some(shared) = store.upgrade() else { return };
        let closing = shared.closing.clone();
        if let Err(error) = sweep(&shared, &mut notes, clock.now(), retain).await {
            tracing::warn!(%error, "etcd's old history is not forgotten yet");
        }
        drop(shared);
        tokio::select! {
            () = closing.cancelled() => return,
            () = clock.sleep(EVERY) => {}
        }
    }
}

async fn sweep(shared: &Shared, notes: &mut Notes, now: Timestamp, retain: u64) -> Result<(), StoreError> {
    let current = shared.revision().await?;
    let Some(target) = notes.note(now, current, retain) else { return Ok(()) };
    shared.compact(target).await.map_err(StoreError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_kept_by_number_and_by_time() {
        let at = |seconds: u64| Timestamp(1).plus(Millis::seconds(seconds));
        let mut notes = Notes::default();
        assert_eq!(notes.note(at(0), 1_000, 100), None);
        assert_eq!(notes.note(at(60), 50_000, 100), None, "too young");
        assert_eq!(notes.note(at(299), 60_000, 100), None, "too young");
        assert_eq!(notes.note(at(300), 60_000, 100), Some(1_000), "what was five minutes ago");
        assert_eq!(notes.note(at(359), 60_000, 100), None, "nothing new is old");
        assert_eq!(notes.note(at(360), 60_000, 100), Some(50_000));
        assert_eq!(notes.note(at(600), 60_000, 100), Some(59_900), "no more than may be forgotten");
        assert_eq!(notes.note(at(900), 60_100, 100), None, "too little to be worth it");
        assert_eq!(notes.notes.len(), 2);
        assert_eq!(notes.note(at(1500), 70_000, u64::MAX), None, "everything is retained");
        for more in 1..1000 {
            notes.note(at(1500 + more * 60), 70_000, 100);
            assert!(notes.notes.len() <= 6, "{}", notes.notes.len());
        }
    }
}
