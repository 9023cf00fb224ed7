//! What keeps an instance of a singleton from being started: it waits here for leave to run.

use super::{Interrupt, Runner};
use tutti_base::Uptime;
use tutti_model::{
    Millis,
    instance::{InstanceState, LEASE},
};

/// What has to be left of a lease for a start to be worth it: it takes a while, and the next lease comes meanwhile.
const ENOUGH: Millis = Millis(LEASE.0 / 2);

/// How long an instance waits for its lease before it says so: mostly the next heartbeat brings one.
const PATIENCE: Millis = Millis::seconds(3);

impl Runner {
    /// From now on a lease is asked for it, if it needs one.
    pub(super) fn wants_lease(&self) {
        if self.entry.spec.manifest.singleton {
            self.node.leases.want(&self.entry.spec.instance);
        }
    }

    /// Waits until it may run, and says until when; `None` for one that needs no leave.
    pub(super) async fn lease(&mut self) -> Result<Option<Uptime>, Interrupt> {
        if !self.entry.spec.manifest.singleton {
            return Ok(None);
        }
        let node = std::sync::Arc::clone(&self.node);
        let mut given = node.leases.want(&self.entry.spec.instance);
        let patience = node.clock.sleep(PATIENCE);
        tokio::pin!(patience);
        let mut has_said = false;
        loop {
            let until = *given.borrow_and_update();
            if until.since(node.clock.uptime()) >= ENOUGH {
                return Ok(Some(until));
            }
            tokio::select! {
                biased;
                () = self.orders.changed() => if let Some(interrupt) = self.obey().await {
                    return Err(interrupt);
                },
                // The sender is in `leases` until this runner forgets it.
                Ok(()) = given.changed() => {}
                () = &mut patience, if !has_said => {
                    has_said = true;
                    let reason = "waits for leave to run: a singleton is started only while control answers, and gives it its lease";
                    self.voice.say(InstanceState::Starting, Some(reason.into()), Vec::new());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
