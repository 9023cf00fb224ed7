//! What this ingress knows of itself, for Prometheus.

use crate::Edge;
use std::{cmp::Reverse, collections::HashSet, time::Duration};
use tutti_base::{
    metrics::{Exposition, Family, MetricKind},
    sha256::Hasher,
};
use tutti_model::stats::{ServiceStats, VersionStats};

/// Versions that have series of their own, the most asked ones: some twenty each.
const VERSIONS: usize = 2000;
/// Nodes that have series of their own: two each.
const NODES: usize = 1000;

/// The bounds of the latency buckets, in microseconds: the usual ones of Prometheus, from 1 ms on.
const BUCKETS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// Takes one figure out of all.
type Figure = fn(&VersionStats) -> u64;

/// Everything, without the closing line, so that it can be put beside other roles'.
pub(crate) fn text(edge: &Edge) -> String {
    let mut text = Exposition::default();
    let mut stats = edge.tables.stats();
    let cut = most_asked(&mut stats);
    of_tables(edge, &mut text);
    of_connections(edge, &mut text);
    let help = "Requests that the ingress itself answered with a failure, by code.";
    let mut failures = text.family("tutti_ingress_failures", MetricKind::Counter, help);
    for (code, count) in edge.own.failures() {
        failures.put(&[("code", &code.to_string())], count);
    }
    let help = "Attempts to send a request elsewhere after one that surely reached no instance.";
    text.single("tutti_ingress_retries", MetricKind::Counter, help, edge.own.retries());
    let help = "Whether there are more versions or nodes than are told of one by one.";
    let links = edge.hop.links().len() > NODES;
    text.single("tutti_ingress_metrics_truncated", MetricKind::Gauge, help, u8::from(cut || links));

    let figures: [(&str, MetricKind, &str, Figure); 3] = [
        (
            "tutti_ingress_answers",
            MetricKind::Counter,
            "Requests answered, errors included, by service and version.",
            |stats| stats.answers,
        ),
        (
            "tutti_ingress_errors",
            MetricKind::Counter,
            "Answers that blame the service, or none at all.",
            |stats| stats.errors,
        ),
        ("tutti_ingress_running", MetricKind::Gauge, "Requests running now.", |stats| stats.running),
    ];
    for (name, kind, help, figure) in figures {
        let mut family = text.family(name, kind, help);
        for one in &stats {
            labelled(one, |labels| family.put(labels, figure(&one.stats)));
        }
    }
    let help = "Time from a request's head to its answer's head.";
    let mut latencies = text.family("tutti_ingress_latency_seconds", MetricKind::Histogram, help);
    for one in &stats {
        labelled(one, |labels| latency(&mut latencies, labels, &one.stats));
    }
    text.into_text()
}

fn of_tables(edge: &Edge, text: &mut Exposition) {
    let gauge = MetricKind::Gauge;
    let help = "Store revision up to which tables are applied; 0 while it serves by those of its folder.";
    text.single("tutti_ingress_table_revision", gauge, help, *edge.reached.borrow());
    let help = "How long ago the tables were last known to be control's newest.";
    let mut age = text.family("tutti_ingress_table_age_seconds", gauge, help);
    if let Some(at) = edge.confirmed.last() {
        age.put(&[], edge.clock.now().since(at).duration().as_secs_f64());
    }
    let help = "The digest of all tables, as a label: ingresses of one digest route alike.";
    let digest = digest(edge);
    text.family("tutti_ingress_table_digest", MetricKind::Info, help).put(&[("digest", &digest)], 1);
    text.single("tutti_ingress_services", gauge, "Services with a table.", edge.tables.count());
}

/// Over names, generations and what the tables say, in the order of their names.
fn digest(edge: &Edge) -> String {
    let mut hasher = Hasher::default();
    for table in edge.tables.all() {
        // Tables came as JSON, so that they can be written as such.
        let said = serde_json::to_vec(&(&table.name, table.generation, &table.spec)).unwrap_or_default();
        hasher.update(&said);
    }
    hasher.finish().to_string()
}

fn of_connections(edge: &Edge, text: &mut Exposition) {
    let gauge = MetricKind::Gauge;
    let help = "Open connections of clients, upgraded ones included.";
    text.single("tutti_ingress_connections", gauge, help, edge.connections.len());
    let help = "Open connections to plain upstreams.";
    text.single("tutti_ingress_upstream_connections", gauge, help, edge.pool.open());
    let help = "Nodes in other processes that are known here.";
    text.single("tutti_ingress_nodes", gauge, help, edge.nodes.all().len());
    let links = edge.hop.links();
    let help = "Open connections to a node; nodes that nothing was sent to lately have none.";
    let mut connections = text.family("tutti_ingress_node_connections", gauge, help);
    for link in links.iter().take(NODES) {
        connections.put(&[("node", link.node.as_str())], link.connections);
    }
    let help = "Whether a node is out at this ingress, so that nothing is sent there.";
    let mut out = text.family("tutti_ingress_node_out", gauge, help);
    for link in links.iter().take(NODES) {
        out.put(&[("node", link.node.as_str())], u8::from(link.out.is_some()));
    }
}

/// Leaves those that were asked most, in the order that they had; whether there were more.
fn most_asked(stats: &mut Vec<ServiceStats>) -> bool {
    if stats.len() <= VERSIONS {
        return false;
    }
    let mut by_answers: Vec<(usize, u64)> =
        stats.iter().enumerate().map(|(at, one)| (at, one.stats.answers)).collect();
    by_answers.sort_by_key(|(_, answers)| Reverse(*answers));
    let kept: HashSet<usize> = by_answers.into_iter().take(VERSIONS).map(|(at, _)| at).collect();
    let mut at = 0usize..;
    stats.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
    true
}

fn labelled(one: &ServiceStats, put: impl FnOnce(&[(&str, &str)])) {
    let service = one.service.to_string();
    let version = one.version.as_ref().map(ToString::to_string).unwrap_or_default();
    put(&[("service", &service), ("version", &version)]);
}

/// The sum is that of the upper ends of the inner buckets, so at most 6.25 % high.
fn latency(family: &mut Family<'_>, labels: &[(&str, &str)], stats: &VersionStats) {
    let latency = &stats.latency;
    let below: Vec<(f64, u64)> = BUCKETS
        .iter()
        .map(|bound| {
            let below = latency.buckets().filter(|(top, _)| top <= bound).map(|(_, count)| count).sum();
            (Duration::from_micros(*bound).as_secs_f64(), below)
        })
        .collect();
    let micros =
        latency.buckets().fold(0u64, |sum, (top, count)| sum.saturating_add(top.saturating_mul(count)));
    family.put_histogram(labels, &below, Duration::from_micros(micros).as_secs_f64(), latency.count());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_versions_than_there_is_room_for_the_most_asked_are_told_of() {
        let one = |number: usize| ServiceStats {
            service: format!("example.com:web{number:05}").parse().unwrap(),
            version: None,
            stats: VersionStats { answers: number as u64, ..VersionStats::default() },
        };
        let mut stats: Vec<ServiceStats> = (0..VERSIONS).map(one).collect();
        assert!(!most_asked(&mut stats));
        assert_eq!(stats.len(), VERSIONS);
        stats.push(one(VERSIONS));
        assert!(most_asked(&mut stats));
        assert_eq!(stats.len(), VERSIONS);
        assert_eq!(stats[0], one(1), "the least asked is left out, and the order stays");
        assert_eq!(stats[VERSIONS - 1], one(VERSIONS));
    }
}
