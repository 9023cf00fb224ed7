//! A standby that takes over.

use super::*;
use futures_util::future;
use tokio::sync::mpsc;

const WRITERS: u64 = 8;
const WRITES: u64 = 100;

/// The address of a database on both.
fn both(one: &Server, other: &Server) -> String {
    format!("postgres://tutti@/db0?host={},{}", one.folder().display(), other.folder().display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_watches_go_on_at_the_standby_and_nothing_acknowledged_is_lost() {
    let Some(mut primary) = Server::durable() else { return };
    let _made = primary.database();
    let Some(standby) = primary.standby().map(Arc::new) else { return };
    // What is acknowledged is on both disks.
    primary.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.sql("postgres", "SELECT pg_reload_conf()");
    let synchronous =
        || primary.sql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'");
    until("the standby does not follow", || synchronous() == "1").await;

    // The standby is named first: it cannot be written to, and is passed over.
    let address = both(&standby, &primary);
    let stores = [open(&address).await, open(&address).await];
    let last = WRITERS * WRITES;
    let watches = stores.each_ref().map(|store| tokio::spawn(follow(store.clone(), 0, last)));
    let (told, mut tells) = mpsc::unbounded_channel();
    let writers = (0..WRITERS).map(|writer| {
        let store = stores[usize::try_from(writer % 2).unwrap()].clone();
        let told = told.clone();
        tokio::spawn(count(store, format!("w/{writer}"), WRITES, move |_, revision| {
            told.send(revision).unwrap()
        }))
    });
    let writers = future::join_all(writers.collect::<Vec<_>>());
    let mut acknowledged = 0;
    for _ in 0..last / 2 {
        acknowledged = acknowledged.max(soon(tells.recv()).await.unwrap());
    }
    let primary = tokio::task::spawn_blocking(move || {
        primary.kill();
        primary
    })
    .await
    .unwrap();
    assert_eq!(sql(&standby, "postgres", "SELECT pg_promote()").await, "t");
    assert!(soon(stores[0].revision()).await.unwrap() >= acknowledged);
    for writer in soon(writers).await {
        writer.unwrap();
    }
    assert_eq!(stores[1].revision().await.unwrap(), last);
    let [one, other] = watches;
    assert_eq!(one.await.unwrap(), other.await.unwrap());
    for writer in 0..WRITERS {
        assert_eq!(number(&stores[0], &format!("w/{writer}")).await, WRITES);
    }
    drop(primary);
}
