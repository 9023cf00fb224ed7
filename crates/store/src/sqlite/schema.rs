//! Tables, and how revisions, numbers and keys are written in them.
//!
//! `history` has one row for each change, with a row id of [`crate::rows`]. A removal has no `created` and no
//! `value`. The index on `key` ends in the row id, as all of SQLite's do: the versions of a key in order.
//!
//! `current` has one row for each key there is, so that the present can be read without passing over history.
//!
//! `state` has a single row: `revision`, the last one given out; `compacted`, the oldest that can be listed; `swept`,
//! the row id up to which superseded rows of history are gone; `lease`, the last lease given out.

use super::failure::Failure;
use crate::Revision;
pub(super) use crate::rows::{first_id, past, revision_of, signed};
use rusqlite::{Connection, Row};
use std::path::Path;

/// "Tutt", in SQLite's field for what a file is of.
pub(super) const APPLICATION: i64 = 0x5475_7474;
/// The form of the tables. A later form upgrades this one when it is opened.
pub(super) const VERSION: i64 = 1;

pub(super) const CREATE: &str = "
    CREATE TABLE state (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        revision INTEGER NOT NULL,
        compacted INTEGER NOT NULL,
        swept INTEGER NOT NULL,
        lease INTEGER NOT NULL
    );
    INSERT INTO state VALUES (1, 0, 0, 0, 0);
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        created INTEGER,
        lease INTEGER,
        value BLOB
    );
    CREATE INDEX history_key ON history (key);
    CREATE TABLE current (
        key BLOB PRIMARY KEY,
        id INTEGER NOT NULL,
        created INTEGER NOT NULL,
        lease INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX current_lease ON current (lease) WHERE lease IS NOT NULL;
    CREATE TABLE lease (
        id INTEGER PRIMARY KEY,
        ttl INTEGER NOT NULL
    );
";

/// The single row of `state`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    pub(super) swept: i64,
    pub(super) lease: u64,
}

impl Position {
    pub(super) fn load(connection: &Connection) -> Result<Position, Failure> {
        let mut select =
            connection.prepare_cached("SELECT revision, compacted, swept, lease FROM state WHERE one = 1")?;
        Ok(select.query_row([], |row| {
            Ok(Position {
                revision: unsigned(row, 0)?,
                compacted: unsigned(row, 1)?,
                swept: row.get(2)?,
                lease: unsigned(row, 3)?,
            })
        })?)
    }

    pub(super) fn save(&self, connection: &Connection) -> Result<(), Failure> {
        let mut update = connection.prepare_cached(
            "UPDATE state SET revision = ?1, compacted = ?2, swept = ?3, lease = ?4 WHERE one = 1",
        )?;
        update.execute((signed(self.revision), signed(self.compacted), self.swept, signed(self.lease)))?;
        Ok(())
    }
}

/// A number that cannot be negative unless the file is damaged.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// The same, where there may be none.
pub(super) fn unsigned_or_none(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let number: Option<i64> = row.get(column)?;
    number
        .map(|number| {
            u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
        })
        .transpose()
}

/// What every connection is told. 2 MiB of cache hold the upper levels of every index of a bounded history; the
/// operating system caches the rest.
pub(super) fn tune(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "memory")
}

/// A database's companion file, as SQLite names them.
pub(super) fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
