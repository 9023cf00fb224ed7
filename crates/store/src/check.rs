//! The contract's limits and rules, checked the same way by every engine before anything else happens.

use crate::{Compare, Operation, StoreError, Txn};
use std::collections::BTreeSet;
use tutti_model::{
    Millis,
    limits::{STORE_KEY_BYTES, STORE_TXN_BYTES, STORE_TXN_OPERATIONS, STORE_VALUE_BYTES},
};

/// Most leases at once: one for each node, ingress, reconciler and edge session of the largest installation planned
/// for, with room to spare; it keeps a client in a loop from filling the memory.
pub(crate) const LEASES: usize = 65_536;

/// Longest life of a lease without a sign of its holder. A longer one is a mistake in the unit.
pub(crate) const LEASE_TTL: Millis = Millis::seconds(7 * 24 * 3600);

fn invalid(text: String) -> StoreError {
    StoreError::Invalid(text)
}

/// Whether this can be a key.
pub(crate) fn key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() {
        return Err(invalid("a key is empty".into()));
    }
    prefix(key)
}

/// Whether a key could start with this.
pub(crate) fn prefix(prefix: &str) -> Result<(), StoreError> {
    if prefix.len() > STORE_KEY_BYTES {
        let start: String = prefix.chars().take(64).collect();
        return Err(invalid(format!(
            "the key \"{start}…\" has {} bytes; at most {STORE_KEY_BYTES} are allowed",
            prefix.len()
        )));
    }
    Ok(())
}

/// Whether a transaction keeps to the limits and names no key in two operations.
pub(crate) fn txn(txn: &Txn) -> Result<(), StoreError> {
    for (what, count) in [("operations", txn.operations.len()), ("comparisons", txn.compares.len())] {
        if count > STORE_TXN_OPERATIONS {
            return Err(invalid(format!(
                "the transaction has {count} {what}; at most {STORE_TXN_OPERATIONS} are allowed"
            )));
        }
    }
    for compare in &txn.compares {
        let (Compare::Absent(name) | Compare::Present(name) | Compare::Modified(name, _)) = compare;
        key(name)?;
    }
    let mut seen = BTreeSet::new();
    for operation in &txn.operations {
        let name = match operation {
            Operation::Put { key: name, value, .. } => {
                if value.len() > STORE_VALUE_BYTES {
                    return Err(invalid(format!(
                        "the value of \"{name}\" has {} bytes; at most {STORE_VALUE_BYTES} are allowed",
                        value.len()
                    )));
                }
                name
            }
            Operation::Delete { key: name } => name,
        };
        key(name)?;
        if !seen.insert(name) {
            return Err(invalid(format!("the key \"{name}\" stands in two operations of one transaction")));
        }
    }
    let bytes = weight(txn);
    if bytes > STORE_TXN_BYTES {
        return Err(invalid(format!(
            "the transaction has {bytes} bytes of keys and values; at most {STORE_TXN_BYTES} are allowed"
        )));
    }
    Ok(())
}

/// Whether a lease may live so long.
pub(crate) fn ttl(ttl: Millis) -> Result<(), StoreError> {
    if ttl.0 == 0 || ttl > LEASE_TTL {
        return Err(invalid(format!("a lease of {ttl} is not allowed: between 1ms and {LEASE_TTL} is")));
    }
    Ok(())
}

/// The size of a transaction's keys and values, in bytes.
pub(crate) fn weight(txn: &Txn) -> usize {
    txn.operations
        .iter()
        .map(|operation| match operation {
            Operation::Put { key, value, .. } => key.len() + value.len(),
            Operation::Delete { key } => key.len(),
        })
        .sum()
}
