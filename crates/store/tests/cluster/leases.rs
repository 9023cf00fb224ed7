//! Leases that several processes know of, by the clock of the server.

use super::*;
use tutti_model::Millis;
use tutti_store::Change;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_once_whoever_looks_and_lives_by_anybodys_sign() {
    let Some(server) = Server::quick().map(Arc::new) else { return };
    let (one, other) = (open(&server.database()).await, open(&server.address("db0")).await);
    let kept = one.grant(Millis::seconds(3)).await.unwrap();
    let mut leased = Vec::new();
    for index in 0..20 {
        let lease = one.grant(Millis::seconds(2)).await.unwrap();
        commit(&one, Txn::new().put_leased(format!("l/{index:02}"), *b"1", lease)).await;
        leased.push(lease);
    }
    commit(&other, Txn::new().put_leased("kept", *b"1", kept)).await;
    let from = one.revision().await.unwrap();
    let alive = tokio::spawn({
        let other = other.clone();
        async move {
            let mut every = tokio::time::interval(Duration::from_millis(500));
            loop {
                every.tick().await;
                other.keep_alive(kept).await.unwrap();
            }
        }
    });
    let last = from + 20;
    let heard = [follow(one.clone(), from, last), follow(other.clone(), from, last)];
    let [first, second] = futures_util::future::join_all(heard).await.try_into().unwrap();
    assert_eq!(first, second);
    for event in first {
        let WatchEvent::Changes { changes, .. } = event else { panic!() };
        assert!(matches!(changes.as_slice(), [Change::Delete { .. }]), "{changes:?}");
    }
    for lease in leased {
        assert_eq!(other.keep_alive(lease).await, Err(StoreError::LeaseGone(lease)));
    }
    assert!(!alive.is_finished());
    alive.abort();
    assert!(one.get("kept").await.unwrap().is_some());
    assert_eq!(one.revision().await.unwrap(), last);
    assert_eq!(follow(one.clone(), last, last + 1).await.len(), 1);
    assert!(other.get("kept").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_every_lease_has_its_whole_time_anew() {
    let Some(mut server) = Server::quick() else { return };
    let store = open(&server.database()).await;
    let (used, silent) =
        (store.grant(Millis::seconds(3)).await.unwrap(), store.grant(Millis::seconds(3)).await.unwrap());
    commit(&store, Txn::new().put_leased("used", *b"1", used).put_leased("silent", *b"1", silent)).await;
    server = tokio::task::spawn_blocking(move || {
        server.kill();
        server
    })
    .await
    .unwrap();
    // Longer than a lease, and than what counts as an outage.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let server = tokio::task::spawn_blocking(move || {
        server.run();
        server
    })
    .await
    .unwrap();
    store.keep_alive(used).await.unwrap();
    commit(&store, Txn::new().put_leased("more", *b"1", silent)).await;
    assert!(store.get("silent").await.unwrap().is_some());
    // And then they end as ever.
    let events = follow(store.clone(), 2, 3).await;
    assert_eq!(events.len(), 1);
    drop(server);
}
