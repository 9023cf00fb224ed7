//! Sleep: an instance of a service with `min = 0` of which nothing is asked is stopped, keeps its place, and is started
//! again for the next request, which waits in line meanwhile. Node and instance need nobody else for that: it goes on
//! while control is away.

use super::{Runner, STOP_GRACE, State};
use crate::admission::Slot;
use std::sync::Arc;
use tutti_base::Clock;
use tutti_isolate::Running;
use tutti_model::{Millis, Timestamp, instance::InstanceState, quantity::ByteSize};

/// Looks within the time that nothing may be asked of an instance: it sleeps at the latest a fourth later than it could.
const LOOKS: u64 = 4;

/// How long nothing was asked of an instance.
#[derive(Debug)]
pub(super) struct Rest {
    span: Millis,
    since: Timestamp,
    next: Timestamp,
}

impl Rest {
    /// One that is asked nothing for `span` may sleep.
    pub(super) fn new(span: Millis, now: Timestamp) -> Self {
        Rest { span, since: now, next: now.plus(Rest::pause(span)) }
    }

    fn pause(span: Millis) -> Millis {
        Millis((span.0 / LOOKS).max(1))
    }

    /// Whether it may sleep now. What it serves, or has served since the last look, keeps it awake.
    pub(super) fn is_over(&mut self, now: Timestamp, slot: &Slot) -> bool {
        // Both are looked at: a request that came and went counts as well as one that is inside.
        if slot.take_used() || slot.running() > 0 {
            self.since = now;
        }
        self.next = now.plus(Rest::pause(self.span));
        now.since(self.since) >= self.span
    }
}

/// Returns when it is time for the next look; never for one that does not sleep.
pub(super) async fn until_look(rest: Option<&Rest>, clock: &dyn Clock) {
    match rest {
        Some(rest) => clock.sleep_until(rest.next).await,
        None => std::future::pending().await,
    }
}

impl Runner {
    /// Nobody is inside, and nobody gets in any more: it is stopped, and those who come now wait.
    pub(super) async fn falls_asleep(&mut self, running: Arc<dyn Running>) -> State {
        self.lie_down();
        // Before it is stopped: an agent that starts meanwhile must not take what it finds for a crash.
        self.entry.asleep = true;
        self.record().await;
        running.stop(STOP_GRACE).await;
        self.node.living.remove(&self.entry.spec.instance);
        self.node.leases.forget(&self.entry.spec.instance);
        State::Asleep
    }

    /// It sleeps until somebody waits for it, or it is told to end.
    pub(super) async fn asleep(&mut self) -> State {
        self.lie_down();
        self.clear().await;
        let idle = self.entry.spec.manifest.idle().unwrap_or_default();
        let reason = format!("nothing was asked of it for {idle}: the next request starts it");
        self.voice.say(InstanceState::Asleep, Some(reason), Vec::new());
        loop {
            let Some(sleeper) = &self.sleeper else { return State::Preloading };
            tokio::select! {
                biased;
                () = self.orders.changed() => {}
                () = sleeper.wanted() => break,
            }
            if let Some(interrupt) = self.obey().await {
                return self.give_up(interrupt, None).await;
            }
        }
        if let Some(reason) = self.lacks_room() {
            return State::Failed { reason, last_lines: Vec::new() };
        }
        self.entry.asleep = false;
        self.record().await;
        match self.artifact.take() {
            Some(artifact) => State::Starting(artifact),
            None => State::Preloading,
        }
    }

    fn lie_down(&mut self) {
        let spec = &self.entry.spec;
        let timeout = spec.manifest.timeout;
        let lies_down = || self.node.directory.sleep(&spec.version, timeout, &spec.instance);
        self.sleeper.get_or_insert_with(lies_down);
    }

    /// Why it cannot wake here: while it slept its room was others' to have.
    fn lacks_room(&self) -> Option<String> {
        let (all, needed) = (self.node.capacity.memory, self.entry.spec.manifest.memory);
        let left = ByteSize(all.0.saturating_sub(self.node.living.memory().0));
        (left < needed).then(|| {
            format!(
                "cannot wake on node {}: it needs {needed} of memory, and {left} are left",
                self.node.name
            )
        })
    }
}

#[cfg(test)]
mod tests;
