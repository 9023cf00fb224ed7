//! What is SQLite's own: files, restarts, and the size of history. The contract is tested by the suite.

use super::*;
use crate::{TxnOutcome, WatchEvent};
use futures_util::{StreamExt as _, future};
use std::{io::Write as _, time::Duration};
use tutti_base::clock::VirtualClock;
use tutti_model::Timestamp;

struct Place {
    folder: tempfile::TempDir,
    clock: VirtualClock,
}

impl Place {
    fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap(), clock: VirtualClock::at(Timestamp(1000)) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn open_retaining(&self, retain_revisions: u64) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(
            &self.path(),
            SqliteOptions { clock: Arc::new(self.clock.clone()), retain_revisions },
        )
    }

    fn open(&self) -> Result<SqliteStore, StoreError> {
        self.open_retaining(1000)
    }
}

/// What must come soon, or the test fails.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it did not come")
}

fn rows(store: &SqliteStore) -> i64 {
    let connection = rusqlite::Connection::open(store.path()).unwrap();
    connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_and_connections_stay_small() {
    let place = Place::new();
    let connection = open::writer(&place.path()).unwrap();
    let value = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(value("synchronous"), 2);
    assert_eq!(value("cache_size"), -2048);
}

#[tokio::test]
async fn leases_outlive_a_restart_with_their_whole_time_and_their_names() {
    let place = Place::new();
    let store = place.open().unwrap();
    let lease = store.grant(Millis(100)).await.unwrap();
    let revoked = store.grant(Millis(100)).await.unwrap();
    store.txn(Txn::new().put_leased("a", *b"1", lease)).await.unwrap();
    store.revoke(revoked).await.unwrap();
    place.clock.advance(Millis(99));
    drop(store);

    let store = place.open().unwrap();
    assert_eq!(store.keep_alive(revoked).await, Err(StoreError::LeaseGone(revoked)));
    place.clock.advance(Millis(99));
    store.keep_alive(lease).await.unwrap();
    let other = store.grant(Millis(1000)).await.unwrap();
    assert!(other > revoked);
    let mut watch = store.watch("", Some(1)).await.unwrap();
    place.clock.advance(Millis(100));
    let event = soon(watch.next()).await;
    assert!(matches!(event, Some(Ok(WatchEvent::Changes { revision: 2, .. }))), "{event:?}");
    drop((store, watch));
    let store = place.open().unwrap();
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::LeaseGone(lease)));
}

#[tokio::test]
async fn history_and_file_stay_bounded_and_what_is_retained_is_whole() {
    const KEYS: u64 = 10;
    const RETAIN: u64 = 100;
    let place = Place::new();
    let store = place.open_retaining(RETAIN).unwrap();
    let mut sizes = Vec::new();
    for part in 0..6 {
        for _ in 0..10 {
            let writes = (0..50).map(|index| {
                let txn = Txn::new().put(format!("k/{}", index % KEYS), vec![b'x'; 1000]);
                store.txn(txn.put(format!("gone/{part}"), *b"1"))
            });
            future::try_join_all(writes).await.unwrap();
            store.txn(Txn::new().delete(format!("gone/{part}"))).await.unwrap();
        }
        sizes.push(std::fs::metadata(store.path()).unwrap().len());
    }
    // Two rows a revision, and one for each key from before.
    let most = i64::try_from(2 * (RETAIN + sweep::SLACK_REVISIONS) + KEYS + 2).unwrap();
    let swept = async {
        while rows(&store) > most {
            // The writer sweeps when it has nothing else to do; this only lets it come to that.
            store.txn(Txn::new()).await.unwrap();
        }
    };
    soon(swept).await;
    let current = store.revision().await.unwrap();
    assert_eq!(current, 3060);
    for at in current - RETAIN..=current {
        let listing = store.list(List { at: Some(at), ..List::prefix("k/") }).await.unwrap();
        assert_eq!(listing.entries.len(), 10, "at {at}");
    }
    let oldest = store.0.bounds().await.unwrap().oldest;
    assert!(oldest + RETAIN + sweep::SLACK_REVISIONS >= current, "{oldest}");
    let watch = store.watch("", Some(oldest)).await.unwrap();
    let count = usize::try_from(current - oldest).unwrap();
    let events: Vec<_> = soon(watch.take(count).collect()).await;
    for (event, wanted) in events.iter().zip(oldest + 1..) {
        assert!(
            matches!(event, Ok(WatchEvent::Changes { revision, .. }) if *revision == wanted),
            "{event:?}"
        );
    }
    store.compact(current).await.unwrap();
    // One row for each key is left.
    let swept = async {
        while rows(&store) > 10 {
            store.txn(Txn::new()).await.unwrap();
        }
    };
    soon(swept).await;
    let (second, last) = (sizes[1], sizes[5]);
    assert!(last <= second * 2, "the file grows: {sizes:?}");
}

#[tokio::test]
async fn more_than_the_queue_holds_waits_its_turn() {
    let place = Place::new();
    let store = place.open().unwrap();
    let count = QUEUE_REQUESTS + 500;
    let writes = (0..count).map(|index| store.txn(Txn::new().put(format!("k/{index}"), *b"1")));
    let outcomes = future::try_join_all(writes).await.unwrap();
    let mut revisions: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            TxnOutcome::Committed(revision) => revision,
            TxnOutcome::Refused { .. } => panic!(),
        })
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=u64::try_from(count).unwrap()).collect::<Vec<_>>());
    let keys: Vec<String> = (0..100).map(|index| format!("k/{index}")).collect();
    assert!(
        future::try_join_all(keys.iter().map(|key| store.get(key)))
            .await
            .unwrap()
            .iter()
            .all(Option::is_some)
    );
    assert!(store.0.readers.idle() <= 4);
}

#[tokio::test]
async fn readers_that_nobody_polls_keep_no_place_from_others() {
    let place = Place::new();
    let store = place.open().unwrap();
    let mut finish = Vec::new();
    for _ in 0..read::READERS {
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let reading = store.0.readers.read(move |_| {
            let _ = begun.send(());
            let _ = ends.recv();
            Ok(())
        });
        let mut reading = Box::pin(reading);
        assert!(futures_util::poll!(&mut reading).is_pending());
        soon(has_begun).await.unwrap();
        finish.push((end, reading));
    }
    let mut waiting: Vec<_> = (0..2 * read::READERS).map(|_| store.get("k")).collect();
    for read in &mut waiting {
        assert!(futures_util::poll!(read).is_pending());
    }
    drop(finish);
    // None of those in line before it is polled again.
    soon(store.get("k")).await.unwrap();
}

#[tokio::test]
async fn a_slow_watcher_lags_and_a_closed_store_says_so() {
    let place = Place::new();
    let store = place.open().unwrap();
    let mut slow = store.watch("a", Some(0)).await.unwrap();
    store.txn(Txn::new().put("a", *b"1")).await.unwrap();
    soon(slow.next()).await.unwrap().unwrap();
    let mut other = store.watch("b", Some(1)).await.unwrap();
    for watch in [&mut slow, &mut other] {
        assert!(tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_err());
    }
    let writes = (0..crate::watchers::WATCH_EVENTS + 1).map(|_| store.txn(Txn::new().put("a", *b"2")));
    future::try_join_all(writes).await.unwrap();
    let told: Vec<_> = soon(slow.collect()).await;
    assert_eq!(told.len(), crate::watchers::WATCH_EVENTS + 1);
    assert_eq!(told.last().unwrap(), &Err(StoreError::Lagged));
    drop(store);
    assert!(matches!(soon(other.next()).await, Some(Err(StoreError::Unavailable(_)))));
    place.open().unwrap();
}

#[tokio::test]
async fn one_file_has_one_store() {
    let place = Place::new();
    let store = place.open().unwrap();
    let error = place.open().unwrap_err();
    assert!(error.to_string().contains("is open in another process"), "{error}");
    drop(store);
    place.open().unwrap();
    let missing = SqliteStore::open(&place.folder.path().join("none/store.db"), SqliteOptions::default());
    assert!(matches!(missing, Err(StoreError::Unavailable(_))), "{missing:?}");
}

#[tokio::test]
async fn what_is_not_a_sound_store_is_named() {
    let place = Place::new();
    let corrupt = |what: &str| {
        let error = place.open().unwrap_err();
        assert!(
            matches!(&error, StoreError::Corrupt(text) if text.contains("store.db")),
            "{what}: {error:?}"
        );
    };
    std::fs::write(place.path(), "not a database, but long enough to be mistaken for one".repeat(100))
        .unwrap();
    corrupt("garbage");

    std::fs::remove_file(place.path()).unwrap();
    let other = rusqlite::Connection::open(place.path()).unwrap();
    other.execute_batch("CREATE TABLE something (a)").unwrap();
    drop(other);
    corrupt("another program's");

    std::fs::remove_file(place.path()).unwrap();
    let store = place.open().unwrap();
    for index in 0..200 {
        store.txn(Txn::new().put(format!("k/{index}"), vec![b'x'; 500])).await.unwrap();
    }
    drop(store);
    let sound = std::fs::read(place.path()).unwrap();
    let mut damaged = sound.clone();
    damaged[8 * 4096..12 * 4096].fill(0xa5);
    std::fs::write(place.path(), &damaged).unwrap();
    corrupt("damaged pages");
    std::fs::write(place.path(), &sound[..sound.len() / 2]).unwrap();
    corrupt("half a file");

    let mut file = std::fs::File::create(place.path()).unwrap();
    file.write_all(&sound).unwrap();
    drop(file);
    rusqlite::Connection::open(place.path()).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = place.open().unwrap_err();
    assert!(error.to_string().contains("form 2"), "{error}");
}
