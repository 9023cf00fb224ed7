use super::*;
use crate::{
    MemoryStore, SqliteOptions, SqliteStore, WatchEvent,
    faulty::{Faulty, Rates},
};
use futures_util::StreamExt as _;
use std::sync::Arc;
use tutti_base::{Random, clock::VirtualClock};
use tutti_model::{Millis, limits::STORE_VALUE_BYTES};

fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(Arc::new(VirtualClock::default())))
}

/// More keys than a page, values that fill transactions, and keys that were removed or written again.
async fn filled() -> Arc<MemoryStore> {
    let store = memory();
    for index in 0..200u64 {
        let value = if index % 20 == 0 { vec![1; STORE_VALUE_BYTES] } else { index.to_string().into_bytes() };
        store.txn(Txn::new().put(format!("k/{:03}", index % 150), value)).await.unwrap();
    }
    store.txn(Txn::new().delete("k/007").put("é", *b"")).await.unwrap();
    store
}

/// Many keys at few revisions, so that most of a copy's writes are those that copy.
async fn dense() -> Arc<MemoryStore> {
    let store = memory();
    for first in (0..600).step_by(60) {
        let txn = (first..first + 60).fold(Txn::new(), |txn, index| txn.put(format!("k/{index:03}"), *b"1"));
        store.txn(txn).await.unwrap();
    }
    store
}

async fn contents(store: &dyn Store) -> Vec<(String, Arc<[u8]>)> {
    let entries = store.list(List::default()).await.unwrap().entries;
    entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
}

#[tokio::test]
async fn everything_is_there_and_no_revision_means_two_things() {
    let folder = tempfile::tempdir().unwrap();
    let from = filled().await;
    let to = SqliteStore::open(&folder.path().join("s.db"), SqliteOptions::default()).unwrap();
    let last = from.revision().await.unwrap();
    let done = migrate(&*from, &to).await.unwrap();
    assert_eq!(done.keys, 150);
    assert_eq!(contents(&*from).await, contents(&to).await);
    assert!(!is_unfinished(&to).await.unwrap());
    assert!(done.revision > last && to.revision().await.unwrap() == done.revision);
    // Whoever knows the source's revisions is told to begin anew.
    let answer = to.watch("", Some(last)).await.err();
    assert_eq!(answer, Some(StoreError::Compacted { asked: last, oldest: done.revision }));
    to.txn(Txn::new().put("more", *b"1")).await.unwrap();
    let mut watch = to.watch("", Some(done.revision)).await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Changes { .. }))));
    // And back again, by which the first one is found to be in the way.
    let problem = migrate(&to, &*from).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::AlreadyExists);
    let back = memory();
    assert_eq!(migrate(&to, &*back).await.unwrap().keys, 151);
    assert_eq!(contents(&*back).await, contents(&to).await);
}

#[tokio::test]
async fn an_empty_store_is_copied_too() {
    let (from, to) = (memory(), memory());
    assert_eq!(migrate(&*from, &*to).await.unwrap().keys, 0);
    assert!(contents(&*to).await.is_empty());
}

/// Cut off at any write, before it and after it, and begun anew.
#[tokio::test]
async fn a_copy_that_is_cut_off_is_known_and_begun_anew() {
    let (mut early, mut late) = (0, 0);
    for seed in 0..90 {
        let (from, often) = if seed % 2 == 0 { (filled().await, 5) } else { (dense().await, 50) };
        let inner = memory();
        let clock = Arc::new(VirtualClock::default());
        let to = Faulty::new(Arc::clone(&inner), Random::seeded(seed), clock);
        to.faults().set_rates(Rates { before: often, after: often, ..Rates::default() });
        let cut = migrate(&*from, &to).await;
        let have = contents(&*inner).await;
        if is_unfinished(&*inner).await.unwrap() {
            assert!(cut.is_err());
            *(if have.iter().any(|(key, _)| !key.starts_with(MARK)) { &mut late } else { &mut early }) += 1;
            migrate(&*from, &*inner).await.unwrap();
        } else {
            assert!(have.is_empty() || have == contents(&*from).await, "a part is taken for a store");
            if have.is_empty() {
                migrate(&*from, &*inner).await.unwrap();
            }
        }
        assert_eq!(contents(&*inner).await, contents(&*from).await);
    }
    assert!(early > 5 && late > 5, "cut off {early} times before anything was copied and {late} times after");
}

#[tokio::test]
async fn what_is_in_the_way_is_named_and_left() {
    let from = filled().await;
    let to = memory();
    to.txn(Txn::new().put("there", *b"1")).await.unwrap();
    let problem = migrate(&*from, &*to).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::AlreadyExists);
    assert!(problem.detail.contains("\"there\"") && problem.hint.is_some());
    assert_eq!((to.revision().await, contents(&*to).await.len()), (Ok(1), 1));
    // What is unfinished is no source.
    let (begun, empty) = (memory(), memory());
    take(&*begun, COPY).await.unwrap();
    let problem = migrate(&*begun, &*empty).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::Conflict);
    assert_eq!(empty.revision().await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_source_in_which_somebody_lives_is_refused() {
    let from = memory();
    let lease = from.grant(Millis::seconds(10)).await.unwrap();
    from.txn(Txn::new().put_leased("zones/z/ingresses/a", *b"1", lease).put("b", *b"1")).await.unwrap();
    let to = memory();
    let problem = migrate(&*from, &*to).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::Conflict);
    assert!(problem.detail.contains("zones/z/ingresses/a"), "{problem}");
    assert_eq!(to.revision().await, Ok(0));
    from.revoke(lease).await.unwrap();
    assert_eq!(migrate(&*from, &*to).await.unwrap().keys, 1);
}

#[tokio::test]
async fn of_two_copies_into_one_target_the_later_goes_on() {
    let to = memory();
    let first = take(&*to, COPY).await.unwrap();
    write(&*to, first.guard().put("a", *b"1")).await.unwrap();
    let second = take(&*to, COPY).await.unwrap();
    assert!(contents(&*to).await.iter().all(|(key, _)| key == MARK));
    let problem = write(&*to, first.guard().put("b", *b"1")).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::Conflict);
    write(&*to, second.guard().put("b", *b"1")).await.unwrap();
}
