//! The moment between replay and live, which no test of a real engine can hold still.

use super::*;
use crate::Entry;
use futures_util::{FutureExt as _, StreamExt as _};
use std::sync::Mutex;

/// An engine in which commits happen at chosen moments of a watch.
#[derive(Default)]
struct Script {
    log: Mutex<Vec<Commit>>,
    watchers: Arc<Watchers>,
    /// For each call of `bounds` in turn: commits just before its answer, and just after it.
    around_bounds: Mutex<VecDeque<(u64, u64)>>,
}

impl Script {
    fn commit(&self) {
        let mut log = self.log.lock().unwrap();
        let revision = u64::try_from(log.len()).unwrap() + 1;
        let entry =
            Entry { key: "k".into(), value: Arc::new([]), created: 1, modified: revision, lease: None };
        let commit = Commit { revision, changes: Arc::new([Change::Put(entry)]) };
        log.push(commit.clone());
        drop(log);
        self.watchers.publish(&[commit]);
    }

    fn current(&self) -> Revision {
        u64::try_from(self.log.lock().unwrap().len()).unwrap()
    }
}

#[async_trait]
impl History for Script {
    async fn bounds(&self) -> Result<Bounds, StoreError> {
        let (before, after) = self.around_bounds.lock().unwrap().pop_front().unwrap_or_default();
        (0..before).for_each(|_| self.commit());
        let bounds = Bounds { oldest: 0, current: self.current() };
        (0..after).for_each(|_| self.commit());
        Ok(bounds)
    }

    async fn items(&self, list: List) -> Result<Listing, StoreError> {
        Ok(Listing { entries: Vec::new(), revision: list.at.unwrap_or_default(), more: false })
    }

    async fn changes(&self, _: &str, after: Revision, upto: Revision) -> Result<Page, StoreError> {
        let log = self.log.lock().unwrap();
        let commits: Vec<Commit> = log
            .iter()
            .filter(|commit| (after + 1..=upto).contains(&commit.revision))
            .take(2)
            .cloned()
            .collect();
        let through = commits.last().map_or(upto, |commit| commit.revision);
        Ok(Page { commits, through })
    }

    fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }
}

fn revisions(watch: &mut Watch) -> Vec<Revision> {
    let mut told = Vec::new();
    // Unconstrained, as tokio otherwise has a task that does much pause, which looks like having nothing.
    while let Some(Some(event)) = tokio::task::unconstrained(watch.next()).now_or_never() {
        match event.unwrap() {
            WatchEvent::Changes { revision, .. } => told.push(revision),
            WatchEvent::InitDone { revision } => assert!(told.is_empty() && revision > 0),
            WatchEvent::Init | WatchEvent::InitItem(_) => {}
        }
    }
    told
}

#[tokio::test]
async fn whatever_is_committed_while_a_watch_joins_is_told_once() {
    // Around the answer when it is asked for, and around the one when it joins.
    for first in [(0, 0), (0, 3), (3, 0), (3, 3)] {
        for second in [(0, 0), (0, 3), (3, 0), (3, 3)] {
            for after in [None, Some(0), Some(2)] {
                let script = Arc::new(Script::default());
                (0..5).for_each(|_| script.commit());
                *script.around_bounds.lock().unwrap() = [first, second].into();
                let mut watch = open(Arc::clone(&script) as Arc<dyn History>, "", after).await.unwrap();
                let begins = after.unwrap_or(5 + first.0) + 1;
                let mut told = revisions(&mut watch);
                (0..3).for_each(|_| script.commit());
                told.extend(revisions(&mut watch));
                let wanted: Vec<_> = (begins..=script.current()).collect();
                assert_eq!(told, wanted, "{first:?} {second:?} {after:?}");
            }
        }
    }
}
