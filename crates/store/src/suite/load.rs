//! Many writers at once.

use super::{Case, Failure, Outcome, SOON, Subject, commit, said, same};
use crate::{Compare, Revision, Store, StoreError, Txn, TxnOutcome, WatchEvent};
use std::sync::Arc;

pub(super) const CASES: &[Case] = &[Case {
    name: "64 writers make 10,000 writes, and a watcher sees each once and in order",
    run: |subject| Box::pin(writers(subject)),
}];

const WRITERS: u64 = 64;
const WRITES: u64 = 10_000;
/// Writers that contend for one counter: some lose each round, and not so many that the case is about nothing else.
const CONTENDERS: u64 = 4;

async fn writers(subject: Subject) -> Outcome {
    let store = subject.store;
    let watchers =
        [tokio::spawn(watch(Arc::clone(&store), None)), tokio::spawn(watch(Arc::clone(&store), Some(100)))];
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let share = WRITES / WRITERS + u64::from(writer < WRITES % WRITERS);
            tokio::spawn(count(Arc::clone(&store), format!("counter/{:02}", writer / CONTENDERS), share))
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let mut sum = 0;
    for entry in store.list(crate::List::prefix("counter/")).await?.entries {
        sum += number(&entry.value)?;
    }
    same("the sum of the counters", &sum, &WRITES)?;
    let last = commit(&*store, Txn::new().put("end", *b"1")).await?;
    same("the revisions", &last, &(WRITES + 1))?;
    for watcher in watchers {
        tokio::time::timeout(SOON, watcher)
            .await
            .map_err(|_| Failure::new("a watcher did not see the end"))???;
    }
    Ok(())
}

fn number(value: &[u8]) -> Result<u64, Failure> {
    let text = String::from_utf8_lossy(value);
    text.parse().map_err(|_| Failure::new(format!("a counter has the value \"{text}\"")))
}

/// Raises a counter `times`, against others who do so too.
async fn count(store: Arc<dyn Store>, key: String, times: u64) -> Outcome {
    let mut done = 0;
    while done < times {
        let (compare, value) = match store.get(&key).await? {
            None => (Compare::Absent(key.clone()), 0),
            Some(entry) => (Compare::Modified(key.clone(), entry.modified), number(&entry.value)?),
        };
        let txn = Txn::new().when(compare).put(key.clone(), (value + 1).to_string().into_bytes());
        if let TxnOutcome::Committed(_) = store.txn(txn).await? {
            done += 1;
        }
    }
    Ok(())
}

/// Follows every revision up to the one that sets `end`; begins a new watch, from where it is, every so often.
async fn watch(store: Arc<dyn Store>, rejoin: Option<u64>) -> Outcome {
    let mut seen: Revision = 0;
    let mut watch = store.watch("", Some(0)).await?;
    loop {
        match said(&mut watch).await? {
            Ok(WatchEvent::Changes { revision, changes }) => {
                same("the next revision", &revision, &(seen + 1))?;
                seen = revision;
                if changes.iter().any(|change| crate::watchers::change_key(change) == "end") {
                    return Ok(());
                }
                if rejoin.is_some_and(|every| revision % every == 0) {
                    watch = store.watch("", Some(seen)).await?;
                }
            }
            Err(StoreError::Lagged) => watch = store.watch("", Some(seen)).await?,
            other => return Err(Failure::new(format!("{other:?} to a resumed watch"))),
        }
    }
}
