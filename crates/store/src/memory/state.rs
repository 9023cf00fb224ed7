//! The memory engine's state: every retained version of every key, and the log of commits. No clock, no waiting.

use crate::{
    Change, Compare, Entry, LeaseId, List, Listing, Operation, Revision, StoreError, Txn, TxnOutcome,
    leases::Leases,
    watch::{Bounds, Page, below},
    watchers::{Commit, change_key},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};
use tutti_model::limits::STORE_TXN_OPERATIONS;

/// Commits on one page of history: small, as the state is locked meanwhile.
const PAGE_COMMITS: usize = 256;

/// A version of a key: its entry, or that it was removed.
#[derive(Debug)]
struct Version {
    revision: Revision,
    entry: Option<Entry>,
}

#[derive(Debug)]
pub(super) struct State {
    revision: Revision,
    compacted: Revision,
    retain: u64,
    /// By key, oldest version first.
    keys: BTreeMap<String, Vec<Version>>,
    /// The commits after `compacted`, oldest first.
    log: VecDeque<Commit>,
    leases: u64,
    leased: BTreeMap<LeaseId, BTreeSet<String>>,
}

impl State {
    pub(super) fn new(retain: u64) -> Self {
        State {
            revision: 0,
            compacted: 0,
            retain,
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            leases: 0,
            leased: BTreeMap::new(),
        }
    }

    pub(super) const fn bounds(&self) -> Bounds {
        Bounds { oldest: self.compacted, current: self.revision }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.keys.get(key)?.last()?.entry.as_ref()
    }

    pub(super) fn list(&self, list: &List) -> Result<Listing, StoreError> {
        let at = list.at.unwrap_or(self.revision);
        self.bounds().check(at)?;
        let prefix = list.prefix.as_str();
        let from = match &list.after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let most = list.limit.unwrap_or(usize::MAX);
        let mut found = self
            .keys
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter_map(|(_, versions)| versions.iter().rev().find(|version| version.revision <= at))
            .filter_map(|version| version.entry.as_ref());
        let entries = found.by_ref().take(most).cloned().collect();
        Ok(Listing { entries, revision: at, more: found.next().is_some() })
    }

    pub(super) fn changes(&self, prefix: &str, after: Revision, upto: Revision) -> Result<Page, StoreError> {
        self.bounds().check(after)?;
        let skip = usize::try_from(after - self.compacted).unwrap_or(usize::MAX);
        let mut page = Page { commits: Vec::new(), through: upto };
        for commit in self.log.iter().skip(skip).take_while(|commit| commit.revision <= upto) {
            page.commits.extend(below(commit, prefix));
            if page.commits.len() >= PAGE_COMMITS {
                page.through = commit.revision;
                break;
            }
        }
        Ok(page)
    }

    pub(super) fn txn(
        &mut self,
        txn: &Txn,
        leases: &Leases,
    ) -> Result<(TxnOutcome, Option<Commit>), StoreError> {
        if let Some(compare) = txn.compares.iter().position(|compare| !self.holds(compare)) {
            return Ok((TxnOutcome::Refused { compare }, None));
        }
        for operation in &txn.operations {
            if let Operation::Put { lease: Some(lease), .. } = operation
                && !leases.is_live(*lease)
            {
                return Err(StoreError::LeaseGone(*lease));
            }
        }
        let commit = self.commit(&txn.operations);
        Ok((TxnOutcome::Committed(self.revision), commit))
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => self.get(key).is_none(),
            Compare::Present(key) => self.get(key).is_some(),
            Compare::Modified(key, revision) => {
                self.get(key).is_some_and(|entry| entry.modified == *revision)
            }
        }
    }

    /// Applies operations as one revision; none if they change nothing.
    fn commit(&mut self, operations: &[Operation]) -> Option<Commit> {
        let revision = self.revision + 1;
        let mut changes: Vec<Change> =
            operations.iter().filter_map(|operation| self.change(operation, revision)).collect();
        if changes.is_empty() {
            return None;
        }
        changes.sort_by(|a, b| change_key(a).cmp(change_key(b)));
        for change in &changes {
            self.apply(change, revision);
        }
        self.revision = revision;
        let commit = Commit { revision, changes: changes.into() };
        self.log.push_back(commit.clone());
        self.forget_before(revision.saturating_sub(self.retain));
        Some(commit)
    }

    fn change(&self, operation: &Operation, revision: Revision) -> Option<Change> {
        match operation {
            Operation::Put { key, value, lease } => Some(Change::Put(Entry {
                key: key.clone(),
                value: Arc::clone(value),
                created: self.get(key).map_or(revision, |entry| entry.created),
                modified: revision,
                lease: *lease,
            })),
            Operation::Delete { key } => self.get(key).map(|entry| Change::Delete { key: entry.key.clone() }),
        }
    }

    fn apply(&mut self, change: &Change, revision: Revision) {
        let key = change_key(change);
        if let Some(lease) = self.get(key).and_then(|entry| entry.lease)
            && let Some(keys) = self.leased.get_mut(&lease)
        {
            keys.remove(key);
        }
        let entry = match change {
            Change::Put(entry) => Some(entry.clone()),
            Change::Delete { .. } => None,
        };
        if let Some(lease) = entry.as_ref().and_then(|entry| entry.lease) {
            self.leased.entry(lease).or_default().insert(key.to_owned());
        }
        self.keys.entry(key.to_owned()).or_default().push(Version { revision, entry });
    }

    pub(super) const fn grant(&mut self) -> LeaseId {
        self.leases += 1;
        LeaseId(self.leases)
    }

    /// Removes a lease's keys, as one commit unless there are more than one transaction may have.
    pub(super) fn end_lease(&mut self, lease: LeaseId) -> Vec<Commit> {
        let keys: Vec<String> = self.leased.remove(&lease).unwrap_or_default().into_iter().collect();
        let mut commits = Vec::new();
        for some in keys.chunks(STORE_TXN_OPERATIONS) {
            let operations: Vec<Operation> =
                some.iter().map(|key| Operation::Delete { key: key.clone() }).collect();
            commits.extend(self.commit(&operations));
        }
        commits
    }

    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        if revision > self.revision {
            return Err(StoreError::Future { asked: revision, current: self.revision });
        }
        self.forget_before(revision);
        Ok(())
    }

    /// Drops the commits up to `floor`, and what they superseded. Each is looked at once, so that keeping a bounded
    /// history costs each commit a constant amount.
    fn forget_before(&mut self, floor: Revision) {
        while self.compacted < floor
            && let Some(commit) = self.log.pop_front()
        {
            self.compacted = commit.revision;
            for change in &*commit.changes {
                let key = change_key(change);
                let Some(versions) = self.keys.get_mut(key) else { continue };
                let removed = matches!(change, Change::Delete { .. });
                versions.retain(|version| {
                    version.revision > commit.revision || (version.revision == commit.revision && !removed)
                });
                if versions.is_empty() {
                    self.keys.remove(key);
                }
            }
        }
    }
}
