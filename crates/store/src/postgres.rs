//! The engine over PostgreSQL, 15 or newer: for several controls, over a database that somebody runs anyway.
//!
//! **Writes** go through one task ([`writer`]) and a bounded queue. What queued up while the last commit was on its way
//! is decided in order ([`batch`]), each transaction at its own revision, and committed as one transaction of the
//! database. Batches of all processes are one after the other, by a lock of the row that has the last revision, so that
//! revisions are handed out in the order of commits and without a gap. A commit whose answer was lost is asked after.
//!
//! **Reads** ([`read`]) run on a few connections that are shared, each in one statement. A commit becomes visible only
//! after its fsync and before its answer, so that they are linearizable.
//!
//! **Watches** are those of every engine with a history (`crate::watch`); a follower ([`follow`]) reads what this and
//! other processes commit, and is told by a notice that there is something to read.
//!
//! **Leases** expire by the server's clock, and old history is forgotten, in [`upkeep`].
//!
//! What a database that is lost, fails over or runs full means for a caller is in [`failure`], [`session`] and
//! `docs/adr/0015-the-store-on-postgresql.md`.

mod address;
mod batch;
mod failure;
mod follow;
mod read;
mod schema;
mod session;
mod statements;
mod tls;
mod upkeep;
mod writer;

pub use address::{PostgresAddress, Tls, redacted};

use crate::{
    Entry, LeaseId, List, Listing, Revision, Store, StoreError, Txn, TxnOutcome, Watch, check,
    watch::{self, Bounds, History, Page},
    watchers::Watchers,
};
use async_trait::async_trait;
use batch::{Outcome, Request};
use failure::Failure;
use follow::Follower;
use read::{AskBounds, AskChanges, AskKey};
use session::{Connector, Sessions};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::Instant,
};
use tutti_base::Random;
use tutti_model::Millis;
use upkeep::{KeepAlive, Upkeep};
use writer::{Job, Writer};

/// Requests that may wait for the writer. Past it, callers wait for a place; more would only lengthen the wait.
const QUEUE_REQUESTS: usize = 1024;
/// Keys and values that may wait for the writer, in KiB (64 MiB): four of the largest transactions.
const QUEUE_KIB: u32 = 64 * 1024;

/// How a store on PostgreSQL is run.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// From where pauses between attempts, and the name of this process's writer, are drawn.
    pub random: Random,
    /// How many of the last revisions can be listed and watched from; older ones are forgotten little by little. At
    /// least 1. Where several processes differ, the least holds.
    pub retain_revisions: u64,
    /// How long a request goes on trying to reach a server that is away, before it says so; twice as long where the
    /// outcome of a commit is to be found out.
    pub patience: Duration,
    /// Whether a server that does not wait for its disk (`fsync = off`) is refused. Only tests that are about something
    /// else go without.
    pub durable: bool,
}

impl Default for PostgresOptions {
    /// As many revisions as the other engines, 15 s, which a restart of the server takes less than, and nothing without
    /// the disk.
    fn default() -> Self {
        PostgresOptions {
            random: Random::from_os(),
            retain_revisions: crate::memory::RETAIN_REVISIONS,
            patience: Duration::from_secs(15),
            durable: true,
        }
    }
}

/// A store in a PostgreSQL database, beside any number of others in other processes. Cloning shares it; its
/// connections are closed when the last clone is dropped and the writes under way are done.
#[derive(Clone)]
pub struct PostgresStore(Arc<Shared>);

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresStore").field(&self.0.sessions.connector).finish()
    }
}

struct Shared {
    queue: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    sessions: Arc<Sessions>,
    watchers: Arc<Watchers>,
    tasks: [AbortHandle; 2],
}

impl PostgresStore {
    /// Connects to the database, and makes the tables if there are none. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Unavailable` if the server is not reached in time, refuses the user, is older than 15 or does not wait for
    /// its disk, or if the tables were written by a newer release; `Invalid` for what is wrong with the certificates
    /// that are named; the others as they say.
    pub async fn open(
        address: PostgresAddress,
        options: PostgresOptions,
    ) -> Result<PostgresStore, StoreError> {
        let connector = Arc::new(Connector::new(address, options.random, options.patience)?);
        prepare(&connector, options.durable).await?;
        let sessions = Arc::new(Sessions::new(Arc::clone(&connector)));
        let current = sessions.ask(AskBounds).await?.current;
        let (watchers, compacted) = (Arc::<Watchers>::default(), Arc::new(Notify::new()));
        let (queue, jobs) = mpsc::channel(QUEUE_REQUESTS);
        let retain = options.retain_revisions;
        // It ends by itself, when the queue is closed and all that was asked is done.
        tokio::spawn(Writer::new(Arc::clone(&connector), jobs, retain, Arc::clone(&compacted)).run());
        let follower = Follower::new(Arc::clone(&connector), Arc::clone(&watchers), current);
        let upkeep = Upkeep { connector, queue: queue.downgrade(), compacted };
        let tasks = [tokio::spawn(follower.run()).abort_handle(), tokio::spawn(upkeep.run()).abort_handle()];
        let room = Arc::new(Semaphore::new(usize::try_from(QUEUE_KIB).unwrap_or(usize::MAX)));
        Ok(PostgresStore(Arc::new(Shared { queue, room, sessions, watchers, tasks })))
    }
}

/// Sees that the tables are there, as soon as the server is.
async fn prepare(connector: &Connector, durable: bool) -> Result<(), StoreError> {
    let until = Instant::now() + connector.patience;
    let mut backoff = connector.backoff();
    loop {
        let prepared = async {
            let raw = connector.raw().await?;
            schema::prepare(connector, &raw.client, durable).await
        };
        let failure = match prepared.await {
            Ok(()) => return Ok(()),
            Err(failure @ Failure::Store(_)) => return Err(failure.told()),
            Err(failure) => failure,
        };
        let pause = backoff.fail().duration();
        if Instant::now() + pause >= until {
            return Err(failure.told());
        }
        tokio::time::sleep(pause).await;
    }
}

impl Shared {
    /// Asks the writer, and waits for its answer. A caller that stops waiting does not undo its request.
    async fn ask(&self, bytes: usize, request: Request) -> Result<Outcome, StoreError> {
        let stopped = || StoreError::Unavailable("its writer has stopped".into());
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| stopped())?;
        let (reply, answer) = oneshot::channel();
        let job = Job { request, reply: Some(reply), since: Instant::now(), room: Some(room) };
        self.queue.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What the writer answered to something else.
fn unexpected(outcome: &Outcome) -> StoreError {
    StoreError::Corrupt(format!("its writer answered {outcome:?}"))
}

#[async_trait]
impl Store for PostgresStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        check::key(key)?;
        self.0.sessions.ask(AskKey(key.to_owned())).await
    }

    async fn list(&self, list: List) -> Result<Listing, StoreError> {
        check::prefix(&list.prefix)?;
        self.0.sessions.ask(list).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        check::txn(&txn)?;
        match self.0.ask(check::weight(&txn), Request::Txn(txn)).await? {
            Outcome::Txn(outcome) => Ok(outcome),
            other => Err(unexpected(&other)),
        }
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError> {
        let history: Arc<Shared> = Arc::clone(&self.0);
        watch::open(history, prefix, after).await
    }

    async fn grant(&self, ttl: Millis) -> Result<LeaseId, StoreError> {
        check::ttl(ttl)?;
        match self.0.ask(0, Request::Grant(ttl)).await? {
            Outcome::Granted(lease) => Ok(lease),
            other => Err(unexpected(&other)),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.sessions.ask(KeepAlive(lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.ask(0, Request::Revoke(lease)).await.map(drop)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.0.ask(0, Request::Compact(revision)).await.map(drop)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.0.bounds().await?.current)
    }
}

#[async_trait]
impl History for Shared {
    async fn bounds(&self) -> Result<Bounds, StoreError> {
        self.sessions.ask(AskBounds).await
    }

    async fn items(&self, list: List) -> Result<Listing, StoreError> {
        self.sessions.ask(list).await
    }

    async fn changes(&self, prefix: &str, after: Revision, upto: Revision) -> Result<Page, StoreError> {
        let ask = AskChanges { prefix: prefix.to_owned(), after, upto: Some(upto) };
        Ok(self.sessions.ask(ask).await?.0)
    }

    fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }
}
