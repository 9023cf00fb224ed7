//! Forgetting old history, a little at a time.
//!
//! `compacted` moves first: what is before it can no longer be asked for. The rows follow: each row that `compacted`
//! has passed is looked at once, in order, and removes the older rows of its key, and itself if it says that the key
//! was removed. So each key keeps exactly its newest row up to `compacted`, all rows after it are kept, and each
//! write pays for the forgetting of one. A step is bounded by rows, so that no transaction waits long behind it.

use super::{
    failure::Failure,
    schema::{Position, first_id},
};
use rusqlite::Connection;

/// Rows that one step looks at: about 5 ms of work.
pub(super) const STEP_ROWS: usize = 512;
/// How far history may grow past what is retained before a sweep begins: one fsync for so many revisions.
pub(super) const SLACK_REVISIONS: u64 = 256;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Swept {
    /// Rows looked at.
    pub(super) rows: usize,
    /// Whether there is more to do now.
    pub(super) more: bool,
}

/// Looks at up to `most` rows, in a SQLite transaction of its own.
pub(super) fn step(connection: &Connection, retain: u64, most: usize) -> Result<Swept, Failure> {
    let mut position = Position::load(connection)?;
    let target = position.revision.saturating_sub(retain.max(1));
    if target >= position.compacted.saturating_add(SLACK_REVISIONS) {
        position.compacted = target;
    }
    let end = first_id(position.compacted.saturating_add(1));
    if position.swept.saturating_add(1) >= end {
        return Ok(Swept { rows: 0, more: false });
    }
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let rows: Vec<(i64, Vec<u8>, bool)> = connection
        .prepare_cached(
            "SELECT id, key, created IS NULL FROM history WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3",
        )?
        .query_map((position.swept, end, i64::try_from(most).unwrap_or(i64::MAX)), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<_, _>>()?;
    for (id, key, removed) in &rows {
        // A row that says "removed" goes too.
        let before = if *removed { id.saturating_add(1) } else { *id };
        connection
            .prepare_cached("DELETE FROM history WHERE key = ?1 AND id < ?2")?
            .execute((key, before))?;
    }
    let more = rows.len() == most;
    position.swept = match rows.last() {
        Some((last, _, _)) if more => *last,
        _ => end - 1,
    };
    position.save(connection)?;
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(Swept { rows: rows.len(), more })
}
