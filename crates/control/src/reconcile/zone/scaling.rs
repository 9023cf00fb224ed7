//! Has more workers serve where the load is more. What was asked of each service lately is kept here, in memory: it is
//! told again within a minute, so that another control that takes over only waits that long before it has fewer serve.

use super::Zone;
use std::collections::{BTreeMap, VecDeque};
use tutti_model::{Millis, Problem, Resource, Timestamp, assignment::AssignmentSpec};
use tutti_plan::{
    happened,
    scaling::{Demand, LONG, Rate, SHORT, ScalingView, scale, workers},
};

/// Time between two samples: that of the loop's own look at what is silent.
pub(super) const SAMPLED: Millis = super::SILENCE_CHECK;

/// What was asked of a service at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    at: Timestamp,
    /// Requests that ran.
    running: u64,
    /// Requests answered since whenever.
    answers: u64,
}

/// What was asked of each service within the long window.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Of those that were asked within it.
    samples: BTreeMap<String, VecDeque<Sample>>,
    /// What each had answered at the last look.
    answers: BTreeMap<String, u64>,
}

impl History {
    /// Takes down what each service is asked for now: how many requests run, and how many were answered ever.
    fn take(&mut self, now: Timestamp, mut totals: BTreeMap<String, (u64, u64)>) {
        let oldest = Timestamp(now.0.saturating_sub(LONG.0));
        let answers = totals.iter().map(|(service, (_, answers))| (service.clone(), *answers)).collect();
        let before = std::mem::replace(&mut self.answers, answers);
        self.samples.retain(|service, samples| {
            let last = samples.back().copied();
            let (running, answers) =
                totals.remove(service).unwrap_or((0, last.map_or(0, |last| last.answers)));
            samples.push_back(Sample { at: now, running, answers });
            while samples.front().is_some_and(|sample| sample.at < oldest) {
                samples.pop_front();
            }
            let first = samples.front().copied();
            first.is_some_and(|first| first.answers != answers || samples.iter().any(|it| it.running > 0))
        });
        for (service, (running, answers)) in totals {
            if running == 0 && before.get(&service).is_none_or(|before| *before == answers) {
                continue;
            }
            self.samples.insert(service, [Sample { at: now, running, answers }].into());
        }
    }

    /// What is asked of a service. What was not seen counts as nothing.
    fn demand(&self, service: &str, now: Timestamp, since: Timestamp) -> Demand {
        let samples = self.samples.get(service);
        let rate = |window: Millis| {
            let from = Timestamp(now.0.saturating_sub(window.0));
            let within = || samples.into_iter().flatten().filter(|sample| sample.at >= from);
            let running: u64 = within().map(|sample| sample.running).sum();
            let answers = match (within().next(), within().next_back()) {
                (Some(first), Some(last)) => last.answers.saturating_sub(first.answers),
                _ => 0,
            };
            let expected = (window.0 / SAMPLED.0).max(1);
            Rate { running: running * 1000 / expected, answers: answers * 1_000_000 / window.0.max(1) }
        };
        Demand { long: rate(LONG), short: rate(SHORT), since }
    }
}

impl Zone {
    /// Looks at what every service is asked for, and has as many workers serve as that needs.
    ///
    /// # Errors
    /// Whatever the store answers; then it is decided anew at the next look.
    pub(super) async fn scale(&mut self) -> Result<(), Problem> {
        let now = self.objects.clock().now();
        self.observed.forget_told(now, |name| self.ingresses.get(name).is_some());
        let totals = self.observed.totals();
        self.history.take(now, totals.into_iter().map(|(of, total)| (of.to_string(), total)).collect());
        let changed: Vec<Resource<AssignmentSpec>> =
            self.assignments.iter().filter_map(|assignment| self.scaled(assignment, now)).collect();
        for assignment in changed {
            let Some(assignment) = self.within_quota(assignment).await? else { continue };
            if let Some(scaled) = &assignment.status.scaled {
                let (service, workers, why) = (&assignment.name, scaled.workers, &scaled.why);
                tracing::info!(service, workers, why, "scaled");
            }
            let known = self.assignments.get(&assignment.name);
            let before = known.map_or(0, |known| workers(&known.spec, known.status.scaled.as_ref()));
            let event = happened::of_scaling(now, before, &assignment);
            // Refused, somebody has just changed the assignment, and the next look goes by that.
            self.objects.write().update(&assignment).tell(event).commit().await?;
        }
        Ok(())
    }

    /// The assignment with another number of workers, if there is to be one.
    fn scaled(
        &self,
        assignment: &Resource<AssignmentSpec>,
        now: Timestamp,
    ) -> Option<Resource<AssignmentSpec>> {
        let demand = self.history.demand(&assignment.name, now, self.began);
        let scaled = assignment.status.scaled.as_ref();
        let view = ScalingView { now, assignment: &assignment.spec, scaled, demand: &demand };
        let change = scale(view).change?;
        let mut changed = assignment.clone();
        changed.status.scaled = Some(change);
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_000_000);

    fn after(seconds: u64) -> Timestamp {
        START.plus(Millis::seconds(seconds))
    }

    /// A service that runs `running` at once and answers `rate` a second, from 0 to `seconds`.
    fn asked(history: &mut History, seconds: std::ops::Range<u64>, running: u64, rate: u64) {
        for second in seconds.step_by(2) {
            history.take(after(second), [("web".to_owned(), (running, second * rate))].into());
        }
    }

    #[test]
    fn averages_are_over_the_whole_window_and_what_was_not_seen_is_nothing() {
        let mut history = History::default();
        asked(&mut history, 0..62, 8, 100);
        let demand = history.demand("web", after(60), START);
        assert_eq!(
            demand.short.running / 1000,
            10,
            "four samples stand in three times two seconds, both ends"
        );
        assert_eq!((demand.long.running / 1000, demand.long.answers / 1000), (8, 100));
        assert_eq!(demand.short.answers / 1000, 100);
        let mut young = History::default();
        asked(&mut young, 0..6, 8, 100);
        assert!(young.demand("web", after(4), START).long.running < 1000);
        assert_eq!(young.demand("api", after(4), START).long, Rate::default());
    }

    #[test]
    fn who_is_not_asked_for_a_minute_is_forgotten() {
        let mut history = History::default();
        asked(&mut history, 0..10, 8, 100);
        for second in (10..68).step_by(2) {
            history.take(after(second), [("web".to_owned(), (0, 800))].into());
            assert_eq!(history.samples.len(), 1);
        }
        for second in (68..72).step_by(2) {
            history.take(after(second), BTreeMap::new());
        }
        assert!(history.samples.is_empty());
    }

    #[test]
    fn who_only_ever_was_asked_takes_no_room() {
        let mut history = History::default();
        for second in (0..6).step_by(2) {
            history.take(after(second), [("web".to_owned(), (0, 500))].into());
        }
        assert!(history.samples.is_empty());
    }
}
