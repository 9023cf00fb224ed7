//! What one request does to the tables, inside the SQLite transaction of its batch.
//!
//! A batch sees what the requests before it in the same batch did. Nothing here is answered or told to anybody before
//! the batch is committed; what is to be told then is collected in the batch.

use super::{
    failure::Failure,
    schema::{Position, first_id, revision_of, signed, unsigned},
};
use crate::{
    Change, Compare, Entry, LeaseId, Operation, Revision, StoreError, Txn, TxnOutcome, leases::Leases,
    watchers::Commit,
};
use rusqlite::{Connection, OptionalExtension as _};
use std::{collections::BTreeSet, sync::Arc};
use tutti_model::{Millis, limits::STORE_TXN_OPERATIONS};

/// Requests that are committed together.
pub(super) struct Batch<'a> {
    connection: &'a Connection,
    leases: &'a Leases,
    pub(super) position: Position,
    /// For the watchers.
    pub(super) commits: Vec<Commit>,
    /// Leases that this batch grants.
    pub(super) granted: Vec<(LeaseId, Millis)>,
    /// Whether anything is to be written.
    pub(super) dirty: bool,
    /// Rows of history written.
    pub(super) rows: usize,
    /// Bytes of keys and values written.
    pub(super) bytes: usize,
}

/// A key's row in `current`.
struct Current {
    modified: Revision,
    created: Revision,
}

impl<'a> Batch<'a> {
    pub(super) fn begin(connection: &'a Connection, leases: &'a Leases) -> Result<Self, Failure> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Batch {
            connection,
            leases,
            position: Position::load(connection)?,
            commits: Vec::new(),
            granted: Vec::new(),
            dirty: false,
            rows: 0,
            bytes: 0,
        })
    }

    /// Everything onto the disk.
    pub(super) fn commit(&self) -> Result<(), Failure> {
        if self.dirty {
            self.position.save(self.connection)?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    pub(super) fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome, Failure> {
        for (index, compare) in txn.compares.iter().enumerate() {
            if !self.holds(compare)? {
                return Ok(TxnOutcome::Refused { compare: index });
            }
        }
        for operation in &txn.operations {
            if let Operation::Put { lease: Some(lease), .. } = operation
                && !self.leases.is_live(*lease)
            {
                return Err(StoreError::LeaseGone(*lease).into());
            }
        }
        let mut operations: Vec<&Operation> = txn.operations.iter().collect();
        operations.sort_by_key(|operation| match operation {
            Operation::Put { key, .. } | Operation::Delete { key } => key,
        });
        self.operations(&operations)?;
        Ok(TxnOutcome::Committed(self.position.revision))
    }

    fn current(&self, key: &str) -> Result<Option<Current>, Failure> {
        let mut select = self.connection.prepare_cached("SELECT id, created FROM current WHERE key = ?1")?;
        let row = select.query_row([key.as_bytes()], |row| {
            Ok(Current { modified: revision_of(row.get(0)?), created: unsigned(row, 1)? })
        });
        Ok(row.optional()?)
    }

    fn holds(&self, compare: &Compare) -> Result<bool, Failure> {
        Ok(match compare {
            Compare::Absent(key) => self.current(key)?.is_none(),
            Compare::Present(key) => self.current(key)?.is_some(),
            Compare::Modified(key, revision) => {
                self.current(key)?.is_some_and(|current| current.modified == *revision)
            }
        })
    }

    /// Applies operations, which come in key order, as one revision; none if they change nothing.
    fn operations(&mut self, operations: &[&Operation]) -> Result<(), Failure> {
        let revision = self.position.revision + 1;
        let mut id = first_id(revision);
        let mut changes = Vec::with_capacity(operations.len());
        for operation in operations {
            let change = match operation {
                Operation::Put { key, value, lease } => Some(self.put(id, key, value, *lease)?),
                Operation::Delete { key } => self.delete(id, key)?,
            };
            if let Some(change) = change {
                changes.push(change);
                id += 1;
            }
        }
        if !changes.is_empty() {
            self.position.revision = revision;
            self.rows += changes.len();
            self.dirty = true;
            self.commits.push(Commit { revision, changes: changes.into() });
        }
        Ok(())
    }

    fn put(
        &mut self,
        id: i64,
        key: &str,
        value: &Arc<[u8]>,
        lease: Option<LeaseId>,
    ) -> Result<Change, Failure> {
        let modified = revision_of(id);
        let created = self.current(key)?.map_or(modified, |current| current.created);
        let leased = lease.map(|lease| signed(lease.0));
        self.connection
            .prepare_cached(
                "INSERT INTO history (id, key, created, lease, value) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((id, key.as_bytes(), signed(created), leased, &value[..]))?;
        self.connection
            .prepare_cached(
                "INSERT INTO current (key, id, created, lease) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET id = excluded.id, lease = excluded.lease",
            )?
            .execute((key.as_bytes(), id, signed(created), leased))?;
        self.bytes += key.len() + value.len();
        Ok(Change::Put(Entry { key: key.to_owned(), value: Arc::clone(value), created, modified, lease }))
    }

    fn delete(&mut self, id: i64, key: &str) -> Result<Option<Change>, Failure> {
        let gone = self
            .connection
            .prepare_cached("DELETE FROM current WHERE key = ?1")?
            .execute([key.as_bytes()])?;
        if gone == 0 {
            return Ok(None);
        }
        self.connection
            .prepare_cached("INSERT INTO history (id, key) VALUES (?1, ?2)")?
            .execute((id, key.as_bytes()))?;
        self.bytes += key.len();
        Ok(Some(Change::Delete { key: key.to_owned() }))
    }

    pub(super) fn grant(&mut self, ttl: Millis) -> Result<LeaseId, Failure> {
        self.leases.check_room(self.granted.len())?;
        let id = LeaseId(self.position.lease + 1);
        self.connection
            .prepare_cached("INSERT INTO lease (id, ttl) VALUES (?1, ?2)")?
            .execute((signed(id.0), signed(ttl.0)))?;
        self.position.lease = id.0;
        self.granted.push((id, ttl));
        self.dirty = true;
        Ok(id)
    }

    /// Removes a lease and its keys, as one revision unless there are more keys than one transaction may have.
    pub(super) fn end_lease(&mut self, lease: LeaseId) -> Result<(), Failure> {
        let keys: BTreeSet<Vec<u8>> = self
            .connection
            .prepare_cached("SELECT key FROM current WHERE lease = ?1")?
            .query_map([signed(lease.0)], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let deletes = keys
            .into_iter()
            .map(|key| String::from_utf8(key).map(|key| Operation::Delete { key }))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StoreError::Corrupt(format!("a key is not text: {error}")))?;
        let deletes: Vec<&Operation> = deletes.iter().collect();
        for some in deletes.chunks(STORE_TXN_OPERATIONS) {
            self.operations(some)?;
        }
        self.connection.prepare_cached("DELETE FROM lease WHERE id = ?1")?.execute([signed(lease.0)])?;
        self.dirty = true;
        Ok(())
    }

    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), Failure> {
        if revision > self.position.revision {
            return Err(StoreError::Future { asked: revision, current: self.position.revision }.into());
        }
        if revision > self.position.compacted {
            self.position.compacted = revision;
            self.dirty = true;
        }
        Ok(())
    }
}
