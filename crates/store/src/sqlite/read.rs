//! Reads: a small pool of connections, used on the blocking threads, each read in a snapshot of its own.

use super::{
    failure::Failure,
    schema::{self, Position, first_id, past, revision_of, unsigned, unsigned_or_none},
};
use crate::{
    Change, Entry, LeaseId, List, Listing, Revision, StoreError,
    watch::{Bounds, Page},
    watchers::Commit,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinHandle},
};

/// Connections for reading: one for a long list, and three that go on meanwhile.
pub(super) const READERS: usize = 4;
/// Page cache of each, in KiB.
const CACHE_KIB: i64 = 512;
/// Rows on one page of history, give or take one transaction.
const PAGE_ROWS: usize = 256;
/// Bytes of values on one page of history, give or take one transaction.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Readers {
    path: PathBuf,
    places: Arc<Semaphore>,
    /// Those opened so far and not in use.
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Readers { path: path.to_owned(), places: Arc::new(Semaphore::new(READERS)), idle: Mutex::default() }
    }

    /// Runs `read` on a snapshot that has everything acknowledged by now.
    ///
    /// A task of its own waits in line for a connection and reads. The caller may be one that nobody polls for a while,
    /// such as a watch whose reader is busy with what it got: its turn would come and pass to nobody, and four of them
    /// would stop all reading, also that of those who keep them from being polled.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Snapshot<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(self);
        let mut reading = InLine(tokio::spawn(async move {
            let gone = |_| StoreError::Unavailable("it was closed".into());
            let place = Arc::clone(&readers.places).acquire_owned().await.map_err(gone)?;
            let reading = tokio::task::spawn_blocking(move || {
                // Kept until the read is over, whether or not the caller still waits.
                let _place = place;
                readers.read_blocking(read).map_err(|failure| failure.at(&readers.path))
            });
            reading.await.map_err(cut_off)?
        }));
        (&mut reading.0).await.map_err(cut_off)?
    }

    fn read_blocking<T>(&self, read: impl FnOnce(&Snapshot<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        connection.execute_batch("BEGIN")?;
        let result = read(&Snapshot { connection: &connection });
        if connection.execute_batch("COMMIT").is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        result
    }

    /// Connections that are open and not in use.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn open(&self) -> Result<Connection, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        schema::tune(&connection, CACHE_KIB)?;
        Ok(connection)
    }
}

/// A read that leaves the line when its caller no longer waits.
struct InLine<T>(JoinHandle<T>);

impl<T> Drop for InLine<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn cut_off(error: JoinError) -> StoreError {
    StoreError::Unavailable(format!("a read was cut off: {error}"))
}

/// The store as of one moment.
pub(super) struct Snapshot<'a> {
    connection: &'a Connection,
}

impl Snapshot<'_> {
    pub(super) fn bounds(&self) -> Result<Bounds, Failure> {
        let position = Position::load(self.connection)?;
        Ok(Bounds { oldest: position.compacted, current: position.revision })
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>, Failure> {
        let mut select = self.connection.prepare_cached(
            "SELECT c.key, c.id, c.created, c.lease, h.value
             FROM current c JOIN history h ON h.id = c.id WHERE c.key = ?1",
        )?;
        Ok(select.query_row([key.as_bytes()], entry).optional()?)
    }

    pub(super) fn list(&self, list: &List) -> Result<Listing, Failure> {
        let bounds = self.bounds()?;
        let at = list.at.unwrap_or(bounds.current);
        bounds.check(at)?;
        let mut from = list.prefix.as_bytes().to_vec();
        if let Some(after) = &list.after
            && after.as_bytes() >= from.as_slice()
        {
            // The next key in order.
            from = [after.as_bytes(), &[0]].concat();
        }
        let to = past(&list.prefix);
        let asked = list.limit.unwrap_or(usize::MAX);
        let most = i64::try_from(asked.saturating_add(1)).unwrap_or(i64::MAX);
        let mut entries: Vec<Entry> = if at == bounds.current {
            let mut select = self.connection.prepare_cached(
                "SELECT c.key, c.id, c.created, c.lease, h.value
                 FROM current c JOIN history h ON h.id = c.id
                 WHERE c.key >= ?1 AND c.key < ?2 ORDER BY c.key LIMIT ?3",
            )?;
            select.query_map((from, to, most), entry)?.collect::<Result<_, _>>()?
        } else {
            let mut select = self.connection.prepare_cached(
                "SELECT h.key, h.id, h.created, h.lease, h.value
                 FROM (SELECT key, max(id) AS last FROM history
                       WHERE key >= ?1 AND key < ?2 AND id < ?3 GROUP BY key) newest
                 JOIN history h ON h.id = newest.last
                 WHERE h.created IS NOT NULL ORDER BY newest.key LIMIT ?4",
            )?;
            select
                .query_map((from, to, first_id(at.saturating_add(1)), most), entry)?
                .collect::<Result<_, _>>()?
        };
        let more = entries.len() > asked;
        entries.truncate(asked);
        Ok(Listing { entries, revision: at, more })
    }

    /// Whole transactions after one revision and up to another, as many as fit a page.
    pub(super) fn changes(&self, prefix: &str, after: Revision, upto: Revision) -> Result<Page, Failure> {
        self.bounds()?.check(after)?;
        // The plus keeps SQLite to the order of the table, which is that of the revisions.
        let mut select = self.connection.prepare_cached(
            "SELECT key, id, created, lease, value FROM history
             WHERE id >= ?1 AND id < ?2 AND +key >= ?3 AND +key < ?4 ORDER BY id",
        )?;
        let (first, end) = (first_id(after.saturating_add(1)), first_id(upto.saturating_add(1)));
        let mut rows = select.query((first, end, prefix.as_bytes(), past(prefix)))?;
        let mut commits: Vec<Commit> = Vec::new();
        let mut open: Option<(Revision, Vec<Change>)> = None;
        let (mut count, mut bytes) = (0, 0);
        while let Some(row) = rows.next()? {
            let revision = revision_of(row.get(1)?);
            let change = change(row)?;
            if let Some((last, changes)) = open.take_if(|(last, _)| *last != revision) {
                commits.push(Commit { revision: last, changes: changes.into() });
                if count >= PAGE_ROWS || bytes >= PAGE_BYTES {
                    return Ok(Page { commits, through: last });
                }
            }
            count += 1;
            if let Change::Put(entry) = &change {
                bytes += entry.value.len();
            }
            open.get_or_insert((revision, Vec::new())).1.push(change);
        }
        if let Some((revision, changes)) = open {
            commits.push(Commit { revision, changes: changes.into() });
        }
        Ok(Page { commits, through: upto })
    }
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    String::from_utf8(row.get(column)?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
    })
}

/// Columns: key, id, created, lease, value.
fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        key: text(row, 0)?,
        value: row.get_ref(4)?.as_blob()?.into(),
        created: unsigned(row, 2)?,
        modified: revision_of(row.get(1)?),
        lease: unsigned_or_none(row, 3)?.map(LeaseId),
    })
}

fn change(row: &Row<'_>) -> rusqlite::Result<Change> {
    match row.get::<_, Option<i64>>(2)? {
        Some(_) => Ok(Change::Put(entry(row)?)),
        None => Ok(Change::Delete { key: text(row, 0)? }),
    }
}
