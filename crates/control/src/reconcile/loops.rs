//! How the loops fare: what an operator asks for who wonders why nothing moves. Loops say what they do, in memory;
//! nothing is decided by it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tutti_api::debug::{LoopError, ReconcilerLoop};
use tutti_base::Clock;
use tutti_model::{Problem, Timestamp};

/// All loops of this control, since it started. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Loops(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    leads_since: Option<Timestamp>,
    loops: BTreeMap<&'static str, ReconcilerLoop>,
}

/// One loop's own view of it.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    name: &'static str,
    loops: Loops,
    clock: Arc<dyn Clock>,
}

impl Loops {
    /// Says that this control leads from then on, or no longer.
    pub(crate) fn lead(&self, since: Option<Timestamp>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.leads_since = since;
        for one in state.loops.values_mut() {
            // What was under way is over, and what was waiting is the next leader's.
            (one.running_since, one.due, one.later) = (None, 0, 0);
        }
    }

    /// Since when this control leads, and how its loops fare.
    pub(crate) fn read(&self) -> (Option<Timestamp>, Vec<ReconcilerLoop>) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.leads_since, state.loops.values().cloned().collect())
    }

    pub(super) fn pulse(&self, name: &'static str, clock: &Arc<dyn Clock>) -> Pulse {
        let pulse = Pulse { name, loops: self.clone(), clock: Arc::clone(clock) };
        pulse.change(|_| {});
        pulse
    }
}

impl Pulse {
    fn change(&self, change: impl FnOnce(&mut ReconcilerLoop)) {
        let mut state = self.loops.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || ReconcilerLoop { name: self.name.to_owned(), ..ReconcilerLoop::default() };
        change(state.loops.entry(self.name).or_insert_with(made));
    }

    /// A run begins.
    pub(super) fn begin(&self) {
        let now = self.clock.now();
        self.change(|one| one.running_since = Some(now));
    }

    /// The run has ended.
    pub(super) fn end(&self) {
        let now = self.clock.now();
        self.change(|one| {
            let Some(began) = one.running_since.take() else { return };
            one.last_run = Some(began);
            one.took = now.since(began);
            one.longest = one.longest.max(one.took);
            one.runs += 1;
        });
    }

    /// Something could not be done, and is tried again.
    pub(super) fn fail(&self, object: &str, problem: &Problem) {
        let at = self.clock.now();
        self.change(|one| {
            one.errors += 1;
            one.last_error = Some(LoopError { at, object: object.to_owned(), text: problem.to_string() });
        });
    }

    /// So many objects wait to be looked at, at once and later.
    pub(super) fn waiting(&self, (due, later): (usize, usize)) {
        self.change(|one| (one.due, one.later) = (due, later));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_base::clock::VirtualClock;
    use tutti_model::Millis;

    #[test]
    fn a_loop_is_told_by_its_last_run_and_its_worst() {
        let virtual_clock = VirtualClock::at(Timestamp(1000));
        let clock: Arc<dyn Clock> = Arc::new(virtual_clock.clone());
        let loops = Loops::default();
        let pulse = loops.pulse("zone", &clock);
        loops.lead(Some(Timestamp(900)));
        for took in [50, 7] {
            pulse.begin();
            virtual_clock.advance(Millis(took));
            pulse.end();
        }
        pulse.end();
        pulse.fail("service example.com:web", &Problem::unavailable("the store does not answer"));
        pulse.waiting((3, 4));
        pulse.begin();
        let (since, read) = loops.read();
        let one = &read[0];
        assert_eq!((since, one.name.as_str()), (Some(Timestamp(900)), "zone"));
        assert_eq!((one.runs, one.took, one.longest), (2, Millis(7), Millis(50)));
        assert_eq!((one.last_run, one.running_since), (Some(Timestamp(1050)), Some(Timestamp(1057))));
        assert_eq!((one.errors, one.due, one.later), (1, 3, 4));
        assert_eq!(one.last_error.as_ref().unwrap().object, "service example.com:web");

        loops.lead(None);
        let (since, read) = loops.read();
        assert_eq!((since, read[0].running_since, read[0].due), (None, None, 0));
        assert_eq!(read[0].runs, 2, "what was is still told");
    }
}
