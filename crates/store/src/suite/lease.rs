//! Leases: expiry, signs of life, the end.

use super::{Case, Failure, Outcome, Subject, commit, ensure, keys, next, put, same};
use crate::{Change, LeaseId, List, StoreError, Txn, WatchEvent};
use std::collections::BTreeSet;
use tutti_model::Millis;

pub(super) const CASES: &[Case] = &[
    Case { name: "a lease's keys go with it, in one transaction", run: |subject| Box::pin(expiry(subject)) },
    Case { name: "a lease that is kept alive lives", run: |subject| Box::pin(kept_alive(subject)) },
    Case { name: "a revoked lease is gone at once", run: |subject| Box::pin(revoked(subject)) },
    Case {
        name: "a lease may have more keys than a transaction",
        run: |subject| Box::pin(many_keys(subject)),
    },
    Case { name: "a lease that never was is gone", run: |subject| Box::pin(unknown(subject)) },
];

/// Whole seconds, as some engines know no others.
const TTL: Millis = Millis::seconds(4);

async fn expiry(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let lease = store.grant(TTL).await?;
    let other = store.grant(Millis::seconds(3600)).await?;
    ensure(lease != other, || "two leases have one name".into())?;
    let txn = Txn::new().put_leased("l/a", *b"1", lease).put_leased("l/b", *b"2", lease);
    commit(store, txn.put_leased("l/other", *b"3", other).put_leased("l/freed", *b"4", lease)).await?;
    let last = put(store, "l/freed", "5").await?;
    let held = store.get("l/a").await?.and_then(|entry| entry.lease);
    same("the lease of a key", &held, &Some(lease))?;
    let freed = store.get("l/freed").await?.and_then(|entry| entry.lease);
    same("the lease of a key set without one", &freed, &None)?;
    let mut watch = store.watch("l/", Some(last)).await?;
    (subject.advance)(Millis(TTL.0 + 1000)).await;
    let wanted = WatchEvent::Changes {
        revision: last + 1,
        changes: vec![Change::Delete { key: "l/a".into() }, Change::Delete { key: "l/b".into() }],
    };
    same("what a watcher hears of an expiry", &next(&mut watch).await?, &wanted)?;
    let left = keys(store, List::prefix("l/")).await?;
    same("what is left", &left, &vec!["l/freed".to_owned(), "l/other".to_owned()])?;
    same("the revision", &store.revision().await?, &(last + 1))?;
    same("keeping it alive", &store.keep_alive(lease).await, &Err(StoreError::LeaseGone(lease)))?;
    let answer = store.txn(Txn::new().put_leased("l/c", *b"1", lease)).await;
    same("a key to go with it", &answer, &Err(StoreError::LeaseGone(lease)))?;
    same("the key", &store.get("l/c").await?, &None)
}

async fn kept_alive(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let lease = store.grant(TTL).await?;
    let last = commit(store, Txn::new().put_leased("l/a", *b"1", lease)).await?;
    for _ in 0..3 {
        (subject.advance)(Millis(TTL.0 / 2)).await;
        store.keep_alive(lease).await?;
    }
    ensure(store.get("l/a").await?.is_some(), || "a lease that was kept alive expired".into())?;
    same("the revision", &store.revision().await?, &last)?;
    let mut watch = store.watch("l/", Some(last)).await?;
    (subject.advance)(Millis(TTL.0 + 1000)).await;
    let event = next(&mut watch).await?;
    ensure(matches!(event, WatchEvent::Changes { .. }), || format!("{event:?} instead of an expiry"))?;
    same("the key", &store.get("l/a").await?, &None)
}

async fn revoked(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let (lease, empty) = (store.grant(TTL).await?, store.grant(TTL).await?);
    let last = commit(store, Txn::new().put_leased("l/a", *b"1", lease).put("l/b", *b"1")).await?;
    store.revoke(empty).await?;
    same("the revision without keys", &store.revision().await?, &last)?;
    store.revoke(lease).await?;
    same("what is left", &keys(store, List::default()).await?, &vec!["l/b".to_owned()])?;
    same("the revision", &store.revision().await?, &(last + 1))?;
    same("revoking it again", &store.revoke(lease).await, &Err(StoreError::LeaseGone(lease)))?;
    same("keeping it alive", &store.keep_alive(lease).await, &Err(StoreError::LeaseGone(lease)))
}

async fn many_keys(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let lease = store.grant(TTL).await?;
    let mut last = 0;
    for first in (0..150).step_by(50) {
        let txn = (first..first + 50)
            .fold(Txn::new(), |txn, index| txn.put_leased(format!("l/{index:03}"), *b"1", lease));
        last = commit(store, txn).await?;
    }
    let mut watch = store.watch("l/", Some(last)).await?;
    (subject.advance)(Millis(TTL.0 + 1000)).await;
    let mut gone = BTreeSet::new();
    while gone.len() < 150 {
        let WatchEvent::Changes { revision, changes } = next(&mut watch).await? else {
            return Err(Failure::new("a resumed watch began anew"));
        };
        last += 1;
        same("the revision of a part", &revision, &last)?;
        for change in changes {
            let Change::Delete { key } = change else {
                return Err(Failure::new(format!("{change:?} in an expiry")));
            };
            ensure(gone.insert(key.clone()), || format!("{key} was removed twice"))?;
        }
    }
    same("what is left", &keys(store, List::default()).await?, &Vec::new())
}

async fn unknown(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let lease = LeaseId(123_456_789);
    let gone = || StoreError::LeaseGone(lease);
    same("keeping it alive", &store.keep_alive(lease).await, &Err(gone()))?;
    same("revoking it", &store.revoke(lease).await, &Err(gone()))?;
    same("using it", &store.txn(Txn::new().put_leased("a", *b"1", lease)).await, &Err(gone()))?;
    let answer = store.grant(Millis(0)).await;
    ensure(matches!(answer, Err(StoreError::Invalid(_))), || format!("a lease without time: {answer:?}"))
}
