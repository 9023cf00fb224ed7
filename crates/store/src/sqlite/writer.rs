//! The writer: the one thread that changes the database.
//!
//! It takes what is in the queue, applies it in order, commits once, tells the watchers, and answers. Between batches
//! it sweeps old history and moves the log into the database file, both bounded, after the answers are out.

use super::{apply::Batch, failure::Failure, sweep};
use crate::{LeaseId, Revision, StoreError, Txn, TxnOutcome, leases::Leases, watchers::Watchers};
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tutti_model::Millis;

/// Requests in one batch: the first waits for the work of the last.
const BATCH_REQUESTS: usize = 256;
/// Bytes of keys and values after which a batch takes no more: what SQLite holds back from the disk until the commit.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Leases ended in one batch; the others follow in the next.
const BATCH_LEASES: usize = 64;
/// Pages of log after which it is moved into the database file: SQLite's own number, 4 MiB.
const LOG_PAGES: usize = 1000;
/// Pages that a batch writes beside its rows, and that each row writes: estimates, checked against the log each time
/// it is moved.
const PAGES_BATCH: usize = 2;
const PAGES_ROW: usize = 3;

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked for.
pub(super) enum Request {
    Txn {
        txn: Txn,
        reply: Reply<TxnOutcome>,
    },
    Grant {
        ttl: Millis,
        reply: Reply<LeaseId>,
    },
    Revoke {
        lease: LeaseId,
        reply: Reply<()>,
    },
    /// Leases may be due; each batch ends those that are.
    Expire,
    Compact {
        revision: Revision,
        reply: Reply<()>,
    },
}

/// A request in the queue, with its share of the room there.
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// An answer that waits for the commit.
enum Answer {
    Txn(Reply<TxnOutcome>, Result<TxnOutcome, StoreError>),
    Grant(Reply<LeaseId>, Result<LeaseId, StoreError>),
    Done(Reply<()>, Result<(), StoreError>),
}

impl Answer {
    /// Gives the answer; or the reason why nothing of the batch was committed. The caller may have gone.
    fn give(self, failed: Option<&StoreError>) {
        fn send<T>(reply: Reply<T>, result: Result<T, StoreError>, failed: Option<&StoreError>) {
            let _gone = reply.send(failed.map_or(result, |error| Err(error.clone())));
        }
        match self {
            Answer::Txn(reply, result) => send(reply, result, failed),
            Answer::Grant(reply, result) => send(reply, result, failed),
            Answer::Done(reply, result) => send(reply, result, failed),
        }
    }
}

/// Leases that a batch began to end.
#[derive(Default)]
struct Ending {
    revoked: Vec<LeaseId>,
    expired: Vec<LeaseId>,
}

pub(super) struct Writer {
    connection: Connection,
    path: PathBuf,
    queue: mpsc::Receiver<Job>,
    leases: Arc<Leases>,
    watchers: Arc<Watchers>,
    retain: u64,
    /// Whether old history is left to sweep.
    sweeping: bool,
    /// Pages in the log, as estimated.
    log_pages: usize,
    /// After a failed fsync what is on the disk is not known until the log is read again.
    broken: Option<StoreError>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        path: &Path,
        queue: mpsc::Receiver<Job>,
        leases: Arc<Leases>,
        watchers: Arc<Watchers>,
        retain: u64,
    ) -> Self {
        Writer {
            connection,
            path: path.to_owned(),
            queue,
            leases,
            watchers,
            retain,
            sweeping: true,
            log_pages: 0,
            broken: None,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut jobs = Vec::with_capacity(BATCH_REQUESTS);
        while let Some(first) = self.next() {
            let mut bytes = weight(&first);
            jobs.push(first);
            while jobs.len() < BATCH_REQUESTS
                && bytes < BATCH_BYTES
                && let Ok(job) = self.queue.try_recv()
            {
                bytes += weight(&job);
                jobs.push(job);
            }
            let rows = self.serve(&mut jobs);
            self.tidy(rows);
        }
        self.move_log("TRUNCATE");
    }

    /// The next request; sweeps while there is none.
    fn next(&mut self) -> Option<Job> {
        while self.sweeping {
            match self.queue.try_recv() {
                Ok(job) => return Some(job),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => self.sweep(sweep::STEP_ROWS),
            }
        }
        self.queue.blocking_recv()
    }

    /// Commits a batch and answers it; gives the number of rows it wrote.
    fn serve(&mut self, jobs: &mut Vec<Job>) -> usize {
        let mut answers = Vec::with_capacity(jobs.len());
        let mut rooms = Vec::with_capacity(jobs.len());
        let mut ending = Ending::default();
        let mut requests = Vec::with_capacity(jobs.len());
        for Job { request, _room } in jobs.drain(..) {
            requests.push(request);
            rooms.push(_room);
        }
        let committed = match &self.broken {
            Some(error) => {
                refuse(requests, error);
                return 0;
            }
            None => self.commit(requests, &mut answers, &mut ending),
        };
        let failed = committed.as_ref().err().cloned();
        for answer in answers {
            answer.give(failed.as_ref());
        }
        let rows = match committed {
            Ok(rows) => {
                for lease in ending.revoked.into_iter().chain(ending.expired) {
                    self.leases.forget(lease);
                }
                rows
            }
            Err(_) => {
                ending.revoked.into_iter().for_each(|lease| self.leases.restore(lease));
                ending.expired.into_iter().for_each(|lease| self.leases.retry(lease));
                0
            }
        };
        self.leases.settle();
        rows
    }

    /// Applies and commits, and then tells the watchers.
    fn commit(
        &mut self,
        requests: Vec<Request>,
        answers: &mut Vec<Answer>,
        ending: &mut Ending,
    ) -> Result<usize, StoreError> {
        let mut requests = requests.into_iter();
        let outcome = (|| {
            let mut batch = Batch::begin(&self.connection, &self.leases)?;
            ending.expired = self.leases.end_due(BATCH_LEASES);
            ending.expired.iter().try_for_each(|lease| batch.end_lease(*lease))?;
            for request in requests.by_ref() {
                apply(&mut batch, &self.leases, request, answers, ending)?;
            }
            batch.commit()?;
            Ok(batch)
        })();
        match outcome {
            Ok(batch) => {
                for (lease, ttl) in &batch.granted {
                    self.leases.add(*lease, *ttl);
                }
                self.watchers.publish(&batch.commits);
                if batch.dirty {
                    self.log_pages += PAGES_BATCH + PAGES_ROW * batch.rows + batch.bytes / 4096;
                    self.sweeping = true;
                }
                Ok(batch.rows)
            }
            Err(failure) => {
                let error = self.roll_back(failure);
                refuse(requests.collect(), &error);
                Err(error)
            }
        }
    }

    /// Takes the connection back to the last commit.
    fn roll_back(&mut self, failure: Failure) -> StoreError {
        let fsync = matches!(&failure, Failure::Sqlite(error)
            if error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC));
        let error = failure.at(&self.path);
        tracing::warn!(%error, "a commit failed; nothing of it is visible");
        if !self.connection.is_autocommit()
            && let Err(again) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(error = %again, "rolling back failed");
        }
        if fsync {
            // The system may have dropped what it failed to write, so that a later fsync would succeed for nothing.
            self.broken = Some(StoreError::Unavailable(format!(
                "{}: writing to the disk failed; restart once the disk is sound",
                self.path.display()
            )));
        }
        error
    }

    /// What can be done after the answers.
    fn tidy(&mut self, rows: usize) {
        if self.sweeping && rows >= sweep::STEP_ROWS {
            // Under full load there is no pause to sweep in; as much is forgotten as was written.
            self.sweep(rows.saturating_mul(2));
        } else if self.sweeping && rows > 0 && !self.queue.is_empty() {
            self.sweep(sweep::STEP_ROWS);
        }
        if self.log_pages >= LOG_PAGES {
            self.move_log("PASSIVE");
        }
    }

    fn sweep(&mut self, most: usize) {
        if self.broken.is_some() {
            self.sweeping = false;
            return;
        }
        match sweep::step(&self.connection, self.retain, most) {
            Ok(swept) => {
                self.sweeping = swept.more;
                self.log_pages += PAGES_BATCH + swept.rows;
            }
            Err(failure) => {
                // After the next commit it is tried again.
                self.sweeping = false;
                self.roll_back(failure);
            }
        }
    }

    /// Moves the log into the database file, so that the log can begin anew.
    fn move_log(&mut self, how: &str) {
        let moved = self.connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |row| {
            let (in_log, moved): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(usize::try_from(in_log - moved).unwrap_or(0))
        });
        match moved {
            Ok(left) => self.log_pages = left,
            Err(error) => {
                // The log keeps it all; it is tried again after as many pages more.
                self.log_pages = 0;
                tracing::warn!(%error, path = %self.path.display(), "the store's log could not be moved into its file");
            }
        }
    }
}

fn weight(job: &Job) -> usize {
    match &job.request {
        Request::Txn { txn, .. } => crate::check::weight(txn),
        _ => 0,
    }
}

/// Applies one request. An error is the whole batch's; what is wrong with this request alone is its answer.
fn apply(
    batch: &mut Batch<'_>,
    leases: &Leases,
    request: Request,
    answers: &mut Vec<Answer>,
    ending: &mut Ending,
) -> Result<(), Failure> {
    match request {
        Request::Txn { txn, reply } => {
            keep(batch.txn(&txn), |result| answers.push(Answer::Txn(reply, result)))
        }
        Request::Grant { ttl, reply } => {
            keep(batch.grant(ttl), |result| answers.push(Answer::Grant(reply, result)))
        }
        Request::Revoke { lease, reply } => {
            let ended = match leases.end(lease) {
                Ok(()) => {
                    ending.revoked.push(lease);
                    batch.end_lease(lease)
                }
                Err(error) => Err(error.into()),
            };
            keep(ended, |result| answers.push(Answer::Done(reply, result)))
        }
        Request::Expire => Ok(()),
        Request::Compact { revision, reply } => {
            keep(batch.compact(revision), |result| answers.push(Answer::Done(reply, result)))
        }
    }
}

/// Hands on what the contract answers; for SQLite's fault, the answer is the batch's.
fn keep<T>(result: Result<T, Failure>, answer: impl FnOnce(Result<T, StoreError>)) -> Result<(), Failure> {
    match result {
        Ok(done) => answer(Ok(done)),
        Err(Failure::Store(error)) => answer(Err(error)),
        Err(Failure::Sqlite(error)) => {
            // Stands in for the batch's own answer, which takes its place.
            answer(Err(StoreError::Unavailable("the commit failed".into())));
            return Err(error.into());
        }
    }
    Ok(())
}

fn refuse(requests: Vec<Request>, error: &StoreError) {
    for request in requests {
        match request {
            Request::Txn { reply, .. } => drop(reply.send(Err(error.clone()))),
            Request::Grant { reply, .. } => drop(reply.send(Err(error.clone()))),
            Request::Revoke { reply, .. } | Request::Compact { reply, .. } => {
                drop(reply.send(Err(error.clone())));
            }
            Request::Expire => {}
        }
    }
}
