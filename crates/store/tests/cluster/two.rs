//! Several processes over one database.

use super::*;
use futures_util::future;

/// Writers of each store, and how often each writes.
const WRITERS: u64 = 8;
const WRITES: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_write_at_once_and_both_hear_the_same_without_a_gap() {
    let Some(server) = Server::quick() else { return };
    let address = server.database();
    let stores = [open(&address).await, open(&address).await];
    let last = 2 * WRITERS * WRITES;
    let watches = stores.each_ref().map(|store| tokio::spawn(follow(store.clone(), 0, last)));
    let writers = (0..2 * WRITERS).map(|writer| {
        let store = if writer % 2 == 0 { &stores[0] } else { &stores[1] };
        tokio::spawn(count(store.clone(), format!("w/{writer}"), WRITES, |_, _| {}))
    });
    for done in future::join_all(writers).await {
        done.unwrap();
    }
    assert_eq!(stores[0].revision().await.unwrap(), last);
    let [one, other] = watches;
    assert_eq!(one.await.unwrap(), other.await.unwrap());
    for writer in 0..2 * WRITERS {
        assert_eq!(number(&stores[1], &format!("w/{writer}")).await, WRITES);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_contend_for_one_key_one_wins_each_time() {
    let Some(server) = Server::quick() else { return };
    let address = server.database();
    let stores = [open(&address).await, open(&address).await];
    let mut compare = Compare::Absent("lock".into());
    for round in 0..50u8 {
        let tries =
            stores.each_ref().map(|store| store.txn(Txn::new().when(compare.clone()).put("lock", [round])));
        let outcomes = future::try_join_all(tries).await.unwrap();
        let won: Vec<_> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                TxnOutcome::Committed(revision) => Some(*revision),
                TxnOutcome::Refused { .. } => None,
            })
            .collect();
        assert_eq!(won.len(), 1, "round {round}: {outcomes:?}");
        compare = Compare::Modified("lock".into(), won[0]);
        // What one acknowledged, the other reads.
        for store in &stores {
            assert_eq!(store.get("lock").await.unwrap().unwrap().modified, won[0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_starts_at_once_make_one_store() {
    let Some(server) = Server::quick() else { return };
    let address = server.database();
    let stores = future::join_all((0..4).map(|_| open(&address))).await;
    for (index, store) in (1..).zip(&stores) {
        assert_eq!(commit(store, Txn::new().put("k", *b"1")).await, index);
    }
    drop(stores);
    assert_eq!(open(&address).await.revision().await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_forgotten_once_and_what_is_retained_is_whole() {
    const RETAIN: u64 = 100;
    let Some(server) = Server::quick().map(Arc::new) else { return };
    let address = server.database();
    let options = PostgresOptions { retain_revisions: RETAIN, ..options() };
    let mut stores = Vec::new();
    for _ in 0..2 {
        stores.push(PostgresStore::open(address.parse().unwrap(), options.clone()).await.unwrap());
    }
    for part in 0..20 {
        let writes = (0..50).map(|index| {
            let txn = Txn::new().put(format!("k/{}", index % 10), vec![b'x'; 500]);
            stores[index % 2].txn(txn.put(format!("gone/{part}"), *b"1"))
        });
        future::try_join_all(writes).await.unwrap();
        commit(&stores[0], Txn::new().delete(format!("gone/{part}"))).await;
    }
    let current = stores[0].revision().await.unwrap();
    assert_eq!(current, 1020);
    let oldest = match stores[0].list(tutti_store::List { at: Some(0), ..Default::default() }).await {
        Err(StoreError::Compacted { oldest, .. }) => oldest,
        other => panic!("{other:?}"),
    };
    assert!(oldest + RETAIN + 256 >= current, "{oldest} at {current}");
    for at in oldest..=current {
        let list = tutti_store::List { at: Some(at), ..tutti_store::List::prefix("k/") };
        assert_eq!(stores[1].list(list).await.unwrap().entries.len(), 10, "at {at}");
    }
    assert_eq!(
        follow(stores[1].clone(), oldest, current).await.len(),
        usize::try_from(current - oldest).unwrap()
    );
    stores[1].compact(current).await.unwrap();
    // One row for each key is left.
    let rows = || server.sql("db0", "SELECT count(*) FROM tutti.history");
    until("history is not forgotten", || rows() == "10").await;
    assert_eq!(stores[0].list(tutti_store::List::prefix("k/")).await.unwrap().entries.len(), 10);
}
