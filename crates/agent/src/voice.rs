//! One instance's status, as its runner knows it and the reporter says it.

use crate::reporter::Reporter;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tutti_base::Clock;
use tutti_model::{
    InstanceId,
    instance::{InstanceState, InstanceStatus},
    limits,
};

/// Longest of an instance's last lines that travels with a failure, in bytes: all of them together must fit well into
/// one stored value.
const LAST_LINE_BYTES: usize = 1024;

/// Says what one instance is.
#[derive(Debug)]
pub(crate) struct Voice {
    instance: InstanceId,
    reporter: Arc<Reporter>,
    clock: Arc<dyn Clock>,
    status: InstanceStatus,
    settled: CancellationToken,
}

impl Voice {
    /// Nothing is said yet. `settled` is cancelled once the instance is ready, or cannot be for now.
    pub(crate) fn new(
        instance: InstanceId,
        reporter: Arc<Reporter>,
        clock: Arc<dyn Clock>,
        generation: u64,
        settled: CancellationToken,
    ) -> Self {
        let status = InstanceStatus {
            observed_generation: generation,
            since: clock.now(),
            ..InstanceStatus::default()
        };
        Voice { instance, reporter, clock, status, settled }
    }

    /// What was said last.
    pub(crate) const fn status(&self) -> &InstanceStatus {
        &self.status
    }

    /// The instance is in this state now.
    pub(crate) fn say(&mut self, state: InstanceState, reason: Option<String>, last_lines: Vec<String>) {
        self.prepare(state, reason, last_lines);
        self.said();
    }

    /// Takes a status over that an earlier agent had said last.
    pub(crate) fn resume(&mut self, status: InstanceStatus) {
        let observed_generation = self.status.observed_generation.max(status.observed_generation);
        self.status = InstanceStatus { observed_generation, ..status };
        self.said();
    }

    /// Sets what [`Voice::said`] will say.
    pub(crate) fn prepare(&mut self, state: InstanceState, reason: Option<String>, last_lines: Vec<String>) {
        if self.status.state != state {
            self.status.state = state;
            self.status.since = self.clock.now();
            match &reason {
                Some(reason) => tracing::info!(instance = %self.instance, state = %state, reason, "instance"),
                None => tracing::info!(instance = %self.instance, state = %state, "instance"),
            }
        }
        self.status.reason = reason;
        self.status.last_lines = shortened(last_lines);
    }

    /// Hands what is prepared to the reporter.
    pub(crate) fn said(&mut self) {
        use InstanceState as S;
        self.reporter.say(&self.instance, self.status.clone());
        if matches!(
            self.status.state,
            S::Ready | S::Asleep | S::Backoff | S::Failed | S::Draining | S::Stopped
        ) {
            self.settle();
        }
    }

    /// It cannot be ready for now: nobody need wait for it.
    pub(crate) fn settle(&self) {
        self.settled.cancel();
    }

    /// The agent acts on this generation now; said at once, or with the first state.
    pub(crate) fn observe(&mut self, generation: u64) {
        if self.status.observed_generation != generation {
            self.status.observed_generation = generation;
            if self.has_spoken() {
                self.reporter.say(&self.instance, self.status.clone());
            }
        }
    }

    /// Whether anything was said of it yet.
    pub(crate) fn has_spoken(&self) -> bool {
        self.status.state != InstanceState::Pending
    }

    /// How often it was started again; said with the next state.
    pub(crate) const fn restarted(&mut self, restarts: u32) {
        self.status.restarts = restarts;
    }

    /// What its isolate cannot enforce; said with the next state.
    pub(crate) fn weaker(&mut self, weaker: Vec<String>) {
        self.status.weaker = weaker;
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.settled.cancel();
    }
}

fn shortened(lines: Vec<String>) -> Vec<String> {
    let surplus = lines.len().saturating_sub(limits::FAILURE_LOG_LINES);
    let cut = |mut line: String| {
        if line.len() > LAST_LINE_BYTES {
            line.truncate(line.floor_char_boundary(LAST_LINE_BYTES));
            line.push('…');
        }
        line
    };
    lines.into_iter().skip(surplus).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_are_few_and_short() {
        let lines: Vec<String> = (0..100).map(|number| format!("{number} {}", "ü".repeat(2000))).collect();
        let kept = shortened(lines);
        assert_eq!(kept.len(), limits::FAILURE_LOG_LINES);
        assert!(kept[0].starts_with("80 ") && kept[0].ends_with('…'), "{}", &kept[0][..20]);
        assert!(kept.iter().map(String::len).sum::<usize>() < limits::STORE_VALUE_BYTES / 8);
    }
}
