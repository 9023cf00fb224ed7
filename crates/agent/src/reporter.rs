//! Status up by report: says to control what each instance is, at once when the way is free, and again until control
//! has it.
//!
//! At most one report is on its way. What changes meanwhile is coalesced, the latest status of each instance, so
//! nothing is lost that still holds, and nothing arrives out of order.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tutti_api::{ZoneApi, zone::InstanceReport};
use tutti_base::{Backoff, Clock, Random, crashpoint};
use tutti_model::{
    ErrorCode, InstanceId, Millis, Problem,
    instance::{InstanceState, InstanceStatus},
    limits,
    name::NodeName,
};

/// Statuses in one report: control stores them in one transaction together with the tables that they change, so half
/// of a transaction's operations.
pub(crate) const REPORT_INSTANCES: usize = limits::STORE_TXN_OPERATIONS / 2;
/// The first pause after a report that control did not take, and the longest.
const PAUSES: (Millis, Millis) = (Millis(100), Millis::seconds(5));
/// A report that has no answer by then counts as lost; it is said again.
const REPORT_TIMEOUT: Duration = Duration::from_secs(20);

/// What is to be said.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    book: Mutex<Book>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Book {
    latest: BTreeMap<InstanceId, InstanceStatus>,
    unsaid: BTreeSet<InstanceId>,
    /// After control has refused a report for what it says: the next is on one instance, the one after this. So one
    /// status that control does not take holds up no other.
    alone: Option<InstanceId>,
}

impl Reporter {
    /// This is what an instance is now.
    pub(crate) fn say(&self, instance: &InstanceId, status: InstanceStatus) {
        let mut book = self.lock();
        book.latest.insert(instance.clone(), status);
        book.unsaid.insert(instance.clone());
        drop(book);
        self.changed.notify_one();
    }

    /// Control may have lost what it knew: everything is to be said again.
    pub(crate) fn say_all_again(&self) {
        let mut book = self.lock();
        book.unsaid = book.latest.keys().cloned().collect();
        drop(book);
        self.changed.notify_one();
    }

    /// The instance is no longer wanted, and nothing is left to say of it.
    pub(crate) fn forget(&self, instance: &InstanceId) {
        let mut book = self.lock();
        book.latest.remove(instance);
        book.unsaid.remove(instance);
    }

    /// What was said last of each instance, or is to be, and whether control has not taken it yet.
    pub(crate) fn statuses(&self) -> BTreeMap<InstanceId, (InstanceStatus, bool)> {
        let book = self.lock();
        let said = book.latest.iter();
        said.map(|(id, status)| (id.clone(), (status.clone(), book.unsaid.contains(id)))).collect()
    }

    /// How many instances are in each state.
    pub(crate) fn counts(&self) -> BTreeMap<InstanceState, u64> {
        let book = self.lock();
        let mut counts = BTreeMap::new();
        for status in book.latest.values() {
            *counts.entry(status.state).or_default() += 1;
        }
        counts
    }

    /// Says what is to be said until `stop`. `failed` hears of every report that control did not take.
    pub(crate) async fn run(
        self: Arc<Self>,
        node: NodeName,
        zone: Arc<dyn ZoneApi>,
        clock: Arc<dyn Clock>,
        random: Random,
        failed: impl Fn() + Send,
        stop: CancellationToken,
    ) {
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1, random);
        loop {
            let reports = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                reports = self.next() => reports,
            };
            crash_point(&reports, "before");
            let sent = tokio::time::timeout(REPORT_TIMEOUT, zone.report_instances(&node, reports.clone()));
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                result = sent => result.unwrap_or_else(|_| Err(Problem::unavailable("no answer from control"))),
            };
            match result {
                Ok(()) => {
                    crash_point(&reports, "after");
                    pauses.succeed();
                    self.acknowledged(&reports);
                }
                Err(problem) => {
                    failed();
                    if !matches!(problem.code, ErrorCode::Unavailable | ErrorCode::Timeout) {
                        self.refused(&reports);
                    }
                    let pause = pauses.fail();
                    if pauses.failures() == 1 {
                        tracing::warn!(%problem, "control did not take a report; it is said again until it does");
                    }
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = clock.sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// The next report, as soon as there is one.
    async fn next(&self) -> Vec<InstanceReport> {
        loop {
            let changed = self.changed.notified();
            let reports = self.unsaid();
            if !reports.is_empty() {
                return reports;
            }
            changed.await;
        }
    }

    fn unsaid(&self) -> Vec<InstanceReport> {
        let book = self.lock();
        let report = |id: &InstanceId| {
            let status = book.latest.get(id)?.clone();
            Some(InstanceReport { instance: id.clone(), status })
        };
        match &book.alone {
            None => book.unsaid.iter().take(REPORT_INSTANCES).filter_map(report).collect(),
            Some(last) => {
                let next = book.unsaid.range((Bound::Excluded(last), Bound::Unbounded)).next();
                next.or_else(|| book.unsaid.first()).and_then(report).into_iter().collect()
            }
        }
    }

    /// Control did not take these for what they say.
    fn refused(&self, reports: &[InstanceReport]) {
        let mut book = self.lock();
        book.alone = reports.last().map(|report| report.instance.clone());
    }

    /// Control has these; what has changed since is still to be said.
    fn acknowledged(&self, reports: &[InstanceReport]) {
        let mut book = self.lock();
        book.alone = None;
        for report in reports {
            if book.latest.get(&report.instance).is_none_or(|status| *status == report.status) {
                book.unsaid.remove(&report.instance);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One point for each state that is told.
fn crash_point(reports: &[InstanceReport], side: &str) {
    for report in reports {
        crashpoint::reached(|| format!("agent/{}/{side}", report.status.state));
    }
}

#[cfg(test)]
mod tests;
