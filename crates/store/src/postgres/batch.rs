//! What a batch of requests comes to, given what is stored: decided purely, between one read and one write.
//!
//! Requests are taken in order, each seeing what those before it did, each transaction with a revision and an outcome
//! of its own. Nothing that a request can say makes a statement fail: the limits were checked, and everything that
//! depends on what is stored is decided here.

use crate::{
    Compare, LeaseId, Operation, Revision, StoreError, Txn, TxnOutcome, check,
    rows::{first_id, revision_of},
};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};
use tutti_model::{Millis, limits::STORE_TXN_OPERATIONS};

/// How far history may grow past what is retained before the oldest moves: so often it is swept.
pub(super) const SLACK_REVISIONS: u64 = 256;

/// One thing that is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Txn(Txn),
    Grant(Millis),
    Revoke(LeaseId),
    /// End the leases whose time is up.
    Expire,
    Compact(Revision),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Txn(TxnOutcome),
    Granted(LeaseId),
    Done,
}

/// The single row of `state`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    /// The last lease given out.
    pub(super) lease: u64,
}

/// A row of `current`, without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) id: i64,
    pub(super) created: Revision,
    pub(super) lease: Option<LeaseId>,
}

/// What is stored of all that the requests speak of.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) head: Head,
    /// The keys that the requests name, and those of leases that end.
    pub(super) current: BTreeMap<Vec<u8>, Current>,
    /// The leases that the requests name, with whether each is live.
    pub(super) leases: BTreeMap<LeaseId, bool>,
    /// Leases whose time is up.
    pub(super) due: Vec<LeaseId>,
    /// How many leases there are.
    pub(super) lease_count: usize,
}

/// A new row of `history`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) id: i64,
    pub(super) key: Cow<'a, [u8]>,
    /// `None` for a removal.
    pub(super) put: Option<(Revision, Option<LeaseId>, &'a [u8])>,
}

/// What is to be written, and answered once it is.
#[derive(Debug, Default)]
pub(super) struct Decided<'a> {
    /// One for each request.
    pub(super) outcomes: Vec<Result<Outcome, StoreError>>,
    pub(super) head: Head,
    pub(super) rows: Vec<Row<'a>>,
    /// What each key that was changed comes to.
    pub(super) current: BTreeMap<Vec<u8>, Option<Current>>,
    pub(super) granted: Vec<(LeaseId, Millis)>,
    pub(super) ended: Vec<LeaseId>,
}

impl Decided<'_> {
    /// Whether anything is to be written.
    pub(super) fn writes(&self, before: Head) -> bool {
        self.head != before || !self.granted.is_empty() || !self.ended.is_empty()
    }
}

/// The keys that requests name.
pub(super) fn keys(requests: &[Request]) -> BTreeSet<&[u8]> {
    let mut keys = BTreeSet::new();
    for request in requests {
        if let Request::Txn(txn) = request {
            keys.extend(txn.compares.iter().map(|compare| match compare {
                Compare::Absent(key) | Compare::Present(key) | Compare::Modified(key, _) => key.as_bytes(),
            }));
            keys.extend(txn.operations.iter().map(|operation| operation_key(operation).as_bytes()));
        }
    }
    keys
}

/// The leases that requests name: those that keys are to go with, and those to be revoked.
pub(super) fn leases(requests: &[Request]) -> (BTreeSet<LeaseId>, BTreeSet<LeaseId>) {
    let (mut used, mut revoked) = (BTreeSet::new(), BTreeSet::new());
    for request in requests {
        match request {
            Request::Txn(txn) => used.extend(txn.operations.iter().filter_map(|operation| match operation {
                Operation::Put { lease, .. } => *lease,
                Operation::Delete { .. } => None,
            })),
            Request::Revoke(lease) => {
                revoked.insert(*lease);
            }
            _ => {}
        }
    }
    (used, revoked)
}

fn operation_key(operation: &Operation) -> &str {
    match operation {
        Operation::Put { key, .. } | Operation::Delete { key } => key,
    }
}

/// Decides. `retain` is how many of the last revisions can be listed and watched from.
pub(super) fn decide(requests: &[Request], stored: Stored, retain: u64) -> Decided<'_> {
    let mut batch = Batch {
        current: stored.current,
        leases: stored.leases,
        lease_count: stored.lease_count,
        decided: Decided { head: stored.head, ..Decided::default() },
    };
    for lease in stored.due {
        batch.end_lease(lease);
    }
    for request in requests {
        let outcome = batch.request(request);
        batch.decided.outcomes.push(outcome);
    }
    let head = &mut batch.decided.head;
    let target = head.revision.saturating_sub(retain.max(1));
    if target >= head.compacted.saturating_add(SLACK_REVISIONS) {
        head.compacted = target;
    }
    batch.decided
}

struct Batch<'a> {
    /// What is there after the requests so far.
    current: BTreeMap<Vec<u8>, Current>,
    leases: BTreeMap<LeaseId, bool>,
    lease_count: usize,
    decided: Decided<'a>,
}

impl<'a> Batch<'a> {
    fn request(&mut self, request: &'a Request) -> Result<Outcome, StoreError> {
        match request {
            Request::Txn(txn) => self.txn(txn).map(Outcome::Txn),
            Request::Grant(ttl) => self.grant(*ttl).map(Outcome::Granted),
            Request::Revoke(lease) => {
                if !self.leases.contains_key(lease) {
                    return Err(StoreError::LeaseGone(*lease));
                }
                self.end_lease(*lease);
                Ok(Outcome::Done)
            }
            Request::Expire => Ok(Outcome::Done),
            Request::Compact(revision) => {
                let head = &mut self.decided.head;
                if *revision > head.revision {
                    return Err(StoreError::Future { asked: *revision, current: head.revision });
                }
                head.compacted = head.compacted.max(*revision);
                Ok(Outcome::Done)
            }
        }
    }

    fn txn(&mut self, txn: &'a Txn) -> Result<TxnOutcome, StoreError> {
        if let Some(compare) = txn.compares.iter().position(|compare| !self.holds(compare)) {
            return Ok(TxnOutcome::Refused { compare });
        }
        for operation in &txn.operations {
            if let Operation::Put { lease: Some(lease), .. } = operation
                && self.leases.get(lease) != Some(&true)
            {
                return Err(StoreError::LeaseGone(*lease));
            }
        }
        let mut operations: Vec<&Operation> = txn.operations.iter().collect();
        operations.sort_by_key(|operation| operation_key(operation));
        let mut change = self.begin();
        for operation in operations {
            match operation {
                Operation::Put { key, value, lease } => self.put(&mut change, key, value, *lease),
                Operation::Delete { key } => self.delete(&mut change, Cow::Borrowed(key.as_bytes())),
            }
        }
        self.finish(&change);
        Ok(TxnOutcome::Committed(self.decided.head.revision))
    }

    fn holds(&self, compare: &Compare) -> bool {
        let current = |key: &str| self.current.get(key.as_bytes());
        match compare {
            Compare::Absent(key) => current(key).is_none(),
            Compare::Present(key) => current(key).is_some(),
            Compare::Modified(key, revision) => {
                current(key).is_some_and(|current| revision_of(current.id) == *revision)
            }
        }
    }

    /// The changes of one revision, if there will be any.
    fn begin(&self) -> Changes {
        let revision = self.decided.head.revision + 1;
        Changes { revision, next: first_id(revision), any: false }
    }

    fn finish(&mut self, changes: &Changes) {
        if changes.any {
            self.decided.head.revision = changes.revision;
        }
    }

    fn put(&mut self, changes: &mut Changes, key: &'a str, value: &'a [u8], lease: Option<LeaseId>) {
        let id = changes.id();
        let created = self.current.get(key.as_bytes()).map_or(changes.revision, |current| current.created);
        let current = Current { id, created, lease };
        self.current.insert(key.as_bytes().to_vec(), current);
        self.decided.current.insert(key.as_bytes().to_vec(), Some(current));
        let key = Cow::Borrowed(key.as_bytes());
        self.decided.rows.push(Row { id, key, put: Some((created, lease, value)) });
    }

    fn delete(&mut self, changes: &mut Changes, key: Cow<'a, [u8]>) {
        if self.current.remove(&*key).is_some() {
            self.decided.current.insert(key.to_vec(), None);
            self.decided.rows.push(Row { id: changes.id(), key, put: None });
        }
    }

    fn grant(&mut self, ttl: Millis) -> Result<LeaseId, StoreError> {
        if self.lease_count >= check::LEASES {
            return Err(StoreError::Invalid(format!(
                "there are {} leases, and no more are allowed",
                check::LEASES
            )));
        }
        self.lease_count += 1;
        self.decided.head.lease += 1;
        let lease = LeaseId(self.decided.head.lease);
        self.decided.granted.push((lease, ttl));
        Ok(lease)
    }

    /// Removes a lease and its keys, as one revision unless there are more keys than one transaction may have.
    fn end_lease(&mut self, lease: LeaseId) {
        let keys: Vec<Vec<u8>> = self
            .current
            .iter()
            .filter(|(_, current)| current.lease == Some(lease))
            .map(|(key, _)| key.clone())
            .collect();
        for some in keys.chunks(STORE_TXN_OPERATIONS) {
            let mut changes = self.begin();
            for key in some {
                self.delete(&mut changes, Cow::Owned(key.clone()));
            }
            self.finish(&changes);
        }
        self.leases.remove(&lease);
        self.lease_count = self.lease_count.saturating_sub(1);
        self.decided.ended.push(lease);
    }
}

struct Changes {
    revision: Revision,
    next: i64,
    any: bool,
}

impl Changes {
    fn id(&mut self) -> i64 {
        let id = self.next;
        self.next += 1;
        self.any = true;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(head: Head, keys: &[(&str, i64, Option<u64>)]) -> Stored {
        let current = keys.iter().map(|(key, id, lease)| {
            let current = Current { id: *id, created: revision_of(*id), lease: lease.map(LeaseId) };
            (key.as_bytes().to_vec(), current)
        });
        Stored { head, current: current.collect(), ..Stored::default() }
    }

    fn head(revision: Revision) -> Head {
        Head { revision, compacted: 0, lease: 7 }
    }

    #[test]
    fn each_transaction_sees_those_before_it_and_has_an_outcome_of_its_own() {
        let requests = [
            Request::Txn(Txn::new().when(Compare::Absent("a".into())).put("a", *b"1").put("b", *b"1")),
            Request::Txn(Txn::new().when(Compare::Absent("a".into())).put("a", *b"2")),
            Request::Txn(Txn::new().when(Compare::Modified("a".into(), 6)).delete("a").delete("none")),
            Request::Txn(Txn::new().put_leased("c", *b"1", LeaseId(9))),
            Request::Txn(Txn::new().put("a", *b"3")),
            Request::Txn(Txn::new()),
        ];
        let decided = decide(&requests, stored(head(5), &[]), 100);
        let committed = |revision| Ok(Outcome::Txn(TxnOutcome::Committed(revision)));
        assert_eq!(
            decided.outcomes,
            [
                committed(6),
                Ok(Outcome::Txn(TxnOutcome::Refused { compare: 0 })),
                committed(7),
                Err(StoreError::LeaseGone(LeaseId(9))),
                committed(8),
                committed(8),
            ]
        );
        let ids: Vec<_> =
            decided.rows.iter().map(|row| (row.id, row.put.map(|(created, ..)| created))).collect();
        assert_eq!(ids, [(6 * 64, Some(6)), (6 * 64 + 1, Some(6)), (7 * 64, None), (8 * 64, Some(8))]);
        let a = decided.current.get(b"a".as_slice());
        assert_eq!(a, Some(&Some(Current { id: 8 * 64, created: 8, lease: None })));
        assert!(decided.writes(head(5)));
        let nothing = [Request::Txn(Txn::new().delete("none"))];
        assert!(!decide(&nothing, stored(head(5), &[]), 100).writes(head(5)));
    }

    #[test]
    fn a_lease_ends_once_with_all_its_keys() {
        let requests = [
            Request::Txn(Txn::new().put_leased("c", *b"1", LeaseId(3))),
            Request::Revoke(LeaseId(3)),
            Request::Revoke(LeaseId(3)),
            Request::Txn(Txn::new().put_leased("c", *b"1", LeaseId(3))),
            Request::Grant(Millis(5)),
        ];
        let mut stored = stored(head(5), &[("a", 64, Some(3)), ("b", 128, Some(4)), ("due", 192, Some(6))]);
        stored.leases = [(LeaseId(3), true)].into();
        stored.due = vec![LeaseId(6)];
        let decided = decide(&requests, stored, 100);
        let gone = || Err(StoreError::LeaseGone(LeaseId(3)));
        let first = Ok(Outcome::Txn(TxnOutcome::Committed(7)));
        assert_eq!(
            decided.outcomes,
            [first, Ok(Outcome::Done), gone(), gone(), Ok(Outcome::Granted(LeaseId(8)))]
        );
        assert_eq!(decided.ended, [LeaseId(6), LeaseId(3)]);
        let removed: Vec<_> =
            decided.rows.iter().filter(|row| row.put.is_none()).map(|row| (row.id, &*row.key)).collect();
        assert_eq!(
            removed,
            [(6 * 64, b"due".as_slice()), (8 * 64, b"a".as_slice()), (8 * 64 + 1, b"c".as_slice())]
        );
        assert_eq!(decided.head, Head { revision: 8, compacted: 0, lease: 8 });
    }

    #[test]
    fn more_leases_than_allowed_are_refused_and_old_history_is_let_go() {
        let stored = Stored { lease_count: check::LEASES - 1, head: head(1000), ..Stored::default() };
        let requests = [Request::Grant(Millis(1)), Request::Grant(Millis(1)), Request::Compact(1001)];
        let decided = decide(&requests, stored, 500);
        assert_eq!(decided.outcomes.first(), Some(&Ok(Outcome::Granted(LeaseId(8)))));
        assert!(matches!(decided.outcomes.get(1), Some(Err(StoreError::Invalid(_)))));
        assert_eq!(decided.outcomes.get(2), Some(&Err(StoreError::Future { asked: 1001, current: 1000 })));
        assert_eq!(decided.head.compacted, 500);
    }
}
