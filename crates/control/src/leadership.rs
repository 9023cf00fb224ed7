//! Who reconciles: of all controls over one store, one at a time.
//!
//! The one that leads has written the [`LeaderSpec`] bound to a lease, and keeps the lease alive. Losing it ends its
//! reconcilers; and since every write of theirs compares the object, one that was stopped for a while and does not
//! know yet that another leads can write nothing. So the lease is for liveness alone, and no clock is trusted.
//!
//! A control that starts anew under its old name takes its own object over at once: its last life is over, or fenced
//! off by that.

use crate::{
    Objects,
    reconcile::{self, ReconcileOptions},
};
use futures_util::StreamExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tutti_base::{Backoff, Tasks};
use tutti_model::{
    Millis, Problem, Resource, Timestamp,
    control::{LEADER, LeaderSpec},
    name::NodeName,
};
use tutti_plan::happened;
use tutti_store::{LeaseId, StoreError};

/// How long a leader that is gone keeps others waiting: a few rounds of a store under load, and little beside the 10 s
/// after which a node counts as silent.
const TTL: Millis = Millis::seconds(5);
/// How often its lease is kept alive.
const KEEP_ALIVE: Millis = Millis::seconds(1);
/// A leader whose store has not answered for this long stops by itself: what it would decide is not written anyway.
const GIVE_UP: Millis = Millis::seconds(4);
/// The first pause before a store that does not answer is asked again, and the longest.
const PAUSES: (Millis, Millis) = (Millis(200), Millis::seconds(2));

/// Reconciles whenever this control leads, until `tasks` are to stop.
pub fn start(control: NodeName, options: ReconcileOptions, tasks: &Tasks) {
    let candidate = Candidate { control, options, tasks: tasks.clone() };
    tasks.spawn("leadership", candidate.run());
}

/// Returns once some control leads.
///
/// # Errors
/// The store's own.
pub async fn led(objects: &Objects) -> Result<(), Problem> {
    let mut changes = objects.watch::<LeaderSpec>(None);
    while objects.find::<LeaderSpec>(LEADER).await?.is_none() {
        changes.next().await.transpose()?;
    }
    Ok(())
}

/// A control that leads, or waits for its turn.
struct Candidate {
    control: NodeName,
    options: ReconcileOptions,
    tasks: Tasks,
}

/// A leader's office, while it lasts.
struct Office {
    leader: Resource<LeaderSpec>,
    lease: LeaseId,
}

impl Candidate {
    async fn run(self) {
        let stop = self.tasks.stopping();
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1, self.objects().random().clone());
        while !stop.is_cancelled() {
            let elected = tokio::select! {
                () = stop.cancelled() => return,
                elected = self.elected() => elected,
            };
            match elected {
                Ok(office) => {
                    pauses.succeed();
                    self.lead(office, &stop).await;
                }
                Err(problem) => {
                    if pauses.failures() == 0 {
                        tracing::warn!(%problem, "no leader can be elected now; trying again");
                    }
                    let pause = pauses.fail();
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.objects().clock().sleep(pause) => {}
                    }
                }
            }
        }
    }

    const fn objects(&self) -> &Objects {
        &self.options.objects
    }

    /// Returns once this control leads.
    async fn elected(&self) -> Result<Office, Problem> {
        let mut changes = self.objects().watch::<LeaderSpec>(None);
        loop {
            if let Some(office) = self.stand().await? {
                return Ok(office);
            }
            // Whatever happens to the leader's object is a reason to look again.
            changes.next().await.transpose()?;
        }
    }

    /// Takes the office if it is free, or this control's own from an earlier life.
    async fn stand(&self) -> Result<Option<Office>, Problem> {
        let objects = self.objects();
        let found = objects.find::<LeaderSpec>(LEADER).await?;
        if found.as_ref().is_some_and(|leader| leader.spec.control != self.control) {
            return Ok(None);
        }
        let lease = objects.store().grant(TTL).await?;
        let (write, mut leader) = match found {
            Some(mut own) => {
                own.generation += 1;
                (objects.write().update_leased(&own, lease), own)
            }
            None => {
                let spec = LeaderSpec { control: self.control.clone() };
                let made = objects.make(LEADER, spec);
                (objects.write().create_leased(&made, lease), made)
            }
        };
        let event = happened::of_leader(objects.clock().now(), &self.control);
        match write.tell(Some(event)).commit().await? {
            Some(revision) => {
                leader.revision = revision;
                Ok(Some(Office { leader, lease }))
            }
            None => {
                // Another was faster. A lease that cannot be given back expires.
                let _ = objects.store().revoke(lease).await;
                Ok(None)
            }
        }
    }

    /// Reconciles until the office is lost or `stop` asks.
    async fn lead(&self, office: Office, stop: &CancellationToken) {
        tracing::info!(control = %self.control, revision = office.leader.revision, "leads: reconcilers start");
        let over = stop.child_token();
        let running = TaskTracker::new();
        let options =
            ReconcileOptions { objects: self.objects().fenced(&office.leader), ..self.options.clone() };
        self.options.loops.lead(Some(self.objects().clock().now()));
        reconcile::start(options, &self.tasks, &running, &over);
        let lost = tokio::select! {
            () = stop.cancelled() => None,
            lost = self.keep(office.lease) => Some(lost),
        };
        over.cancel();
        running.close();
        running.wait().await;
        self.options.loops.lead(None);
        match lost {
            Some(why) => {
                tracing::warn!(control = %self.control, %why, "leads no longer: reconcilers have stopped")
            }
            // In order, so that nobody waits for the lease to run out.
            None => drop(self.objects().store().revoke(office.lease).await),
        }
    }

    /// Keeps the office; returns once it is lost.
    async fn keep(&self, lease: LeaseId) -> StoreError {
        let clock = self.objects().clock();
        let mut kept: Timestamp = clock.now();
        loop {
            clock.sleep(KEEP_ALIVE).await;
            let answer = tokio::select! {
                answer = self.objects().store().keep_alive(lease) => answer,
                () = clock.sleep_until(kept.plus(GIVE_UP)) => {
                    Err(StoreError::Unavailable("it does not answer".to_owned()))
                }
            };
            match answer {
                Ok(()) => kept = clock.now(),
                Err(gone @ StoreError::LeaseGone(_)) => return gone,
                Err(error) if clock.now().since(kept) >= GIVE_UP => return error,
                Err(error) => tracing::debug!(%error, "the leader's lease was not kept alive; trying again"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
