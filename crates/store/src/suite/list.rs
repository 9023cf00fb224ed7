//! Lists: prefixes, pages, the past.

use super::{Case, Outcome, Subject, commit, ensure, entry, keys, put, same};
use crate::{List, StoreError, Txn};

pub(super) const CASES: &[Case] = &[
    Case { name: "a prefix is exact", run: |subject| Box::pin(prefixes(subject)) },
    Case { name: "pages join without a gap", run: |subject| Box::pin(pages(subject)) },
    Case { name: "the past can be listed at any revision", run: |subject| Box::pin(past(subject)) },
    Case { name: "compaction is told to the lister", run: |subject| Box::pin(compacted(subject)) },
];

async fn prefixes(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let all = ["a", "a-", "a/", "a/1", "a/\u{7f}", "a/é", "a/\u{10ffff}x", "a0", "a\u{0}", "b"];
    for key in all {
        put(store, key, key).await?;
    }
    let mut sorted: Vec<String> = all.iter().map(ToString::to_string).collect();
    sorted.sort();
    for prefix in ["", "a", "a/", "a/1", "a/\u{10ffff}", "b", "c", "a/é"] {
        let wanted: Vec<String> = sorted.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
        same(&format!("below \"{prefix}\""), &keys(store, List::prefix(prefix)).await?, &wanted)?;
    }
    for key in all {
        let value = store.get(key).await?.map(|entry| entry.value.to_vec());
        same(&format!("the value of {key:?}"), &value, &Some(key.as_bytes().to_vec()))?;
    }
    Ok(())
}

async fn pages(subject: Subject) -> Outcome {
    let store = &*subject.store;
    for first in (0..100).step_by(50) {
        let txn = (first..first + 50).fold(Txn::new(), |txn, index| txn.put(format!("p/{index:03}"), *b"1"));
        commit(store, txn).await?;
    }
    put(store, "q", "1").await?;
    let at = Some(store.revision().await?);
    commit(store, Txn::new().delete("p/050").put("p/0505", *b"1")).await?;
    let wanted: Vec<String> = (0..100).map(|index| format!("p/{index:03}")).collect();
    for limit in [1, 7, 50, 99, 100, 101] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let list = List { prefix: "p/".into(), at, after, limit: Some(limit) };
            let page = store.list(list).await?;
            ensure(page.entries.len() <= limit, || format!("a page of {limit} has {}", page.entries.len()))?;
            same("the revision of a page", &Some(page.revision), &at)?;
            seen.extend(page.entries.into_iter().map(|entry| entry.key));
            after = seen.last().cloned();
            if !page.more {
                break;
            }
            ensure(seen.len() <= wanted.len(), || format!("pages of {limit} do not end"))?;
        }
        same(&format!("pages of {limit}"), &seen, &wanted)?;
    }
    let list = |after: &str| List { prefix: "p/".into(), after: Some(after.into()), ..List::default() };
    same("after a key before the prefix", &keys(store, list("a")).await?.len(), &100)?;
    same("after a key that is not there", &keys(store, list("p/0985")).await?, &vec!["p/099".to_owned()])?;
    same("after a key past the prefix", &keys(store, list("q")).await?, &Vec::new())
}

async fn past(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let mut states = vec![Vec::new()];
    put(store, "k/a", "1").await?;
    states.push(vec![entry("k/a", "1", 1, 1)]);
    put(store, "k/b", "2").await?;
    states.push(vec![entry("k/a", "1", 1, 1), entry("k/b", "2", 2, 2)]);
    put(store, "k/a", "3").await?;
    states.push(vec![entry("k/a", "3", 1, 3), entry("k/b", "2", 2, 2)]);
    commit(store, Txn::new().delete("k/a")).await?;
    states.push(vec![entry("k/b", "2", 2, 2)]);
    put(store, "other", "x").await?;
    states.push(vec![entry("k/b", "2", 2, 2)]);
    put(store, "k/a", "5").await?;
    states.push(vec![entry("k/a", "5", 6, 6), entry("k/b", "2", 2, 2)]);
    let mut current = 0;
    for (at, wanted) in (0..).zip(states) {
        let list = List { at: Some(at), ..List::prefix("k/") };
        same(&format!("as of {at}"), &store.list(list).await?.entries, &wanted)?;
        current = at;
    }
    let answer = store.list(List { at: Some(current + 1), ..List::default() }).await;
    same("the future", &answer, &Err(StoreError::Future { asked: current + 1, current }))
}

async fn compacted(subject: Subject) -> Outcome {
    let store = &*subject.store;
    put(store, "gone", "1").await?;
    for value in 0..20 {
        put(store, "a", &value.to_string()).await?;
    }
    commit(store, Txn::new().delete("gone")).await?;
    put(store, "a", "last").await?;
    let floor = 15;
    let at = |revision| List { at: Some(revision), ..List::default() };
    let before: Vec<_> = {
        let mut before = Vec::new();
        for revision in floor..=23 {
            before.push(store.list(at(revision)).await?);
        }
        before
    };
    store.compact(floor).await?;
    for asked in [0, 1, floor - 1] {
        let answer = store.list(at(asked)).await;
        same("compacted away", &answer, &Err(StoreError::Compacted { asked, oldest: floor }))?;
    }
    for wanted in &before {
        same("what is retained", &store.list(at(wanted.revision)).await?, wanted)?;
    }
    store.compact(3).await?;
    same("compacting less", &store.list(at(floor)).await?.revision, &floor)?;
    let answer = store.compact(1000).await;
    ensure(matches!(answer, Err(StoreError::Future { .. })), || {
        format!("compacting the future: {answer:?}")
    })?;
    store.compact(23).await?;
    same("the present", &store.list(List::default()).await?.entries, &vec![entry("a", "last", 2, 23)])?;
    same("the next revision", &put(store, "gone", "again").await?, &24)?;
    same("a key made anew", &store.get("gone").await?, &Some(entry("gone", "again", 24, 24)))
}
