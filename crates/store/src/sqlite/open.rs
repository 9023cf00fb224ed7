//! Opening the file: the lock, what the file is, and what is in it from before.

use super::{
    failure::{self, Failure},
    schema::{self, beside},
};
use crate::{LeaseId, StoreError};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};
use tutti_model::Millis;

/// Page cache of the writer, in KiB.
const CACHE_KIB: i64 = 2048;
/// To what size the log is cut back after a burst, in bytes.
const LOG_BYTES: i64 = 16 * 1024 * 1024;

/// How long a copy waits for a moment at which nobody holds the file for themselves.
const BUSY: Duration = Duration::from_secs(10);

/// A store's file is open here, as long as this exists.
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing would not do: a child that is forked at this moment, whatever for, has a copy of the file until it runs its
    /// own program, and the lock would last as long as that.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "a store's lock is let go by closing it");
        }
    }
}

/// Keeps other processes, and other stores of this one, out for as long as the returned file is open.
pub(super) fn lock(path: &Path) -> Result<Lock, StoreError> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(beside(path, "-lock"))
        .map_err(|error| failure::file(&error, path))?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::Unavailable(format!("{} is open in another process", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(failure::file(&error, path)),
    }
}

/// The writer's connection to a database that is known to be sound and of this form.
pub(super) fn writer(path: &Path) -> Result<Connection, StoreError> {
    // SQLite opens a file that it may not write for reading only; asking the system tells the two apart.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| failure::file(&error, path))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> Result<Connection, Failure> {
        let connection = Connection::open_with_flags(path, flags)?;
        schema::tune(&connection, CACHE_KIB)?;
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if mode != "wal" {
            return Err(StoreError::Unavailable(format!(
                "{}: the file system does not allow write-ahead logging",
                path.display()
            ))
            .into());
        }
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "fullfsync", true)?;
        // The writer does it itself, after the answer.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        prepare(&connection, path)?;
        Ok(connection)
    };
    open().map_err(|failure| failure.at(path))
}

/// Copies a database as of one moment, beside whoever has it open: SQLite's own reading transaction sees to that.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    // Made here, so that nobody else may read it, whatever the process makes otherwise.
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| failure::file(&error, to))?;
    // A database in this mode is opened for writing to be read: its index of the log is in a file of its own.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copied = || -> Result<(), Failure> {
        let connection = Connection::open_with_flags(from, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        Ok(())
    };
    copied().map_err(|failure| failure.at(to))
}

/// Makes the tables in an empty file; in another, checks that it is a store, of a form known here, and sound.
fn prepare(connection: &Connection, path: &Path) -> Result<(), Failure> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application == 0 && version == 0 {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Err(failure::corrupt(path, "it is some other program's database").into());
        }
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {} PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT;",
            schema::CREATE,
            schema::APPLICATION,
            schema::VERSION,
        ))?;
        return Ok(());
    }
    if application != schema::APPLICATION {
        return Err(failure::corrupt(path, "it is some other program's database").into());
    }
    if version != schema::VERSION {
        return Err(StoreError::Unavailable(format!(
            "{} has form {version} of a store, and this release knows form {} only: use the release that wrote it",
            path.display(),
            schema::VERSION
        ))
        .into());
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(failure::corrupt(path, verdict).into());
    }
    // Fails here, rather than at the first transaction, on a medium that cannot be written.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT;")?;
    Ok(())
}

/// The leases from before.
pub(super) fn leases(path: &Path, connection: &Connection) -> Result<Vec<(LeaseId, Millis)>, StoreError> {
    let load = || -> rusqlite::Result<Vec<(LeaseId, Millis)>> {
        let mut select = connection.prepare("SELECT id, ttl FROM lease ORDER BY id")?;
        select
            .query_map([], |row| Ok((LeaseId(schema::unsigned(row, 0)?), Millis(schema::unsigned(row, 1)?))))?
            .collect()
    };
    load().map_err(|error| failure::sqlite(&error, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_store_whoever_has_a_copy_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let held = lock(&path).unwrap();
        // As a child has it between being forked and running its program.
        let copy = held.0.try_clone().unwrap();
        assert!(matches!(lock(&path), Err(StoreError::Unavailable(_))));
        drop(held);
        lock(&path).unwrap();
        drop(copy);
    }
}
