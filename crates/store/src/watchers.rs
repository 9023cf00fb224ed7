//! Fan-out of commits to running watches.
//!
//! Whoever commits calls [`Watchers::publish`], in revision order, from one place. Each watch has a bounded buffer;
//! one whose buffer is full is cut off, reads what is in it and then [`StoreError::Lagged`]: never a gap. Watches are
//! found by the prefixes of a changed key, so one that nothing happens to costs nothing, and all watches of one prefix
//! share one copy of the changes. History before a watch joined is not known here; see [`crate::watch`].

use crate::{Change, Revision, StoreError};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::sync::mpsc;

/// Transactions that may wait for one watcher: about a second of the fastest writing measured with one fsync a
/// commit, so that a reader that is merely busy is not cut off.
pub(crate) const WATCH_EVENTS: usize = 1024;
/// Bytes of keys and values that may wait for one watcher. Sixteen of the largest transactions fit.
pub(crate) const WATCH_BYTES: usize = 16 * 1024 * 1024;
/// Running watches of one store: each API client and each reconciler has a handful.
pub(crate) const WATCHES: usize = 65_536;

/// One transaction that changed something.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) revision: Revision,
    /// In key order.
    pub(crate) changes: Arc<[Change]>,
}

/// What one watch is told of a commit.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) revision: Revision,
    pub(crate) changes: Arc<[Change]>,
    bytes: usize,
}

/// Every running watch of a store.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    count: usize,
    by_prefix: HashMap<Box<[u8]>, Vec<Watcher>>,
    /// The lengths of the prefixes, each with how many prefixes have it.
    lengths: BTreeMap<usize, usize>,
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    sender: mpsc::Sender<Event>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes in the buffer.
    held: AtomicUsize,
    lagged: AtomicBool,
}

/// A watch's end of its buffer; dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Live {
    id: u64,
    prefix: Box<[u8]>,
    receiver: mpsc::Receiver<Event>,
    shared: Arc<Shared>,
    watchers: Weak<Watchers>,
}

impl Watchers {
    /// From here on, every published commit that touches `prefix` gets into the buffer of the returned watch.
    pub(crate) fn register(self: &Arc<Self>, prefix: &str) -> Result<Live, StoreError> {
        let (sender, receiver) = mpsc::channel(WATCH_EVENTS);
        let shared = Arc::new(Shared::default());
        let prefix: Box<[u8]> = prefix.as_bytes().into();
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if registry.count >= WATCHES {
            return Err(StoreError::Unavailable(format!(
                "there are {WATCHES} watches, and no more are allowed"
            )));
        }
        let id = registry.next;
        registry.next += 1;
        registry.add(&prefix, Watcher { id, sender, shared: Arc::clone(&shared) });
        Ok(Live { id, prefix, receiver, shared, watchers: Arc::downgrade(self) })
    }

    /// Tells the watches of commits, which must come in revision order and never twice.
    pub(crate) fn publish(&self, commits: &[Commit]) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if registry.count == 0 {
            return;
        }
        for commit in commits {
            for (prefix, changes) in registry.touched(commit) {
                registry.tell(&prefix, commit.revision, &changes.into());
            }
        }
    }

    /// Whether no watch runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).count == 0
    }

    /// Ends every watch as one that lags, after what it was told so far: what follows can no longer be told.
    pub(crate) fn cut_off(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = std::mem::take(&mut registry.by_prefix);
        registry.lengths.clear();
        registry.count = 0;
        for watcher in cut.into_values().flatten() {
            watcher.shared.lagged.store(true, Ordering::Release);
        }
    }

    /// How many watches run.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).count
    }
}

impl Registry {
    fn add(&mut self, prefix: &[u8], watcher: Watcher) {
        self.count += 1;
        if let Some(watchers) = self.by_prefix.get_mut(prefix) {
            watchers.push(watcher);
            return;
        }
        self.by_prefix.insert(prefix.into(), vec![watcher]);
        *self.lengths.entry(prefix.len()).or_default() += 1;
    }

    /// Takes a prefix off once nobody watches it.
    fn tidy(&mut self, prefix: &[u8]) {
        if self.by_prefix.get(prefix).is_some_and(Vec::is_empty) {
            self.by_prefix.remove(prefix);
            if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }

    fn touched(&self, commit: &Commit) -> BTreeMap<Box<[u8]>, Vec<Change>> {
        let mut touched: BTreeMap<Box<[u8]>, Vec<Change>> = BTreeMap::new();
        for change in &*commit.changes {
            let key = change_key(change).as_bytes();
            for length in self.lengths.range(..=key.len()).map(|(length, _)| *length) {
                let Some(prefix) = key.get(..length).filter(|prefix| self.by_prefix.contains_key(*prefix))
                else {
                    continue;
                };
                match touched.get_mut(prefix) {
                    Some(changes) => changes.push(change.clone()),
                    None => {
                        touched.insert(prefix.into(), vec![change.clone()]);
                    }
                }
            }
        }
        touched
    }

    fn tell(&mut self, prefix: &[u8], revision: Revision, changes: &Arc<[Change]>) {
        let bytes = changes.iter().map(change_bytes).sum();
        if let Some(watchers) = self.by_prefix.get_mut(prefix) {
            let before = watchers.len();
            watchers.retain(|watcher| watcher.tell(Event { revision, changes: Arc::clone(changes), bytes }));
            self.count -= before - watchers.len();
        }
        self.tidy(prefix);
    }
}

impl Watcher {
    /// Whether the watch goes on.
    fn tell(&self, event: Event) -> bool {
        let bytes = event.bytes;
        let held = self.shared.held.fetch_add(bytes, Ordering::AcqRel);
        if held > 0 && held + bytes > WATCH_BYTES {
            self.shared.lagged.store(true, Ordering::Release);
            return false;
        }
        match self.sender.try_send(event) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.shared.lagged.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl Live {
    /// The next commit that touched the prefix.
    pub(crate) async fn next(&mut self) -> Result<Event, StoreError> {
        match self.receiver.recv().await {
            Some(event) => {
                self.shared.held.fetch_sub(event.bytes, Ordering::AcqRel);
                Ok(event)
            }
            None if self.shared.lagged.load(Ordering::Acquire) => Err(StoreError::Lagged),
            None => Err(StoreError::Unavailable("it was closed".into())),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some(watchers) = self.watchers.upgrade() else { return };
        let mut registry = watchers.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = registry.by_prefix.get_mut(&self.prefix) {
            let before = same.len();
            same.retain(|watcher| watcher.id != self.id);
            let gone = before - same.len();
            registry.count -= gone;
        }
        registry.tidy(&self.prefix);
    }
}

/// The key that a change is of.
pub(crate) fn change_key(change: &Change) -> &str {
    match change {
        Change::Put(entry) => &entry.key,
        Change::Delete { key } => key,
    }
}

pub(crate) fn change_bytes(change: &Change) -> usize {
    match change {
        Change::Put(entry) => entry.key.len() + entry.value.len(),
        Change::Delete { key } => key.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;

    fn put(revision: Revision, key: &str, bytes: usize) -> Commit {
        let value = vec![0u8; bytes].into();
        let entry = Entry { key: key.into(), value, created: revision, modified: revision, lease: None };
        Commit { revision, changes: Arc::new([Change::Put(entry)]) }
    }

    #[tokio::test]
    async fn tells_those_whose_prefix_it_is_and_forgets_those_who_left() {
        let watchers = Arc::new(Watchers::default());
        let mut all = watchers.register("").unwrap();
        let mut some = watchers.register("a/").unwrap();
        let other = watchers.register("b/").unwrap();
        watchers.publish(&[put(1, "a/1", 1), put(2, "c", 1), put(3, "a/2", 1)]);
        for revision in 1..=3 {
            assert_eq!(all.next().await.unwrap().revision, revision);
        }
        assert_eq!(some.next().await.unwrap().revision, 1);
        assert_eq!(some.next().await.unwrap().revision, 3);
        drop((all, some, other));
        assert_eq!(watchers.count(), 0);
        let registry = watchers.registry.lock().unwrap();
        assert!(registry.by_prefix.is_empty() && registry.lengths.is_empty());
    }

    #[tokio::test]
    async fn one_event_too_many_cuts_the_watch_off_after_what_it_has() {
        let watchers = Arc::new(Watchers::default());
        let mut live = watchers.register("a").unwrap();
        let most = u64::try_from(WATCH_EVENTS).unwrap();
        for revision in 1..=most + 2 {
            watchers.publish(&[put(revision, "a", 1)]);
        }
        for revision in 1..=most {
            assert_eq!(live.next().await.unwrap().revision, revision);
        }
        assert_eq!(live.next().await.unwrap_err(), StoreError::Lagged);
        assert_eq!(watchers.count(), 0);
    }

    #[tokio::test]
    async fn all_can_be_cut_off_after_what_they_have() {
        let watchers = Arc::new(Watchers::default());
        let mut live = watchers.register("a").unwrap();
        watchers.publish(&[put(1, "a", 1)]);
        watchers.cut_off();
        assert!(watchers.is_idle());
        watchers.publish(&[put(2, "a", 1)]);
        assert_eq!(live.next().await.unwrap().revision, 1);
        assert_eq!(live.next().await.unwrap_err(), StoreError::Lagged);
        let mut again = watchers.register("a").unwrap();
        drop(live);
        watchers.publish(&[put(3, "a", 1)]);
        assert_eq!(again.next().await.unwrap().revision, 3);
    }

    #[tokio::test]
    async fn one_byte_too_many_cuts_the_watch_off_but_a_single_large_one_fits() {
        let watchers = Arc::new(Watchers::default());
        let mut live = watchers.register("a").unwrap();
        watchers.publish(&[put(1, "a", WATCH_BYTES + 1)]);
        assert_eq!(live.next().await.unwrap().revision, 1);
        watchers.publish(&[put(2, "a", WATCH_BYTES - 2), put(3, "a", 1)]);
        assert_eq!(live.next().await.unwrap().revision, 2);
        assert_eq!(live.next().await.unwrap_err(), StoreError::Lagged);
    }
}
