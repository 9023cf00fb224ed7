//! The store's keys and revisions, and etcd's.
//!
//! The store's keys stand below a prefix of etcd's. An etcd in which nothing was ever written is at revision 1, an
//! empty store at 0, so that the store's revision is etcd's less one.

use super::proto::KeyValue;
use crate::{Entry, LeaseId, Revision, StoreError};
use bytes::Bytes;

/// Where the store's keys are.
#[derive(Debug, Clone)]
pub(super) struct Root(String);

impl Root {
    pub(super) fn new(prefix: &str) -> Root {
        Root(format!("{prefix}/"))
    }

    /// etcd's key for one of the store's.
    pub(super) fn key(&self, key: &str) -> Bytes {
        Bytes::from(format!("{}{key}", self.0))
    }

    /// The range of etcd's keys below a prefix of the store's: the first, and the first after it. The last byte can be
    /// counted up since no byte of UTF-8 is 255, and there is one since the root is not empty.
    pub(super) fn below(&self, prefix: &str) -> (Bytes, Bytes) {
        let start = self.key(prefix);
        let mut end = start.to_vec();
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        (start, end.into())
    }

    /// etcd's key after one of the store's.
    pub(super) fn after(&self, key: &str) -> Bytes {
        self.key(&format!("{key}\0"))
    }

    /// The store's key for one of etcd's.
    pub(super) fn name(&self, key: &[u8]) -> Result<String, StoreError> {
        let name = key.strip_prefix(self.0.as_bytes()).and_then(|name| std::str::from_utf8(name).ok());
        name.map(str::to_owned).ok_or_else(|| {
            StoreError::Corrupt(format!(
                "etcd has the key \"{}\" below \"{}\", which Tutti did not write",
                key.escape_ascii(),
                self.0
            ))
        })
    }

    pub(super) fn entry(&self, found: &KeyValue) -> Result<Entry, StoreError> {
        Ok(Entry {
            key: self.name(&found.key)?,
            value: found.value.as_ref().into(),
            created: of_etcd(found.create_revision),
            modified: of_etcd(found.mod_revision),
            lease: u64::try_from(found.lease).ok().filter(|id| *id > 0).map(LeaseId),
        })
    }
}

/// The store's revision for etcd's.
pub(super) fn of_etcd(revision: i64) -> Revision {
    u64::try_from(revision).unwrap_or(0).saturating_sub(1)
}

/// etcd's revision for the store's; `None` for one that etcd cannot ever get to.
pub(super) fn to_etcd(revision: Revision) -> Option<i64> {
    i64::try_from(revision).ok().and_then(|revision| revision.checked_add(1))
}

/// etcd's name of a lease; `None` for one that etcd never gives.
pub(super) fn lease_of(lease: LeaseId) -> Option<i64> {
    i64::try_from(lease.0).ok().filter(|id| *id > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_keys_below_a_prefix_and_no_others() {
        let root = Root::new("tutti");
        for prefix in ["", "a", "a/é", "\u{10ffff}", "\u{7f}"] {
            let (start, end) = root.below(prefix);
            for key in
                ["", "a", "a/", "a/é", "a/é\u{10ffff}", "b", "\u{10ffff}x", "\u{7f}", "\u{7f}a", "\u{80}"]
            {
                let etcd = root.key(key);
                assert_eq!(start <= etcd && etcd < end, key.starts_with(prefix), "{key:?} below {prefix:?}");
                assert_eq!(root.name(&etcd).unwrap(), key);
            }
        }
        assert!(root.key("a") < root.after("a") && root.after("a") <= root.key("a\0"));
        assert!(root.name(b"tutti/\xff").is_err() && root.name(b"tutta/x").is_err());
    }

    #[test]
    fn revisions_and_leases_that_etcd_has_not_are_none() {
        assert_eq!((of_etcd(1), of_etcd(0), of_etcd(-1), of_etcd(8)), (0, 0, 0, 7));
        assert_eq!((to_etcd(0), to_etcd(7), to_etcd(u64::MAX)), (Some(1), Some(8), None));
        assert_eq!(to_etcd(u64::try_from(i64::MAX).unwrap()), None);
        assert_eq!(
            (lease_of(LeaseId(0)), lease_of(LeaseId(u64::MAX)), lease_of(LeaseId(1))),
            (None, None, Some(1))
        );
    }
}
