//! Keeps as many audit records and events as [`limits::AUDIT_RECORDS`] and [`limits::EVENTS`] say: removes the oldest,
//! some at a time.

use super::loops::Pulse;
use crate::{Objects, objects::Write};
use tokio_util::sync::CancellationToken;
use tutti_model::{Millis, Problem, audit::AuditSpec, event::EventSpec, limits, resource::Object};

/// Between two passes. A pass reads what is kept, some megabytes of each, so that it is not done for each record; what
/// comes meanwhile is bounded by how fast people and states change.
const EVERY: Millis = Millis::seconds(300);

/// Runs until `stop`.
pub(super) async fn run(objects: Objects, pulse: Pulse, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = objects.clock().sleep(EVERY) => {}
        }
        pulse.begin();
        let audits = trim::<AuditSpec>(&objects, limits::AUDIT_RECORDS, limits::AUDIT_TRIM).await;
        told(&pulse, audits, "audit records");
        let events = trim::<EventSpec>(&objects, limits::EVENTS, limits::EVENT_TRIM).await;
        told(&pulse, events, "events");
        pulse.end();
    }
}

fn told(pulse: &Pulse, trimmed: Result<usize, Problem>, of: &str) {
    match trimmed {
        Ok(0) => {}
        Ok(removed) => tracing::debug!(removed, of, "the oldest were removed"),
        Err(problem) => {
            pulse.fail(of, &problem);
            tracing::warn!(%problem, of, "the oldest stay for now; trying again");
        }
    }
}

/// Removes the oldest objects of a kind that is listed newest first: those beyond the newest `keep`, at most `most` of
/// them. Gives how many.
pub(crate) async fn trim<S: Object>(objects: &Objects, keep: usize, most: usize) -> Result<usize, Problem> {
    let (mut seen, mut after) = (0, None::<String>);
    let mut old = std::collections::VecDeque::new();
    loop {
        let page = objects.page::<S>("", after.as_deref(), Some(limits::PAGE_SIZE)).await?;
        after = page.items.last().map(|record| record.name.clone()).or(after);
        for record in page.items {
            seen += 1;
            if seen > keep {
                old.push_back(record);
                // Listed newest first: of too many the last ones are the oldest.
                if old.len() > most {
                    old.pop_front();
                }
            }
        }
        if !page.more {
            break;
        }
    }
    let records: Vec<_> = old.into_iter().rev().collect();
    let mut removed = 0;
    for some in records.chunks(limits::STORE_TXN_OPERATIONS - 1) {
        let write = some.iter().fold(objects.write(), Write::delete::<S>);
        match write.commit().await? {
            Some(_) => removed += some.len(),
            // Another leads by now, and trims.
            None => return Ok(removed),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tutti_base::{Random, clock::VirtualClock};
    use tutti_model::Timestamp;
    use tutti_store::memory::MemoryStore;

    #[tokio::test]
    async fn the_oldest_records_go_a_bounded_number_each_pass() {
        let clock: Arc<dyn tutti_base::Clock> = Arc::new(VirtualClock::at(Timestamp(1)));
        let random = Random::seeded(1);
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let objects = Objects::new(store, "local/a".parse().unwrap(), clock, random);
        let total = limits::AUDIT_TRIM + 10;
        for number in 0..total {
            let spec = AuditSpec {
                at: Timestamp(number as u64),
                who: "t".into(),
                user: None,
                from: None,
                request: String::new(),
                operation: "o".into(),
                object: number.to_string(),
                domain: None,
                changes: Vec::new(),
                left_out: 0,
            };
            let record = objects.make(format!("{:016x}", u64::MAX - number as u64), spec);
            assert!(objects.write().create(&record).commit().await.unwrap().is_some());
        }
        let kept = || async { objects.list::<AuditSpec>("").await.unwrap().items };
        let trim = || trim::<AuditSpec>(&objects, 5, limits::AUDIT_TRIM);
        assert_eq!(trim().await.unwrap(), limits::AUDIT_TRIM, "not all at once");
        assert_eq!(kept().await.len(), 10);
        assert_eq!(trim().await.unwrap(), 5);
        let left: Vec<String> = kept().await.into_iter().map(|record| record.spec.object).collect();
        let newest: Vec<String> = (total - 5..total).rev().map(|number| number.to_string()).collect();
        assert_eq!(left, newest);
        assert_eq!(trim().await.unwrap(), 0);
    }
}
