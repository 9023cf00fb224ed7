//! Whatever is asked of them, in whatever order, the engines (closed and opened again on the way) and memory give the
//! same answers, the same history at every retained revision, and the same watch.

use crate::postgres::Server;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{sync::Arc, time::Duration};
use tutti_base::clock::VirtualClock;
use tutti_model::{Millis, Timestamp};
use tutti_store::{
    Compare, LeaseId, List, MemoryStore, PostgresAddress, PostgresOptions, PostgresStore, SqliteOptions,
    SqliteStore, Store, StoreError, Txn, WatchEvent,
};

/// One thing to ask. Keys are few, so that they meet.
#[derive(Debug, Clone)]
enum Step {
    Txn { compares: Vec<(u8, u8, u64)>, puts: Vec<(u8, u8, bool)>, deletes: Vec<u8> },
    Grant,
    Revoke(u64),
    Compact(u64),
    List { prefix: u8, at: Option<u64>, after: Option<u8>, limit: Option<usize> },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0u8..8;
    let txn = (
        prop::collection::vec((0u8..3, key.clone(), 0u64..40), 0..3),
        prop::collection::vec((key.clone(), any::<u8>(), any::<bool>()), 0..4),
        prop::collection::vec(key.clone(), 0..3),
    );
    prop_oneof![
        12 => txn.prop_map(|(compares, puts, deletes)| Step::Txn { compares, puts, deletes }),
        1 => Just(Step::Grant),
        1 => (0u64..4).prop_map(Step::Revoke),
        1 => (0u64..40).prop_map(Step::Compact),
        3 => (0u8..4, prop::option::of(0u64..40), prop::option::of(key), prop::option::of(0usize..5))
            .prop_map(|(prefix, at, after, limit)| Step::List { prefix, at, after, limit }),
        1 => Just(Step::Reopen),
    ]
}

fn key(number: u8) -> String {
    ["a", "a/1", "a/2", "a/2/x", "b", "b/1", "b/é", "c"][usize::from(number)].to_owned()
}

fn build(compares: &[(u8, u8, u64)], puts: &[(u8, u8, bool)], deletes: &[u8], lease: Option<LeaseId>) -> Txn {
    let mut txn = Txn::new();
    for (kind, number, revision) in compares {
        txn = txn.when(match kind {
            0 => Compare::Absent(key(*number)),
            1 => Compare::Present(key(*number)),
            _ => Compare::Modified(key(*number), *revision),
        });
    }
    for (number, value, leased) in puts {
        txn = match lease {
            Some(lease) if *leased => txn.put_leased(key(*number), [*value], lease),
            _ => txn.put(key(*number), [*value]),
        };
    }
    deletes.iter().fold(txn, |txn, number| txn.delete(key(*number)))
}

/// Longer than a test takes, where time cannot stand still.
const TTL: Millis = Millis::seconds(3600);

type Open<'a> = &'a dyn Fn() -> BoxFuture<'static, Arc<dyn Store>>;

/// Every state there ever was and is still known, then every change.
async fn whole(store: &dyn Store) -> (Vec<String>, Vec<WatchEvent>) {
    let current = store.revision().await.unwrap();
    let mut states = Vec::new();
    let mut oldest = None;
    for at in 0..=current {
        let listing = store.list(List { at: Some(at), ..List::default() }).await;
        match &listing {
            Ok(_) => oldest = oldest.or(Some(at)),
            Err(error) => assert!(matches!(error, StoreError::Compacted { .. })),
        }
        states.push(format!("{listing:?}"));
    }
    let oldest = oldest.expect("the current revision can always be listed");
    let watch = store.watch("", Some(oldest)).await.unwrap();
    let count = usize::try_from(current - oldest).unwrap();
    let events = watch.take(count).map(Result::unwrap).collect();
    let events: Vec<_> = tokio::time::timeout(Duration::from_secs(30), events).await.unwrap();
    (states, events)
}

async fn agree(steps: Vec<Step>, open: Open<'_>) {
    let memory = MemoryStore::new(Arc::new(VirtualClock::at(Timestamp(1))));
    let mut engine = open().await;
    let mut lease = None;
    for step in steps {
        match &step {
            Step::Txn { compares, puts, deletes } => {
                let txn = build(compares, puts, deletes, lease);
                assert_eq!(engine.txn(txn.clone()).await, memory.txn(txn).await, "{step:?}");
            }
            Step::Grant => {
                let granted = engine.grant(TTL).await;
                assert_eq!(granted, memory.grant(TTL).await);
                lease = granted.ok();
            }
            Step::Revoke(id) => {
                let id = LeaseId(*id);
                assert_eq!(engine.revoke(id).await, memory.revoke(id).await, "{step:?}");
            }
            Step::Compact(at) => {
                assert_eq!(engine.compact(*at).await, memory.compact(*at).await, "{step:?}");
            }
            Step::List { prefix, at, after, limit } => {
                let prefix = ["", "a", "a/", "b/é"][usize::from(*prefix)].to_owned();
                let list = List { prefix, at: *at, after: after.map(key), limit: *limit };
                assert_eq!(engine.list(list.clone()).await, memory.list(list).await, "{step:?}");
            }
            Step::Reopen => {
                drop(engine);
                engine = open().await;
            }
        }
    }
    assert_eq!(whole(&*engine).await, whole(&memory).await);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_and_memory_agree(steps in prop::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        block_on(agree(steps, &move || {
            let clock = Arc::new(VirtualClock::at(Timestamp(1)));
            let options = SqliteOptions { clock, ..SqliteOptions::default() };
            let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, options).unwrap());
            std::future::ready(store).boxed()
        }));
    }
}

#[test]
fn postgresql_and_memory_agree() {
    let Some(server) = Server::quick() else { return };
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(step(), 1..60), |steps| {
        let address: PostgresAddress = server.database().parse().unwrap();
        block_on(agree(steps, &move || {
            let options = PostgresOptions { durable: false, ..PostgresOptions::default() };
            let address = address.clone();
            async move {
                let store: Arc<dyn Store> = Arc::new(PostgresStore::open(address, options).await.unwrap());
                store
            }
            .boxed()
        }));
        Ok(())
    });
    outcome.unwrap();
}

fn block_on(agreement: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(agreement);
}
