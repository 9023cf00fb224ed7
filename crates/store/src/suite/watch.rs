//! Watches: from nothing, from any retained revision, and what ends them.

use super::{Case, Failure, Outcome, Subject, commit, ensure, entry, next, put, said, same};
use crate::{Change, Revision, Store, StoreError, Txn, Watch, WatchEvent};
use futures_util::{FutureExt as _, StreamExt as _, future};

pub(super) const CASES: &[Case] = &[
    Case { name: "a watch begins with what there is", run: |subject| Box::pin(from_nothing(subject)) },
    Case { name: "a watch begins with many keys", run: |subject| Box::pin(many_items(subject)) },
    Case { name: "a watch resumes from any retained revision", run: |subject| Box::pin(resumes(subject)) },
    Case { name: "compaction and the future are told", run: |subject| Box::pin(bounds(subject)) },
    Case {
        name: "transactions are told whole and below the prefix",
        run: |subject| Box::pin(whole(subject)),
    },
    Case { name: "a slow watcher gets no gap", run: |subject| Box::pin(slow(subject)) },
];

async fn from_nothing(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let mut empty = store.watch("none/", None).await?;
    same("the beginning", &next(&mut empty).await?, &WatchEvent::Init)?;
    same("of nothing", &next(&mut empty).await?, &WatchEvent::InitDone { revision: 0 })?;
    put(store, "w/b", "1").await?;
    put(store, "x", "1").await?;
    put(store, "w/a", "2").await?;
    commit(store, Txn::new().put("w/c", *b"3")).await?;
    commit(store, Txn::new().delete("w/c")).await?;
    let mut watch = store.watch("w/", None).await?;
    for wanted in [
        WatchEvent::Init,
        WatchEvent::InitItem(entry("w/a", "2", 3, 3)),
        WatchEvent::InitItem(entry("w/b", "1", 1, 1)),
        WatchEvent::InitDone { revision: 5 },
    ] {
        same("the beginning", &next(&mut watch).await?, &wanted)?;
    }
    put(store, "w/a", "4").await?;
    let changes = vec![Change::Put(entry("w/a", "4", 3, 6))];
    same("what follows", &next(&mut watch).await?, &WatchEvent::Changes { revision: 6, changes })?;
    ensure(empty.next().now_or_never().is_none(), || "a watch told of another prefix".into())
}

async fn many_items(subject: Subject) -> Outcome {
    let store = &*subject.store;
    for first in (0..300).step_by(50) {
        let txn = (first..first + 50).fold(Txn::new(), |txn, index| txn.put(format!("m/{index:03}"), *b"1"));
        commit(store, txn).await?;
    }
    let mut watch = store.watch("m/", None).await?;
    same("the beginning", &next(&mut watch).await?, &WatchEvent::Init)?;
    for index in 0..300 {
        if index == 150 {
            commit(store, Txn::new().delete("m/299").put("m/000", *b"2")).await?;
        }
        let event = next(&mut watch).await?;
        ensure(
            matches!(&event, WatchEvent::InitItem(entry) if entry.key == format!("m/{index:03}")),
            || format!("{event:?} instead of item {index}"),
        )?;
    }
    same("the end of the items", &next(&mut watch).await?, &WatchEvent::InitDone { revision: 6 })?;
    let changes = vec![Change::Put(entry("m/000", "2", 1, 7)), Change::Delete { key: "m/299".into() }];
    same("what came meanwhile", &next(&mut watch).await?, &WatchEvent::Changes { revision: 7, changes })
}

async fn resumes(subject: Subject) -> Outcome {
    const WRITES: u64 = 40;
    let store = &*subject.store;
    let mut history = Vec::new();
    let mut tell = |revision: Revision, changes: Vec<Change>| {
        history.push(WatchEvent::Changes { revision, changes });
    };
    for index in 1..=WRITES {
        let (key, value) = (format!("r/{}", index % 7), index.to_string());
        if index % 5 == 0 {
            commit(store, Txn::new().delete(key.clone()).put("r/x", value.as_bytes())).await?;
        } else {
            put(store, &key, &value).await?;
        }
    }
    let mut whole = store.watch("r/", Some(0)).await?;
    for _ in 1..=WRITES {
        let WatchEvent::Changes { revision, changes } = next(&mut whole).await? else {
            return Err(Failure::new("a resumed watch began anew"));
        };
        tell(revision, changes);
    }
    for after in 0..=WRITES {
        let mut watch = store.watch("r/", Some(after)).await?;
        let from = usize::try_from(after).unwrap_or(usize::MAX);
        for wanted in history.iter().skip(from) {
            same(&format!("after {after}"), &next(&mut watch).await?, wanted)?;
        }
        let more = put(store, "r/new", &after.to_string()).await?;
        // Those that were written for the watches before this one come first.
        let mut revision = WRITES;
        while revision < more {
            let WatchEvent::Changes { revision: told, .. } = next(&mut watch).await? else {
                return Err(Failure::new("a resumed watch began anew"));
            };
            same("the next revision", &told, &(revision + 1))?;
            revision = told;
        }
    }
    Ok(())
}

async fn bounds(subject: Subject) -> Outcome {
    let store = &*subject.store;
    for value in 0..10 {
        put(store, "a", &value.to_string()).await?;
    }
    let answer = store.watch("", Some(11)).await.err();
    same("the future", &answer, &Some(StoreError::Future { asked: 11, current: 10 }))?;
    let mut before = store.watch("", Some(2)).await?;
    store.compact(5).await?;
    let answer = match store.watch("", Some(4)).await {
        Err(error) => Some(error),
        Ok(mut watch) => said(&mut watch).await?.err(),
    };
    same("what was compacted", &answer, &Some(StoreError::Compacted { asked: 4, oldest: 5 }))?;
    // One that began before may still have it all, or is told; it does not pass over anything.
    match said(&mut before).await? {
        Err(StoreError::Compacted { oldest: 5, .. }) => {}
        Ok(WatchEvent::Changes { revision: 3, .. }) => {}
        other => return Err(Failure::new(format!("{other:?} to a watch that was overtaken"))),
    }
    let mut watch = store.watch("", Some(5)).await?;
    for wanted in 6..=10 {
        let event = next(&mut watch).await?;
        ensure(matches!(event, WatchEvent::Changes { revision, .. } if revision == wanted), || {
            format!("{event:?} instead of revision {wanted}")
        })?;
    }
    store.compact(10).await?;
    put(store, "a", "live").await?;
    let event = next(&mut watch).await?;
    ensure(matches!(event, WatchEvent::Changes { revision: 11, .. }), || {
        format!("{event:?} after a compaction of what was read")
    })
}

async fn whole(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let mut live = store.watch("w/", Some(0)).await?;
    commit(store, Txn::new().put("w/b", *b"1").put("a", *b"1").put("w/a", *b"1")).await?;
    commit(store, Txn::new().put("a", *b"2").put("w", *b"2").put("w0", *b"2")).await?;
    commit(store, Txn::new().put("z", *b"3").delete("w/b").put("w/c", *b"3").delete("w/none")).await?;
    let mut replayed = store.watch("w/", Some(0)).await?;
    for watch in [&mut live, &mut replayed] {
        let changes = vec![Change::Put(entry("w/a", "1", 1, 1)), Change::Put(entry("w/b", "1", 1, 1))];
        same("the first", &next(watch).await?, &WatchEvent::Changes { revision: 1, changes })?;
        let changes = vec![Change::Delete { key: "w/b".into() }, Change::Put(entry("w/c", "3", 3, 3))];
        same("the second", &next(watch).await?, &WatchEvent::Changes { revision: 3, changes })?;
        ensure(watch.next().now_or_never().is_none(), || "a watch told of another prefix".into())?;
    }
    Ok(())
}

/// Writes revisions `1..=writes` to `slow`, 64 at a time.
async fn write(store: &dyn Store, writes: u64) -> Outcome {
    for _ in 0..writes.div_ceil(64) {
        let puts = (0..64).map(|index| put(store, if index == 0 { "slow/a" } else { "slow/b" }, "value"));
        future::try_join_all(puts).await?;
    }
    Ok(())
}

/// A watcher that does not read while more is written than any engine holds for it, or than one lets it see: either
/// is allowed, a gap is not.
async fn slow(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let mut watch: Watch = store.watch("slow/", Some(0)).await?;
    let mut seen = put(store, "slow/a", "first").await?;
    next(&mut watch).await?;
    // Now it is live, and falls behind.
    ensure(watch.next().now_or_never().is_none(), || "something was told twice".into())?;
    write(store, 2000).await?;
    let last = store.revision().await?;
    while seen < last {
        match said(&mut watch).await? {
            Ok(WatchEvent::Changes { revision, .. }) => {
                same("the next revision", &revision, &(seen + 1))?;
                seen = revision;
            }
            Err(StoreError::Lagged) => {
                ensure(watch.next().await.is_none(), || "a watch goes on after its error".into())?;
                watch = store.watch("slow/", Some(seen)).await?;
            }
            other => return Err(Failure::new(format!("{other:?} to a slow watcher"))),
        }
    }
    Ok(())
}
