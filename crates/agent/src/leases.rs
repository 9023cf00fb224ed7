//! The leases of this node's singletons: asked for with each heartbeat, given by control, and passed on to what runs.
//!
//! An instance that has none is not started, and one that runs is ended by its shim when its lease has run out, whether
//! this agent lives, hangs or is gone. What control gives, and to whom, is not decided here.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, watch};
use tutti_base::Uptime;
use tutti_model::{InstanceId, instance::LEASES_PER_NODE};

/// The leases of one node.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    asked: Mutex<BTreeMap<InstanceId, watch::Sender<Uptime>>>,
    wanted: Notify,
}

impl Leases {
    /// From now on a lease is asked for this instance. Gives until when it has one, and tells of each that comes.
    pub(crate) fn want(&self, instance: &InstanceId) -> watch::Receiver<Uptime> {
        let until = self.lock().entry(instance.clone()).or_default().subscribe();
        self.wanted.notify_one();
        until
    }

    /// It needs none any more.
    pub(crate) fn forget(&self, instance: &InstanceId) {
        self.lock().remove(instance);
    }

    /// Returns once there is a lease to be asked for that may not have been before.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// What the next heartbeat asks for. Of more than it may, those whose leases end first.
    pub(crate) fn asked(&self) -> Vec<InstanceId> {
        let asked = self.lock();
        let mut all: Vec<_> = asked.iter().map(|(id, until)| (*until.borrow(), id)).collect();
        all.sort();
        all.into_iter().take(LEASES_PER_NODE).map(|(_, id)| id.clone()).collect()
    }

    /// Control gives an instance leave to run until then.
    pub(crate) fn give(&self, instance: &InstanceId, until: Uptime) {
        if let Some(known) = self.lock().get(instance) {
            known.send_if_modified(|known| {
                let is_later = until > *known;
                *known = until.max(*known);
                is_later
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, watch::Sender<Uptime>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_model::Millis;

    #[tokio::test]
    async fn of_more_than_a_heartbeat_may_ask_for_those_that_end_first_are_asked() {
        let leases = Leases::default();
        let ids: Vec<InstanceId> = (0..LEASES_PER_NODE as u64 + 2).map(InstanceId::from_bits).collect();
        for id in &ids {
            leases.want(id);
        }
        leases.wanted().await;
        assert_eq!(leases.asked().len(), LEASES_PER_NODE);
        let until = Uptime(Millis::seconds(20));
        for id in &leases.asked() {
            leases.give(id, until);
            leases.give(id, Uptime::default());
            assert_eq!(*leases.want(id).borrow(), until, "none is taken back");
        }
        let rest: Vec<_> = ids.iter().filter(|id| *leases.want(id).borrow() < until).cloned().collect();
        assert_eq!((rest.len(), &leases.asked()[..2]), (2, rest.as_slice()));
        ids.iter().for_each(|id| leases.forget(id));
        leases.give(&ids[0], until);
        assert_eq!(leases.asked(), []);
    }
}
