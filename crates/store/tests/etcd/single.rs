//! One member: the suite, and what etcd has of its own.

use crate::cluster::Cluster;
use futures_util::{FutureExt as _, StreamExt as _};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tutti_base::clock::VirtualClock;
use tutti_model::{Millis, Timestamp, limits::STORE_VALUE_BYTES};
use tutti_store::{
    Change, Compare, EtcdAddress, EtcdOptions, LeaseId, List, Store, StoreError, Txn, TxnOutcome, WatchEvent,
    suite::{self, Subject},
};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_keeps_the_contract() {
    if Cluster::start(0, &[]).is_none() {
        return;
    }
    let start = Instant::now();
    let make = || {
        async {
            let cluster = Cluster::start(1, &[]).expect("it was there before");
            let store = Arc::new(cluster.open().await);
            let advance = |span: Millis| tokio::time::sleep(Duration::from_millis(span.0)).boxed();
            Ok(Subject { store, advance: Box::new(advance), keep: Box::new(cluster) })
        }
        .boxed()
    };
    let cases = suite::run_all(&make).await.unwrap_or_else(|failure| panic!("etcd:\n{failure}"));
    println!("etcd: {cases} cases in {:?}", start.elapsed());
}

async fn commit(store: &dyn Store, txn: Txn) -> u64 {
    match store.txn(txn).await.unwrap() {
        TxnOutcome::Committed(revision) => revision,
        refused => panic!("{refused:?}"),
    }
}

/// Everything of two stores in one cluster is apart, but for the revisions, which are the cluster's.
#[tokio::test]
async fn a_cluster_can_be_shared() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let ours = cluster.open().await;
    // Its name begins as ours does.
    let address = EtcdAddress { prefix: "tutti.other".into(), ..cluster.address() };
    let theirs = cluster.open_at(&address, EtcdOptions::default()).await;
    let mut watch = ours.watch("", Some(0)).await.unwrap();
    let first = commit(&ours, Txn::new().put("a", *b"1")).await;
    let between = commit(&theirs, Txn::new().put("a", *b"2").put("b", *b"2")).await;
    let second = commit(&ours, Txn::new().when(Compare::Modified("a".into(), first)).delete("a")).await;
    assert_eq!((first, between, second), (1, 2, 3));
    assert!(ours.list(List::default()).await.unwrap().entries.is_empty());
    assert_eq!(theirs.list(List::default()).await.unwrap().entries.len(), 2);
    for wanted in [first, second] {
        let event = tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
        let WatchEvent::Changes { revision, changes } = event else { panic!("{event:?}") };
        assert_eq!((revision, changes.len()), (wanted, 1));
    }
    assert!(watch.next().now_or_never().is_none());
    drop(ours);
    let end = tokio::time::timeout(SOON, watch.next()).await.unwrap();
    assert!(matches!(end, Some(Err(StoreError::Unavailable(_)))), "{end:?}");
}

/// More than etcd puts into one answer, in lists and in watches.
#[tokio::test]
async fn large_lists_and_watches_come_in_parts() {
    const KEYS: usize = 150;
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let store = cluster.open().await;
    for index in 0..KEYS {
        let value = vec![u8::try_from(index % 251).unwrap(); STORE_VALUE_BYTES];
        let txn = Txn::new().put(format!("k/{index:03}"), value.clone()).put(format!("l/{index:03}"), value);
        commit(&store, txn).await;
    }
    let listing = store.list(List::default()).await.unwrap();
    assert_eq!((listing.entries.len(), listing.more), (KEYS * 2, false));
    assert!(listing.entries.iter().all(|entry| entry.value.len() == STORE_VALUE_BYTES));
    // Resumed where it lags, as it must: it is told much faster than it reads.
    let (mut at, mut lagged) = (0, 0);
    while at < u64::try_from(KEYS).unwrap() {
        let mut watch = store.watch("", Some(at)).await.unwrap();
        while let Some(event) = tokio::time::timeout(SOON, watch.next()).await.unwrap() {
            match event {
                Ok(WatchEvent::Changes { revision, changes }) => {
                    assert_eq!((revision, changes.len()), (at + 1, 2));
                    at = revision;
                }
                Err(StoreError::Lagged) => lagged += 1,
                other => panic!("{other:?}"),
            }
            if at == u64::try_from(KEYS).unwrap() {
                break;
            }
        }
    }
    println!("{KEYS} transactions of {} KiB, lagging {lagged} times", STORE_VALUE_BYTES * 2 / 1024);
}

#[tokio::test]
async fn a_lease_that_is_not_there_is_named() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let store = cluster.open().await;
    let lease = store.grant(Millis::seconds(60)).await.unwrap();
    for missing in [LeaseId(0), LeaseId(77), LeaseId(u64::MAX)] {
        let txn = Txn::new().put_leased("a", *b"1", lease).put_leased("b", *b"1", missing);
        assert_eq!(store.txn(txn.clone()).await, Err(StoreError::LeaseGone(missing)));
        let refused = store.txn(txn.when(Compare::Present("a".into()))).await;
        assert_eq!(refused, Ok(TxnOutcome::Refused { compare: 0 }), "what is compared comes first");
        assert_eq!(store.keep_alive(missing).await, Err(StoreError::LeaseGone(missing)));
        assert_eq!(store.revoke(missing).await, Err(StoreError::LeaseGone(missing)));
    }
    assert_eq!(store.revision().await, Ok(0));
}

/// etcd forgets nothing by itself.
#[tokio::test]
async fn old_history_is_forgotten() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let clock = VirtualClock::at(Timestamp(1));
    let options =
        EtcdOptions { clock: Arc::new(clock.clone()), retain_revisions: 100, ..EtcdOptions::default() };
    let store = cluster.open_at(&cluster.address(), options).await;
    for value in 0..500u64 {
        commit(&store, Txn::new().put("a", value.to_string().into_bytes())).await;
    }
    let forgotten = async {
        loop {
            match store.list(List { at: Some(1), ..List::default() }).await {
                Ok(_) => clock.advance(Millis::seconds(60)),
                Err(error) => return error,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let error = tokio::time::timeout(SOON, forgotten).await.unwrap();
    assert_eq!(error, StoreError::Compacted { asked: 1, oldest: 400 });
    let mut watch = store.watch("", Some(400)).await.unwrap();
    let event = tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap();
    assert!(matches!(event, Ok(WatchEvent::Changes { revision: 401, .. })), "{event:?}");
}

/// Compacted to a removal, etcd would begin a watch there without it.
#[tokio::test]
async fn a_watcher_that_was_away_too_long_is_told_so() {
    let Some(cluster) = Cluster::start(1, &[]) else { return };
    let store = cluster.open().await;
    commit(&store, Txn::new().put("a", *b"1")).await;
    let removed = commit(&store, Txn::new().delete("a")).await;
    let last = commit(&store, Txn::new().put("b", *b"1")).await;
    store.compact(removed).await.unwrap();
    for after in 0..removed {
        let mut watch = store.watch("", Some(after)).await.unwrap();
        let told = tokio::time::timeout(SOON, watch.next()).await.unwrap();
        assert_eq!(told, Some(Err(StoreError::Compacted { asked: after, oldest: removed })));
        assert!(watch.next().await.is_none());
    }
    let mut watch = store.watch("", Some(removed)).await.unwrap();
    let told = tokio::time::timeout(SOON, watch.next()).await.unwrap();
    let Some(Ok(WatchEvent::Changes { revision, changes })) = told else { panic!("{told:?}") };
    assert_eq!(revision, last);
    assert!(matches!(changes.as_slice(), [Change::Put(entry)] if entry.key == "b"));
}

#[tokio::test]
async fn a_full_etcd_is_told_and_can_be_read() {
    let Some(cluster) = Cluster::start(1, &["--quota-backend-bytes", "8388608"]) else { return };
    let store = cluster.open().await;
    let mut last = 0;
    let mut unknown = 0;
    let error = loop {
        let txn = Txn::new().put(format!("k/{last}"), vec![1; STORE_VALUE_BYTES]);
        match store.txn(txn).await {
            Ok(TxnOutcome::Committed(revision)) => last = revision,
            // The one that used the quota up may have been applied.
            Err(StoreError::Unavailable(why)) if unknown == 0 => {
                assert!(why.contains("no space left"), "{why}");
                unknown += 1;
            }
            Err(error) => break error,
            other => panic!("{other:?}"),
        }
        assert!(last < 200, "the quota is never used up");
    };
    let StoreError::NoSpace(place) = &error else { panic!("{error:?}") };
    assert!(place.contains("127.0.0.1:") && place.contains("--quota-backend-bytes"), "{place}");
    let before = store.revision().await.unwrap();
    assert!((last..=last + 1).contains(&before));
    assert!(matches!(store.txn(Txn::new().put("more", *b"1")).await, Err(StoreError::NoSpace(_))));
    assert_eq!(store.get("more").await, Ok(None));
    assert_eq!(store.revision().await, Ok(before));
    // What is in the way can be removed.
    assert_eq!(commit(&store, Txn::new().delete("k/0")).await, before + 1);
}
