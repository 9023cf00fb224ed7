//! When leases expire. Kept in memory only: a lease's grant is persisted by the engine that has a disk, its expiry is
//! not, so that keeping one alive costs no fsync. After a restart every lease has its whole time anew: a holder that
//! lived through the restart keeps what it had, and one that did not is found out one `ttl` later.
//!
//! A lease is live; or ending (its keys are being removed, and it can no longer be kept alive or used); or gone. The
//! engine removes keys and then says [`Leases::forget`], or, if it could not, [`Leases::retry`] or
//! [`Leases::restore`].

use crate::{LeaseId, StoreError, check};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;
use tutti_base::Clock;
use tutti_model::{Millis, Timestamp};

/// How long after a failure (a full disk) the removal of an expired lease's keys is tried again.
const RETRY: Millis = Millis::seconds(1);

/// The leases of one store.
pub(crate) struct Leases {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Told when the next expiry has become earlier.
    sooner: Notify,
    /// Told after each batch: what was due has been dealt with.
    settled: Notify,
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leases")
    }
}

#[derive(Default)]
struct State {
    leases: BTreeMap<LeaseId, Lease>,
    /// When each lease is to be looked at; none for one that is just being removed.
    agenda: BTreeSet<(Timestamp, LeaseId)>,
}

struct Lease {
    ttl: Millis,
    expires: Timestamp,
    ending: bool,
}

impl Leases {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Leases { clock, state: Mutex::default(), sooner: Notify::new(), settled: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may be granted, beside `pending` that are about to be.
    pub(crate) fn check_room(&self, pending: usize) -> Result<(), StoreError> {
        if self.state().leases.len() + pending >= check::LEASES {
            return Err(StoreError::Invalid(format!(
                "there are {} leases, and no more are allowed",
                check::LEASES
            )));
        }
        Ok(())
    }

    /// A lease begins, with its whole time before it.
    pub(crate) fn add(&self, id: LeaseId, ttl: Millis) {
        let expires = self.clock.now().plus(ttl);
        let mut state = self.state();
        let sooner = state.agenda.first().is_none_or(|(first, _)| expires < *first);
        state.leases.insert(id, Lease { ttl, expires, ending: false });
        state.agenda.insert((expires, id));
        drop(state);
        if sooner {
            self.sooner.notify_one();
        }
    }

    /// Gives a live lease its whole time anew.
    pub(crate) fn keep_alive(&self, id: LeaseId) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut guard = self.state();
        let state = &mut *guard;
        let lease = state
            .leases
            .get_mut(&id)
            .filter(|lease| !lease.ending && now < lease.expires)
            .ok_or(StoreError::LeaseGone(id))?;
        let before = lease.expires;
        lease.expires = now.plus(lease.ttl);
        let after = lease.expires;
        state.agenda.remove(&(before, id));
        state.agenda.insert((after, id));
        Ok(())
    }

    /// Whether keys may go with it.
    pub(crate) fn is_live(&self, id: LeaseId) -> bool {
        let now = self.clock.now();
        self.state().leases.get(&id).is_some_and(|lease| !lease.ending && now < lease.expires)
    }

    /// Begins to end a lease before its time.
    pub(crate) fn end(&self, id: LeaseId) -> Result<(), StoreError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let lease =
            state.leases.get_mut(&id).filter(|lease| !lease.ending).ok_or(StoreError::LeaseGone(id))?;
        lease.ending = true;
        state.agenda.remove(&(lease.expires, id));
        Ok(())
    }

    /// Begins to end those whose time is up, at most `most` of them.
    pub(crate) fn end_due(&self, most: usize) -> Vec<LeaseId> {
        let now = self.clock.now();
        let mut guard = self.state();
        let state = &mut *guard;
        let mut due = Vec::new();
        while due.len() < most
            && let Some((when, id)) = state.agenda.first().copied()
            && when <= now
        {
            state.agenda.remove(&(when, id));
            if let Some(lease) = state.leases.get_mut(&id) {
                lease.ending = true;
                due.push(id);
            }
        }
        due
    }

    /// Its keys are removed.
    pub(crate) fn forget(&self, id: LeaseId) {
        self.state().leases.remove(&id);
    }

    /// Its keys could not be removed when its time was up: it stays ended, and is due again soon.
    pub(crate) fn retry(&self, id: LeaseId) {
        let again = self.clock.now().plus(RETRY);
        self.state().agenda.insert((again, id));
        self.sooner.notify_one();
    }

    /// Its keys could not be removed before its time: it lives on as it was.
    pub(crate) fn restore(&self, id: LeaseId) {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(lease) = state.leases.get_mut(&id) {
            lease.ending = false;
            state.agenda.insert((lease.expires, id));
        }
        drop(guard);
        self.sooner.notify_one();
    }

    /// Those that were due are gone, or are due again later.
    pub(crate) fn settle(&self) {
        self.settled.notify_one();
    }

    /// Returns once [`Leases::settle`] was called; at once if it was since the last time.
    pub(crate) async fn settled(&self) {
        self.settled.notified().await;
    }

    /// Returns once a lease is due.
    pub(crate) async fn due(&self) {
        loop {
            let next = self.state().agenda.first().map(|(when, _)| *when);
            match next {
                Some(when) if when <= self.clock.now() => return,
                Some(when) => tokio::select! {
                    biased;
                    () = self.clock.sleep_until(when) => {}
                    () = self.sooner.notified() => {}
                },
                None => self.sooner.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_base::clock::VirtualClock;

    #[tokio::test]
    async fn ends_what_is_due_and_tries_again_after_a_failure() {
        let clock = VirtualClock::at(Timestamp(1));
        let leases = Leases::new(Arc::new(clock.clone()));
        let (short, long) = (LeaseId(1), LeaseId(2));
        leases.add(short, Millis(10));
        leases.add(long, Millis(20));
        clock.advance(Millis(9));
        leases.keep_alive(long).unwrap();
        assert!(leases.end_due(9).is_empty());
        clock.advance(Millis(1));
        leases.due().await;
        assert!(!leases.is_live(short));
        assert_eq!(leases.keep_alive(short), Err(StoreError::LeaseGone(short)));
        assert_eq!(leases.end_due(9), [short]);
        assert!(leases.end_due(9).is_empty());
        leases.retry(short);
        assert!(leases.end_due(9).is_empty());
        clock.advance(RETRY);
        assert_eq!(leases.end_due(1), [long]);
        assert_eq!(leases.end_due(9), [short]);
        assert_eq!(leases.keep_alive(short), Err(StoreError::LeaseGone(short)));
        leases.forget(short);
        assert_eq!(leases.end(short), Err(StoreError::LeaseGone(short)));
    }

    #[tokio::test]
    async fn one_more_than_allowed_is_refused() {
        let leases = Leases::new(Arc::new(VirtualClock::default()));
        for id in 1..=u64::try_from(check::LEASES).unwrap() {
            leases.check_room(0).unwrap();
            leases.add(LeaseId(id), Millis(1));
        }
        assert!(matches!(leases.check_room(0), Err(StoreError::Invalid(_))));
    }
}
