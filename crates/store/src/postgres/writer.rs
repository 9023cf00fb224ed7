//! The writer: the one task of this process that changes what is stored.
//!
//! It takes what is in the queue and makes one transaction of the database of it: it locks the head, so that all
//! processes' batches are one after the other; reads what the requests speak of; decides; writes; commits; and answers.
//! The commit is one wait for the disk for the whole batch.
//!
//! When the connection breaks before the commit was sent, nothing happened, and the batch is tried again. When it
//! breaks after that, the next connection is asked: under the lock of the head, which the old transaction either still
//! holds or has given up by committing or not, the number of this writer's last batch says whether it took effect.

use super::{
    batch::{self, Current, Decided, Head, Outcome, Request, Stored},
    failure::Failure,
    read::Columns,
    session::{Connector, Parameters, Session},
};
use crate::{LeaseId, StoreError, rows::signed};
use futures_util::join;
use std::sync::Arc;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};
use tokio_postgres::types::ToSql;

/// Requests in one batch: the first waits for the work of the last.
const BATCH_REQUESTS: usize = 256;
/// Bytes of keys and values after which a batch takes no more.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Leases ended in one batch; the others follow in the next.
const BATCH_LEASES: i64 = 64;
/// How many times as long as other requests are tried it is asked whether a commit took effect whose answer was lost:
/// it is the only way for the caller to know.
const UNKNOWN: u32 = 2;

pub(super) type Reply = oneshot::Sender<Result<Outcome, StoreError>>;

/// A request in the queue, with its share of the room there.
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) reply: Option<Reply>,
    pub(super) since: Instant,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Job {
    fn weight(&self) -> usize {
        match &self.request {
            Request::Txn(txn) => crate::check::weight(txn),
            _ => 0,
        }
    }
}

pub(super) struct Writer {
    connector: Arc<Connector>,
    queue: mpsc::Receiver<Job>,
    retain: u64,
    /// Told when the oldest state that can be listed has moved.
    compacted: Arc<Notify>,
    /// What this writer is called in the table of writers.
    name: [u8; 16],
    /// The number of its last batch.
    batch: i64,
    session: Option<Session>,
}

/// What became of an attempt to commit a batch.
enum Attempt {
    /// It is on the disk, or there was nothing to write.
    Done(Vec<Result<Outcome, StoreError>>),
    /// Nothing of it happened.
    Nothing(Failure),
    /// The commit was sent, and its answer did not come.
    Unknown { outcomes: Vec<Result<Outcome, StoreError>>, moved: bool, failure: Failure },
}

impl Writer {
    pub(super) fn new(
        connector: Arc<Connector>,
        queue: mpsc::Receiver<Job>,
        retain: u64,
        compacted: Arc<Notify>,
    ) -> Self {
        let mut name = [0; 16];
        connector.random().fill(&mut name);
        Writer { connector, queue, retain, compacted, name, batch: 0, session: None }
    }

    /// Works until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            let mut bytes = first.weight();
            let since = first.since;
            let (mut requests, mut replies, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
            let mut take = |job: Job| {
                requests.push(job.request);
                replies.push(job.reply);
                rooms.push(job.room);
            };
            take(first);
            let mut count = 1;
            while count < BATCH_REQUESTS
                && bytes < BATCH_BYTES
                && let Ok(job) = self.queue.try_recv()
            {
                bytes += job.weight();
                count += 1;
                take(job);
            }
            let answers = self.serve(&requests, since + self.connector.patience).await;
            for (reply, answer) in replies.into_iter().zip(answers) {
                // The caller may have gone.
                let _gone = reply.map(|reply| reply.send(answer));
            }
        }
    }

    /// The answers to a batch.
    async fn serve(&mut self, requests: &[Request], until: Instant) -> Vec<Result<Outcome, StoreError>> {
        let all = |error: &StoreError| requests.iter().map(|_| Err(error.clone())).collect();
        let mut backoff = self.connector.backoff();
        loop {
            let failure = match self.attempt(requests, until).await {
                Attempt::Done(outcomes) => return outcomes,
                Attempt::Nothing(failure @ Failure::Store(_)) => return all(&failure.told()),
                Attempt::Nothing(failure) => failure,
                Attempt::Unknown { outcomes, moved, failure } => {
                    tracing::warn!(%failure, "the answer to a commit was lost; asking whether it took effect");
                    match self.took_effect(Instant::now() + self.connector.patience * UNKNOWN).await {
                        Ok(true) => {
                            if moved {
                                self.compacted.notify_one();
                            }
                            return outcomes;
                        }
                        Ok(false) => failure,
                        Err(again) => {
                            return all(&StoreError::Unavailable(format!(
                                "{}; whether this transaction took effect is not known",
                                again.told()
                            )));
                        }
                    }
                }
            };
            let pause = backoff.fail().duration();
            if Instant::now() + pause >= until {
                return all(&failure.told());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One attempt to commit a batch. A session is kept only if all went well on it.
    async fn attempt(&mut self, requests: &[Request], until: Instant) -> Attempt {
        let connector = Arc::clone(&self.connector);
        let session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => match connector.patiently(until).await {
                Ok(session) => session,
                Err(failure) => return Attempt::Nothing(failure),
            },
        };
        let stored = match load(&connector, &session, requests).await {
            Ok(stored) => stored,
            Err(failure) => return Attempt::Nothing(failure),
        };
        let before = stored.head;
        let decided = batch::decide(requests, stored, self.retain);
        if !decided.writes(before) {
            if connector.exchange(session.batch_execute("ROLLBACK")).await.is_ok() {
                self.session = Some(session);
            }
            return Attempt::Done(decided.outcomes);
        }
        self.batch += 1;
        if let Err(failure) = write(&connector, &session, &decided, &self.name, self.batch).await {
            return Attempt::Nothing(failure);
        }
        let moved = decided.head.compacted != before.compacted;
        // From here on it may take effect, whatever is heard of it.
        match connector.exchange(session.batch_execute("COMMIT")).await {
            Ok(()) => {
                self.session = Some(session);
                if moved {
                    self.compacted.notify_one();
                }
                Attempt::Done(decided.outcomes)
            }
            Err(failure) => Attempt::Unknown { outcomes: decided.outcomes, moved, failure },
        }
    }

    /// Whether the last batch took effect.
    async fn took_effect(&mut self, until: Instant) -> Result<bool, Failure> {
        let connector = Arc::clone(&self.connector);
        let mut backoff = connector.backoff();
        loop {
            let failure = match self.ask_effect(&connector, until).await {
                Err(failure @ (Failure::Lost(_) | Failure::Again(_))) => failure,
                done => return done,
            };
            let pause = backoff.fail().duration();
            if Instant::now() + pause >= until {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask_effect(&mut self, connector: &Connector, until: Instant) -> Result<bool, Failure> {
        let session = connector.patiently(until).await?;
        let name = self.name.as_slice();
        let parameters: Parameters<'_, 1> = [&name];
        let (begun, locked, asked) = join!(
            connector.exchange(session.batch_execute(BEGIN)),
            connector.exchange(session.query_one(&session.statements.lock, &[])),
            connector.exchange(session.query_opt(&session.statements.last_batch, &parameters)),
        );
        begun?;
        locked?;
        let last: i64 = match asked? {
            Some(row) => Columns { connector, row: &row }.get(0)?,
            None => 0,
        };
        connector.exchange(session.batch_execute("ROLLBACK")).await?;
        self.session = Some(session);
        Ok(last == self.batch)
    }
}

/// Each statement sees what is committed when it begins, so that those after the lock see the last batch.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// Begins, and gets all that requests speak of, under the lock of the head. All questions are on their way at once,
/// and the server takes them in order.
async fn load(connector: &Connector, session: &Session, requests: &[Request]) -> Result<Stored, Failure> {
    let keys: Vec<&[u8]> = batch::keys(requests).into_iter().collect();
    let (used, revoked) = batch::leases(requests);
    let ids =
        |leases: &mut dyn Iterator<Item = &LeaseId>| leases.map(|lease| signed(lease.0)).collect::<Vec<_>>();
    let named = ids(&mut used.iter().chain(&revoked));
    let expire = requests.iter().any(|request| matches!(request, Request::Expire));
    let grants = requests.iter().any(|request| matches!(request, Request::Grant(_)));
    let statements = &session.statements;
    let keys_parameters: Parameters<'_, 1> = [&keys];
    let leases_parameters: Parameters<'_, 1> = [&named];
    let due_parameters: Parameters<'_, 1> = [&BATCH_LEASES];
    let asking = async {
        let (begun, head, current, leases, due, count) = join!(
            session.batch_execute(BEGIN),
            session.query_one(&statements.lock, &[]),
            when(!keys.is_empty(), session.query(&statements.keys, &keys_parameters)),
            when(!named.is_empty(), session.query(&statements.leases, &leases_parameters)),
            when(expire, session.query(&statements.due, &due_parameters)),
            when(grants, session.query(&statements.count_leases, &[])),
        );
        begun?;
        Ok((head?, current?, leases?, due?, count?))
    };
    let (head, current, leases, due, count) = connector.exchange(asking).await?;
    let columns = Columns { connector, row: &head };
    let mut stored = Stored {
        head: Head { revision: columns.number(0)?, compacted: columns.number(1)?, lease: columns.number(2)? },
        ..Stored::default()
    };
    for row in &leases {
        let columns = Columns { connector, row };
        stored.leases.insert(LeaseId(columns.number(0)?), columns.get(1)?);
    }
    for row in &due {
        stored.due.push(LeaseId(Columns { connector, row }.number(0)?));
    }
    for row in &count {
        let count = Columns { connector, row }.number(0)?;
        stored.lease_count = usize::try_from(count).unwrap_or(usize::MAX);
    }
    let ending = ids(&mut revoked.iter().chain(&stored.due));
    let leased = if ending.is_empty() {
        Vec::new()
    } else {
        connector.exchange(session.query(&statements.keys_of, &[&ending])).await?
    };
    for row in current.iter().chain(&leased) {
        let columns = Columns { connector, row };
        let current = Current { id: columns.get(1)?, created: columns.number(2)?, lease: columns.lease(3)? };
        stored.current.insert(columns.get(0)?, current);
    }
    Ok(stored)
}

/// Asks only if there is a reason to.
async fn when<T>(
    ask: bool,
    asking: impl Future<Output = Result<Vec<T>, tokio_postgres::Error>>,
) -> Result<Vec<T>, tokio_postgres::Error> {
    if ask { asking.await } else { Ok(Vec::new()) }
}

/// Writes everything but the commit.
async fn write(
    connector: &Connector,
    session: &Session,
    decided: &Decided<'_>,
    name: &[u8],
    batch: i64,
) -> Result<(), Failure> {
    let statements = &session.statements;
    let rows = &decided.rows;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let keys: Vec<&[u8]> = rows.iter().map(|row| &*row.key).collect();
    let created: Vec<Option<i64>> =
        rows.iter().map(|row| row.put.map(|(created, ..)| signed(created))).collect();
    let leases: Vec<Option<i64>> =
        rows.iter().map(|row| row.put.and_then(|(_, lease, _)| lease).map(|lease| signed(lease.0))).collect();
    let values: Vec<Option<&[u8]>> = rows.iter().map(|row| row.put.map(|(.., value)| value)).collect();
    let history: Parameters<'_, 5> = [&ids, &keys, &created, &leases, &values];

    let put: Vec<(&[u8], Current)> =
        decided.current.iter().filter_map(|(key, current)| Some((key.as_slice(), (*current)?))).collect();
    let put_keys: Vec<&[u8]> = put.iter().map(|(key, _)| *key).collect();
    let put_ids: Vec<i64> = put.iter().map(|(_, current)| current.id).collect();
    let put_created: Vec<i64> = put.iter().map(|(_, current)| signed(current.created)).collect();
    let put_leases: Vec<Option<i64>> =
        put.iter().map(|(_, current)| current.lease.map(|lease| signed(lease.0))).collect();
    let current: Parameters<'_, 4> = [&put_keys, &put_ids, &put_created, &put_leases];

    let gone: Vec<&[u8]> = decided
        .current
        .iter()
        .filter(|(_, current)| current.is_none())
        .map(|(key, _)| key.as_slice())
        .collect();
    let dropped: Parameters<'_, 1> = [&gone];

    let granted: Vec<i64> = decided.granted.iter().map(|(lease, _)| signed(lease.0)).collect();
    let ttls: Vec<i64> = decided.granted.iter().map(|(_, ttl)| signed(ttl.0)).collect();
    let grants: Parameters<'_, 2> = [&granted, &ttls];
    let ended: Vec<i64> = decided.ended.iter().map(|lease| signed(lease.0)).collect();
    let ends: Parameters<'_, 1> = [&ended];

    let head = decided.head;
    let (revision, compacted, lease) = (signed(head.revision), signed(head.compacted), signed(head.lease));
    let finish: Parameters<'_, 5> = [&name, &batch, &revision, &compacted, &lease];
    let run = async |wanted: bool, statement, parameters: &[&(dyn ToSql + Sync)]| {
        if wanted { session.execute(statement, parameters).await } else { Ok(0) }
    };
    let writing = async {
        let results = join!(
            run(!rows.is_empty(), &statements.put_history, &history),
            run(!put.is_empty(), &statements.put_current, &current),
            run(!gone.is_empty(), &statements.drop_current, &dropped),
            run(!granted.is_empty(), &statements.put_leases, &grants),
            run(!ended.is_empty(), &statements.drop_leases, &ends),
            run(true, &statements.finish, &finish),
        );
        results.0.and(results.1).and(results.2).and(results.3).and(results.4).and(results.5)
    };
    connector.exchange(writing).await.map(drop)
}
