//! What the agent counts, as Prometheus text.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{collections::BTreeMap, sync::atomic::AtomicU64, time::Duration};
use tutti_model::{VersionRef, instance::InstanceState};

/// What became of a request at the node proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVersion {
    service: String,
    version: String,
}

/// The agent's counters. Those on a request's way are single atomics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    instances: Family<InState, Gauge>,
    /// Of the versions that are here now: others are forgotten each time the text is made.
    first_answers: Family<OfVersion, Gauge<f64, AtomicU64>>,
    running: Gauge,
    waiting: Gauge,
    /// Instances started again after they had ended by themselves.
    pub(crate) restarts: Counter,
    /// Reports that control did not take; each is said again.
    pub(crate) reports_failed: Counter,
    /// Heartbeats that control did not take.
    pub(crate) heartbeats_failed: Counter,
    /// Requests that an instance answered.
    pub(crate) answered: Counter,
    /// Requests refused because nothing here serves them.
    pub(crate) misdirected: Counter,
    /// Requests refused because every instance was busy.
    pub(crate) overloaded: Counter,
    /// Requests that an instance did not answer in time.
    pub(crate) timed_out: Counter,
    /// Requests whose instance failed.
    pub(crate) failed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Outcome, Counter>::default();
        let outcome = |outcome| requests.get_or_create_owned(&Outcome { outcome });
        let metrics = Metrics {
            instances: Family::default(),
            first_answers: Family::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            restarts: Counter::default(),
            reports_failed: Counter::default(),
            heartbeats_failed: Counter::default(),
            answered: outcome("answered"),
            misdirected: outcome("misdirected"),
            overloaded: outcome("overloaded"),
            timed_out: outcome("timed_out"),
            failed: outcome("failed"),
            registry: Registry::default(),
        };
        registry.register("tutti_node_requests", "Requests at the node proxy, by outcome", requests);
        registry.register(
            "tutti_node_instances",
            "Instances on this node, by state",
            metrics.instances.clone(),
        );
        registry.register(
            "tutti_node_first_answer_seconds",
            "Time that the first request of a version waited for the head of its answer, by service and version",
            metrics.first_answers.clone(),
        );
        registry.register(
            "tutti_node_requests_running",
            "Requests inside instances now",
            metrics.running.clone(),
        );
        registry.register(
            "tutti_node_requests_waiting",
            "Requests waiting for room now",
            metrics.waiting.clone(),
        );
        registry.register(
            "tutti_node_restarts",
            "Instances started again after they had ended by themselves",
            metrics.restarts.clone(),
        );
        registry.register(
            "tutti_node_reports_failed",
            "Reports that control did not take; each is said again",
            metrics.reports_failed.clone(),
        );
        registry.register(
            "tutti_node_heartbeats_failed",
            "Heartbeats that control did not take",
            metrics.heartbeats_failed.clone(),
        );
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    /// The text, without the closing `# EOF`, so that it can be put beside other roles' metrics.
    pub(crate) fn text(
        &self,
        states: &BTreeMap<InstanceState, u64>,
        running: u64,
        waiting: usize,
        first_answers: Vec<(VersionRef, Duration)>,
    ) -> String {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for state in InstanceState::ALL {
            let count = states.get(&state).copied().unwrap_or(0);
            self.instances.get_or_create(&InState { state: state.as_str() }).set(whole(count));
        }
        self.first_answers.clear();
        for (of, took) in first_answers {
            let (service, version) = (of.service.to_string(), of.version.to_string());
            self.first_answers.get_or_create(&OfVersion { service, version }).set(took.as_secs_f64());
        }
        self.running.set(whole(running));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text.truncate(text.trim_end_matches("# EOF\n").len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_state_and_outcome() {
        let metrics = Metrics::default();
        metrics.overloaded.inc();
        let text = metrics.text(
            &BTreeMap::from([(InstanceState::Ready, 3)]),
            7,
            2,
            vec![("example.com:web@1.0".to_owned().try_into().unwrap(), Duration::from_millis(250))],
        );
        let first = "tutti_node_first_answer_seconds{service=\"example.com:web\",version=\"1.0\"} 0.25";
        assert!(text.contains(first), "{text}");
        assert!(text.contains("tutti_node_instances{state=\"ready\"} 3"), "{text}");
        assert!(text.contains("tutti_node_instances{state=\"failed\"} 0"), "{text}");
        assert!(text.contains("tutti_node_requests_total{outcome=\"overloaded\"} 1"), "{text}");
        assert!(text.contains("tutti_node_requests_total{outcome=\"answered\"} 0"), "{text}");
        assert!(
            text.contains("tutti_node_requests_running 7") && text.contains("tutti_node_requests_waiting 2")
        );
        assert!(!text.contains("EOF"));
        // A version that is gone is not told of for ever.
        assert!(!metrics.text(&BTreeMap::new(), 0, 0, Vec::new()).contains("example.com:web"));
    }
}
