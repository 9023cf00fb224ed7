//! The embedded engine: one SQLite file in WAL mode, for one process.
//!
//! **Writes** go through one thread ([`writer`]) and a bounded queue. What queued up while the last commit was on its
//! way to the disk is evaluated in order, each transaction at its own revision, and committed with one fsync; a lone
//! transaction is never held back for company. Only after the fsync are watchers told and callers answered, so that a
//! commit that failed was never visible.
//!
//! **Reads** run on a small pool of read connections on the blocking threads. In WAL mode a commit becomes visible to
//! other connections only after its fsync and before its answer, and each read begins its own snapshot, so a read sees
//! everything that was acknowledged before it began and nothing that a crash could take back: linearizable, with no
//! second copy of the state in memory.
//!
//! **History** is one row a change, in order of revision; [`sweep`] bounds it. **Leases** are persisted when granted;
//! their expiry lives in memory (`crate::leases`).
//!
//! A file beside the database (`…-lock`) keeps a second process out.

mod apply;
mod failure;
mod open;
mod read;
mod schema;
mod sweep;
mod writer;

use crate::{
    Entry, LeaseId, List, Listing, Revision, Store, StoreError, Txn, TxnOutcome, Watch, check,
    leases::Leases,
    watch::{self, Bounds, History, Page},
    watchers::Watchers,
};
use async_trait::async_trait;
use read::Readers;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::AbortHandle,
};
use tutti_base::{Clock, SystemClock};
use tutti_model::Millis;
use writer::{Job, Request, Writer};

/// Requests that may wait for the writer. Past it, callers wait for a place; more would only lengthen the wait.
pub(crate) const QUEUE_REQUESTS: usize = 1024;
/// Keys and values that may wait for the writer, in KiB (64 MiB): four of the largest transactions.
const QUEUE_KIB: u32 = 64 * 1024;

/// How a SQLite store is run.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// By which leases expire.
    pub clock: Arc<dyn Clock>,
    /// How many of the last revisions can be listed and watched from; older ones are forgotten little by little. At
    /// least 1.
    pub retain_revisions: u64,
}

impl Default for SqliteOptions {
    /// The machine's clock, and 10,000 revisions: a thousand deployments' worth, 20 MB at 2 KB an object.
    fn default() -> Self {
        SqliteOptions { clock: Arc::new(SystemClock), retain_revisions: crate::memory::RETAIN_REVISIONS }
    }
}

/// A store in one SQLite file. Cloning shares it; the file is closed, and may be opened again, when the last clone
/// is dropped, which waits for the writes under way.
#[derive(Clone)]
pub struct SqliteStore(Arc<Shared>);

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteStore").field(&self.0.path).finish()
    }
}

struct Shared {
    path: PathBuf,
    /// `None` once closing.
    queue: Option<mpsc::Sender<Job>>,
    room: Arc<Semaphore>,
    readers: Arc<Readers>,
    watchers: Arc<Watchers>,
    leases: Arc<Leases>,
    thread: Mutex<Option<JoinHandle<()>>>,
    expiry: Mutex<Option<AbortHandle>>,
    /// Held for as long as the store is open; the last field, so that it is let go last.
    _lock: open::Lock,
}

impl SqliteStore {
    /// Opens the file at `path`, or makes it; its folder must exist. Must be called within a tokio runtime, on which
    /// leases will expire.
    ///
    /// # Errors
    /// `Unavailable` if another process has it open, if it was written by a newer release, or if the folder is
    /// missing; `ReadOnly`, `NoSpace` and `Corrupt` as they say.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<SqliteStore, StoreError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            StoreError::Unavailable(format!("it must be opened within a tokio runtime: {error}"))
        })?;
        let lock = open::lock(path)?;
        let connection = open::writer(path)?;
        let leases = Arc::new(Leases::new(Arc::clone(&options.clock)));
        for (id, ttl) in open::leases(path, &connection)? {
            leases.add(id, ttl);
        }
        let watchers = Arc::<Watchers>::default();
        let (sender, queue) = mpsc::channel(QUEUE_REQUESTS);
        let writer = Writer::new(
            connection,
            path,
            queue,
            Arc::clone(&leases),
            Arc::clone(&watchers),
            options.retain_revisions,
        );
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::Unavailable(format!("its writer thread did not start: {error}")))?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            queue: Some(sender),
            room: Arc::new(Semaphore::new(usize::try_from(QUEUE_KIB).unwrap_or(usize::MAX))),
            readers: Arc::new(Readers::new(path)),
            watchers,
            leases,
            thread: Mutex::new(Some(thread)),
            expiry: Mutex::new(None),
            _lock: lock,
        });
        shared.start_expiry(&runtime);
        Ok(SqliteStore(shared))
    }

    /// Copies the store in a file, as it is at one moment, into a file that is not there yet; also while it is open, in
    /// another process too, whose writes go on.
    ///
    /// # Errors
    /// `NoSpace` and what else the disk says.
    pub fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
        open::copy(from, to)
    }

    /// Where its file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Shared {
    /// Asks the writer, and waits for its answer. A caller that stops waiting does not undo its request.
    async fn ask<T>(
        &self,
        bytes: usize,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Unavailable("its writer has stopped".into());
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| stopped())?;
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(Job { request: request(reply), _room: Some(room) }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Wakes the writer when a lease is due. The task keeps neither the store nor its queue alive.
    fn start_expiry(&self, runtime: &tokio::runtime::Handle) {
        let Some(queue) = self.queue.as_ref().map(mpsc::Sender::downgrade) else { return };
        let leases = Arc::clone(&self.leases);
        let task = runtime.spawn(async move {
            loop {
                leases.due().await;
                match queue
                    .upgrade()
                    .map(|queue| queue.try_send(Job { request: Request::Expire, _room: None }))
                {
                    // If the queue is full the writer is at work, and its next batch ends what is due.
                    Some(Ok(()) | Err(mpsc::error::TrySendError::Full(_))) => leases.settled().await,
                    Some(Err(mpsc::error::TrySendError::Closed(_))) | None => return,
                }
            }
        });
        *self.expiry.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(expiry) = self.expiry.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            expiry.abort();
        }
        self.queue = None;
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the store's writer panicked");
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        check::key(key)?;
        let key = key.to_owned();
        self.0.readers.read(move |snapshot| snapshot.get(&key)).await
    }

    async fn list(&self, list: List) -> Result<Listing, StoreError> {
        check::prefix(&list.prefix)?;
        self.0.items(list).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        check::txn(&txn)?;
        self.0.ask(check::weight(&txn), |reply| Request::Txn { txn, reply }).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError> {
        let history: Arc<Shared> = Arc::clone(&self.0);
        watch::open(history, prefix, after).await
    }

    async fn grant(&self, ttl: Millis) -> Result<LeaseId, StoreError> {
        check::ttl(ttl)?;
        self.0.ask(0, |reply| Request::Grant { ttl, reply }).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.leases.keep_alive(lease)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.ask(0, |reply| Request::Revoke { lease, reply }).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.0.ask(0, |reply| Request::Compact { revision, reply }).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.0.bounds().await?.current)
    }
}

#[async_trait]
impl History for Shared {
    async fn bounds(&self) -> Result<Bounds, StoreError> {
        self.readers.read(|snapshot| snapshot.bounds()).await
    }

    async fn items(&self, list: List) -> Result<Listing, StoreError> {
        self.readers.read(move |snapshot| snapshot.list(&list)).await
    }

    async fn changes(&self, prefix: &str, after: Revision, upto: Revision) -> Result<Page, StoreError> {
        let prefix = prefix.to_owned();
        self.readers.read(move |snapshot| snapshot.changes(&prefix, after, upto)).await
    }

    fn watchers(&self) -> &Arc<Watchers> {
        &self.watchers
    }
}

#[cfg(test)]
mod tests;
