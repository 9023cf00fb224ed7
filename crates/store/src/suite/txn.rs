//! Transactions: comparisons, atomicity, revisions, limits.

use super::{Case, Outcome, Subject, bytes, commit, ensure, entry, put, same};
use crate::{Compare, List, StoreError, Txn, TxnOutcome};
use std::sync::Arc;
use tutti_model::limits::{STORE_KEY_BYTES, STORE_TXN_BYTES, STORE_TXN_OPERATIONS, STORE_VALUE_BYTES};

pub(super) const CASES: &[Case] = &[
    Case { name: "comparisons decide", run: |subject| Box::pin(comparisons(subject)) },
    Case { name: "of many contenders exactly one wins", run: |subject| Box::pin(contenders(subject)) },
    Case { name: "a transaction is whole", run: |subject| Box::pin(whole(subject)) },
    Case { name: "what changes nothing has no revision", run: |subject| Box::pin(nothing(subject)) },
    Case { name: "limits hold, and what is just within passes", run: |subject| Box::pin(limits(subject)) },
];

async fn comparisons(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let first = put(store, "there", "1").await?;
    let second = put(store, "there", "2").await?;
    same("the second revision", &second, &(first + 1))?;
    let missing = || Compare::Absent("missing".into());
    let holding = [
        vec![missing()],
        vec![Compare::Present("there".into())],
        vec![Compare::Modified("there".into(), second)],
        vec![missing(), Compare::Present("there".into()), Compare::Modified("there".into(), second)],
    ];
    for (index, compares) in holding.into_iter().enumerate() {
        let txn = Txn { compares, ..Txn::new() }.put(format!("held/{index}"), *b"x");
        commit(store, txn).await?;
    }
    let before = store.revision().await?;
    let failing = [
        (vec![Compare::Absent("there".into())], 0),
        (vec![Compare::Present("missing".into())], 0),
        (vec![Compare::Modified("there".into(), first)], 0),
        (vec![Compare::Modified("missing".into(), first)], 0),
        (vec![missing(), Compare::Modified("there".into(), second + 100)], 1),
        (vec![missing(), Compare::Present("missing".into()), Compare::Absent("there".into())], 1),
    ];
    for (compares, compare) in failing {
        let txn = Txn { compares, ..Txn::new() }.put("there", *b"3").delete("held/0");
        same("a transaction that must not hold", &store.txn(txn).await?, &TxnOutcome::Refused { compare })?;
    }
    same("the revision after refusals", &store.revision().await?, &before)?;
    same("the key after refusals", &store.get("there").await?, &Some(entry("there", "2", first, second)))?;
    commit(store, Txn::new().delete("there")).await?;
    let absent = Txn::new().when(Compare::Absent("there".into())).put("there", *b"4");
    let again = commit(store, absent).await?;
    same("a key made anew", &store.get("there").await?, &Some(entry("there", "4", again, again)))
}

async fn contenders(subject: Subject) -> Outcome {
    const CONTENDERS: usize = 16;
    let store = subject.store;
    let mut revision = None;
    for round in 0..20 {
        let compare = match revision {
            None => Compare::Absent("lock".into()),
            Some(revision) => Compare::Modified("lock".into(), revision),
        };
        let tasks: Vec<_> = (0..CONTENDERS)
            .map(|contender| {
                let store = Arc::clone(&store);
                let txn = Txn::new().when(compare.clone()).put("lock", format!("{contender}").into_bytes());
                tokio::spawn(async move { store.txn(txn).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (contender, task) in tasks.into_iter().enumerate() {
            if let TxnOutcome::Committed(revision) = task.await?? {
                winners.push((contender, revision));
            }
        }
        let [(winner, won)] = winners.as_slice() else {
            return Err(super::Failure::new(format!("round {round}: winners are {winners:?}")));
        };
        let lock = store.get("lock").await?;
        let value = lock.map(|entry| (entry.value, entry.modified));
        same("the winner's value", &value, &Some((bytes(&winner.to_string()), *won)))?;
        revision = Some(*won);
    }
    Ok(())
}

async fn whole(subject: Subject) -> Outcome {
    let store = &*subject.store;
    same("the revision of an empty store", &store.revision().await?, &0)?;
    let first = commit(store, Txn::new().put("b", *b"1").put("a", *b"1").put("c", *b"1")).await?;
    same("the first revision", &first, &1)?;
    let second = commit(store, Txn::new().delete("a").put("c", *b"2").put("d", *b"").delete("zzz")).await?;
    let listing = store.list(List::default()).await?;
    same("the revision of the list", &listing.revision, &second)?;
    let wanted = vec![entry("b", "1", 1, 1), entry("c", "2", 1, 2), entry("d", "", 2, 2)];
    same("what is there", &listing.entries, &wanted)?;
    same("a removed key", &store.get("a").await?, &None)
}

async fn nothing(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let first = put(store, "a", "1").await?;
    same("an empty transaction", &commit(store, Txn::new()).await?, &first)?;
    same("removing what is not there", &commit(store, Txn::new().delete("b")).await?, &first)?;
    same("the next revision", &put(store, "a", "1").await?, &(first + 1))
}

/// Puts whose keys and values have this many bytes together.
fn weighing(bytes: usize) -> Txn {
    let (mut txn, mut left) = (Txn::new(), bytes);
    while left > 0 {
        let key = format!("w/{left:07}");
        let value = left.saturating_sub(key.len()).min(STORE_VALUE_BYTES - 100);
        left = left.saturating_sub(key.len() + value);
        txn = txn.put(key, vec![7u8; value]);
    }
    txn
}

async fn limits(subject: Subject) -> Outcome {
    let store = &*subject.store;
    let largest = (0..STORE_TXN_OPERATIONS).fold(weighing(STORE_TXN_BYTES), |txn, index| {
        txn.when(Compare::Absent(format!("{index:0STORE_KEY_BYTES$}")))
    });
    let fitting = [
        largest,
        Txn::new().put("k".repeat(STORE_KEY_BYTES), *b"1"),
        Txn::new().put("value", vec![7u8; STORE_VALUE_BYTES]),
        (0..STORE_TXN_OPERATIONS).fold(Txn::new(), |txn, index| txn.put(format!("o/{index}"), *b"1")),
        (0..STORE_TXN_OPERATIONS).fold(Txn::new().put("compared", *b"1"), |txn, index| {
            txn.when(Compare::Absent(format!("c/{index}")))
        }),
    ];
    for txn in fitting {
        commit(store, txn).await?;
    }
    let value = store.get("value").await?.map_or(0, |entry| entry.value.len());
    same("the largest value's size", &value, &STORE_VALUE_BYTES)?;
    let before = store.revision().await?;
    let long = "k".repeat(STORE_KEY_BYTES + 1);
    let too_much = [
        Txn::new().put("x", *b"1").put(long.clone(), *b"1"),
        Txn::new().put("x", *b"1").delete(long.clone()),
        Txn::new().put("x", *b"1").when(Compare::Absent(long.clone())),
        Txn::new().put("x", *b"1").put("", *b"1"),
        Txn::new().put("x", *b"1").put("value", vec![7u8; STORE_VALUE_BYTES + 1]),
        (0..=STORE_TXN_OPERATIONS).fold(Txn::new(), |txn, index| txn.put(format!("p/{index}"), *b"1")),
        (0..=STORE_TXN_OPERATIONS)
            .fold(Txn::new().put("x", *b"1"), |txn, index| txn.when(Compare::Absent(format!("c/{index}")))),
        weighing(STORE_TXN_BYTES + 1),
        Txn::new().put("x", *b"1").put("x", *b"2"),
        Txn::new().put("x", *b"1").delete("x"),
    ];
    for (index, txn) in too_much.into_iter().enumerate() {
        let answer = store.txn(txn).await;
        ensure(matches!(answer, Err(StoreError::Invalid(_))), || {
            format!("transaction {index} past a limit: {answer:?}")
        })?;
    }
    let answer = store.get(&long).await;
    ensure(matches!(answer, Err(StoreError::Invalid(_))), || format!("reading too long a key: {answer:?}"))?;
    same("the revision after refusals", &store.revision().await?, &before)
}
