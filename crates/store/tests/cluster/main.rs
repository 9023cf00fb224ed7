//! What the engine on PostgreSQL does beside others, and when its server, its connections or its database fail it.
//! The contract is tested by the suite.
#![cfg(test)]

mod breaks;
mod failover;
mod leases;
mod opening;
#[path = "../server/postgres.rs"]
mod server;
mod two;

use futures_util::StreamExt as _;
use server::Server;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tutti_store::{
    Compare, PostgresOptions, PostgresStore, Revision, Store, StoreError, Txn, TxnOutcome, WatchEvent,
};

/// How long anything that must happen may take to happen.
const SOON: Duration = Duration::from_secs(60);

/// As patient as a busy machine needs.
fn options() -> PostgresOptions {
    PostgresOptions { durable: false, patience: SOON / 2, ..PostgresOptions::default() }
}

/// For what is to fail.
fn impatient() -> PostgresOptions {
    PostgresOptions { patience: Duration::from_secs(1), ..options() }
}

async fn open(address: &str) -> PostgresStore {
    PostgresStore::open(address.parse().unwrap(), options()).await.unwrap()
}

/// What must come soon, or the test fails.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it did not come")
}

/// Returns once it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A server whose statements can be asked for while other tasks go on.
async fn sql(server: &Arc<Server>, database: &str, statement: &str) -> String {
    let (server, database, statement) = (Arc::clone(server), database.to_owned(), statement.to_owned());
    tokio::task::spawn_blocking(move || server.sql(&database, &statement)).await.unwrap()
}

/// The revision of a transaction that must commit.
async fn commit(store: &PostgresStore, txn: Txn) -> Revision {
    match store.txn(txn).await.unwrap() {
        TxnOutcome::Committed(revision) => revision,
        TxnOutcome::Refused { compare } => panic!("refused for its comparison {compare}"),
    }
}

/// Everything a watch of all keys says after one revision and up to another, which must be each revision once.
async fn follow(store: PostgresStore, mut seen: Revision, last: Revision) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    let mut watch = store.watch("", Some(seen)).await.unwrap();
    while seen < last {
        match soon(watch.next()).await {
            Some(Ok(event)) => {
                let WatchEvent::Changes { revision, .. } = &event else {
                    panic!("{event:?} in a resumed watch")
                };
                assert_eq!(*revision, seen + 1, "a gap or a repeat");
                seen = *revision;
                events.push(event);
            }
            Some(Err(StoreError::Lagged)) => watch = store.watch("", Some(seen)).await.unwrap(),
            other => panic!("{other:?}"),
        }
    }
    events
}

/// Raises a counter that only this writer writes, and says each number with its revision once it is acknowledged. What
/// is refused did not happen, and what is acknowledged did: it panics where the store says otherwise.
async fn count(store: PostgresStore, key: String, times: u64, acknowledged: impl Fn(u64, Revision)) {
    let mut modified = None;
    for number in 1..=times {
        let compare = match modified {
            None => Compare::Absent(key.clone()),
            Some(modified) => Compare::Modified(key.clone(), modified),
        };
        let txn = Txn::new().when(compare).put(key.clone(), number.to_string().into_bytes());
        let revision = commit(&store, txn.put(format!("{key}/too"), number.to_string().into_bytes())).await;
        acknowledged(number, revision);
        modified = Some(revision);
    }
}

async fn number(store: &PostgresStore, key: &str) -> u64 {
    let entry = store.get(key).await.unwrap();
    entry.map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap())
}
