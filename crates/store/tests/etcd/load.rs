//! Writers that count, and a watcher that follows them: what must hold whatever happens to the members meanwhile.

use futures_util::StreamExt as _;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tutti_store::{
    Change, Compare, EtcdStore, List, Revision, Store as _, StoreError, Txn, TxnOutcome, WatchEvent,
};

/// How long anything that must happen may take to happen.
pub(crate) const SOON: Duration = Duration::from_secs(60);
const WRITERS: u64 = 8;

/// Each writer raises its own counter, in two keys at once.
pub(crate) struct Load {
    store: EtcdStore,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<tokio::task::JoinHandle<Written>>,
    watcher: tokio::task::JoinHandle<Seen>,
}

/// What a writer was told.
struct Written {
    count: u64,
    revision: Revision,
    /// Times that it was not told whether a write took effect.
    unknown: u64,
}

/// What a watcher was told.
struct Seen {
    counts: BTreeMap<String, u64>,
    /// Times that its watch ended, and it resumed.
    resumed: u64,
}

/// What became of a load.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    pub(crate) resumed: u64,
}

impl Load {
    pub(crate) async fn start(store: &EtcdStore) -> Load {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let from = store.revision().await.unwrap();
        let watcher = tokio::spawn(follow(store.clone(), from));
        let writers = (0..WRITERS)
            .map(|writer| {
                tokio::spawn(write(store.clone(), writer, Arc::clone(&stop), Arc::clone(&acknowledged)))
            })
            .collect();
        Load { store: store.clone(), stop, acknowledged, writers, watcher }
    }

    /// Returns once so many more writes were acknowledged.
    pub(crate) async fn more(&self, writes: u64) {
        let wanted = self.acknowledged.load(Ordering::Acquire) + writes;
        let reached = async {
            while self.acknowledged.load(Ordering::Acquire) < wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let so_far = || self.acknowledged.load(Ordering::Acquire);
        tokio::time::timeout(SOON, reached)
            .await
            .unwrap_or_else(|_| panic!("{} of {wanted} writes were acknowledged", so_far()));
    }

    /// Ends it, and checks that nothing that was acknowledged is lost, and that the watcher saw each write once.
    pub(crate) async fn finish(self) -> Summary {
        self.stop.store(true, Ordering::Release);
        let mut summary =
            Summary { acknowledged: self.acknowledged.load(Ordering::Acquire), unknown: 0, resumed: 0 };
        assert!(summary.acknowledged > 0);
        let mut counts = BTreeMap::new();
        for (writer, task) in (0u64..).zip(self.writers) {
            let written = tokio::time::timeout(SOON, task).await.expect("a writer ends").unwrap();
            let a = self.store.get(&format!("w/{writer}/a")).await.unwrap().unwrap();
            let b = self.store.get(&format!("w/{writer}/b")).await.unwrap().unwrap();
            assert_eq!((&a.value, a.modified), (&b.value, b.modified), "half a transaction");
            assert_eq!((number(&a.value), a.modified), (written.count, written.revision), "writer {writer}");
            counts.insert(format!("w/{writer}/"), written.count);
            summary.unknown += written.unknown;
        }
        let end = Txn::new().put("w/end", *b"1");
        let end = matches!(self.store.txn(end).await, Ok(TxnOutcome::Committed(_)));
        assert!(end, "the end could not be written");
        let seen = tokio::time::timeout(SOON, self.watcher).await.expect("the watcher sees the end").unwrap();
        assert_eq!(seen.counts, counts, "what the watcher saw");
        summary.resumed = seen.resumed;
        let kept = self.store.list(List::prefix("w/")).await.unwrap().entries.len();
        assert_eq!(kept, counts.len() * 2 + 1);
        self.store.txn(Txn::new().delete("w/end")).await.unwrap();
        summary
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

async fn write(
    store: EtcdStore,
    writer: u64,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Written {
    let (a, b) = (format!("w/{writer}/a"), format!("w/{writer}/b"));
    let at_first = store.get(&a).await.unwrap();
    let mut written = Written {
        count: at_first.as_ref().map_or(0, |entry| number(&entry.value)),
        revision: at_first.map_or(0, |entry| entry.modified),
        unknown: 0,
    };
    while !stop.load(Ordering::Acquire) {
        let compare = match written.count {
            0 => Compare::Absent(a.clone()),
            _ => Compare::Modified(a.clone(), written.revision),
        };
        let value = (written.count + 1).to_string().into_bytes();
        let txn = Txn::new().when(compare).put(a.clone(), value.clone()).put(b.clone(), value);
        match store.txn(txn).await {
            Ok(TxnOutcome::Committed(revision)) => {
                written = Written { count: written.count + 1, revision, ..written };
                acknowledged.fetch_add(1, Ordering::AcqRel);
            }
            // It has its counter to itself, and knows where that is.
            Ok(TxnOutcome::Refused { .. }) => panic!("writer {writer} was refused at {}", written.count),
            Err(StoreError::Unavailable(_)) => {
                written.unknown += 1;
                settle(&store, &a, &mut written).await;
            }
            Err(other) => panic!("writer {writer}: {other}"),
        }
    }
    written
}

/// Finds out what became of a write. One that is still on its way would be seen by none who reads now, so a write is
/// made in its place that only one of the two can win.
async fn settle(store: &EtcdStore, key: &str, written: &mut Written) {
    let end = tokio::time::Instant::now() + SOON;
    loop {
        match store.get(key).await {
            Ok(entry) => {
                let (count, revision) = entry.map_or((0, 0), |entry| (number(&entry.value), entry.modified));
                assert!(
                    (written.count..=written.count + 1).contains(&count),
                    "{key}: {count} after {} was acknowledged",
                    written.count
                );
                (written.count, written.revision) = (count, revision);
                return;
            }
            Err(error) => assert!(tokio::time::Instant::now() < end, "{key} cannot be read: {error}"),
        }
    }
}

/// Follows the counters from a revision to the end, resuming whenever the watch ends.
async fn follow(store: EtcdStore, from: Revision) -> Seen {
    let mut seen = Seen { counts: BTreeMap::new(), resumed: 0 };
    let mut at = from;
    loop {
        let mut watch = match store.watch("w/", Some(at)).await {
            Ok(watch) => watch,
            Err(StoreError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(other) => panic!("the watch could not resume after {at}: {other}"),
        };
        loop {
            match watch.next().await {
                Some(Ok(WatchEvent::Changes { revision, changes })) => {
                    assert!(revision > at, "revision {revision} after {at}");
                    at = revision;
                    if take(&mut seen, &changes) {
                        return seen;
                    }
                }
                Some(Err(StoreError::Unavailable(_) | StoreError::Lagged)) => break,
                other => panic!("{other:?} to a watch after {at}"),
            }
        }
        assert!(watch.next().await.is_none(), "a watch goes on after its error");
        seen.resumed += 1;
    }
}

/// Whether this is the end.
fn take(seen: &mut Seen, changes: &[Change]) -> bool {
    let [Change::Put(a), rest @ ..] = changes else { panic!("{changes:?}") };
    if a.key == "w/end" {
        return true;
    }
    let [Change::Put(b)] = rest else { panic!("half a transaction: {changes:?}") };
    let writer = a.key.trim_end_matches('a').to_owned();
    assert_eq!((&a.value, b.key.as_str()), (&b.value, format!("{writer}b").as_str()), "half a transaction");
    let count = number(&a.value);
    let before = seen.counts.insert(writer, count);
    assert!(before.is_none_or(|before| before + 1 == count), "{}: {count} after {before:?}", a.key);
    false
}
