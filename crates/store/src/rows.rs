//! How the engines that keep rows number and order them: SQLite and PostgreSQL alike.
//!
//! The id of a row of history is its revision times 64 plus its place among the transaction's changes (the contract
//! allows 64), so that history in order is the table in order.

use crate::Revision;

/// The id of a revision's first change. A revision that no store will live to see gives the largest id.
pub(crate) fn first_id(revision: Revision) -> i64 {
    signed(revision).checked_mul(64).unwrap_or(i64::MAX)
}

/// The revision that an id is of.
pub(crate) fn revision_of(id: i64) -> Revision {
    u64::try_from(id / 64).unwrap_or(0)
}

/// A number as a database keeps it. Revisions, leases and spans stay far below the limit; above it, they stand still.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The first key that is past all those that start with `prefix`. No byte of UTF-8 is 0xff.
pub(crate) fn past(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    match bytes.last_mut() {
        Some(last) => *last = last.saturating_add(1),
        None => bytes.push(0xff),
    }
    bytes
}
