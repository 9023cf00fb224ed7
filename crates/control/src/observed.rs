//! What is observed but changes too often to be an object: signs of life and figures.
//!
//! All of it is told again within seconds, so none of it is stored: a control that starts knows nothing, and says so
//! rather than take silence for death.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use tutti_api::zone::{DnsReport, Figures, IngressReport, InstanceFigures, NodeFigures, NodeHeartbeat};
use tutti_model::{
    DeploymentId, InstanceId, Millis, ServiceRef, Timestamp, VersionName,
    ingress::IngressSpec,
    name::NodeName,
    stats::{ServiceStats, VersionStats},
};
use tutti_store::LeaseId;

/// Silence after which a node counts as unreachable: three of its heartbeats and some slack. Its presence is bound to a
/// lease of that length.
pub const NODE_SILENCE: Millis = Millis::seconds(10);

/// How old something may be that one control tells the others: older than the longest pause between two of a node's
/// heartbeats it says nothing new.
const FRESH: Millis = Millis::seconds(3);

/// Names the figures of one version; `None` for a service of plain upstreams.
type Of = (ServiceRef, Option<VersionName>);

/// What was observed lately. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Observed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    reported: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    nodes: BTreeMap<NodeName, Node>,
    ingresses: BTreeMap<String, Ingress>,
    dns: BTreeMap<NodeName, DnsServer>,
    /// When each other control last told anything, and its release.
    controls: BTreeMap<NodeName, (Timestamp, String)>,
    /// What ingresses that have left had counted, so that sums never go back.
    departed: HashMap<Of, VersionStats>,
    /// What a deployment's version had answered when its step began to be observed.
    baselines: BTreeMap<DeploymentId, (usize, VersionStats)>,
}

#[derive(Debug)]
struct Node {
    heard: Timestamp,
    /// Whether it was another control that heard it.
    is_told: bool,
    heartbeat: NodeHeartbeat,
    /// What it last measured, and when that came.
    measured: Option<(Timestamp, NodeFigures)>,
    /// What keeps its presence.
    lease: Option<LeaseId>,
}

#[derive(Debug)]
struct DnsServer {
    heard: Timestamp,
    /// Whether it was another control that heard it.
    is_told: bool,
    release: String,
}

#[derive(Debug, Default)]
struct Ingress {
    /// What it last said to this control, and when.
    said: Option<(Timestamp, Vec<ServiceStats>)>,
    /// What it is.
    spec: IngressSpec,
    /// When another control last told of it.
    told: Option<Timestamp>,
    lease: Option<LeaseId>,
    reached: Option<u64>,
    /// What it said first: it may have counted for days before this control heard of it, or have been counted among
    /// the departed already.
    base: Option<HashMap<Of, VersionStats>>,
    /// What it counted since.
    stats: HashMap<Of, VersionStats>,
}

impl Default for Observed {
    fn default() -> Self {
        Observed::new()
    }
}

impl Observed {
    /// Nothing observed yet.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            nodes: BTreeMap::new(),
            ingresses: BTreeMap::new(),
            dns: BTreeMap::new(),
            controls: BTreeMap::new(),
            departed: HashMap::new(),
            baselines: BTreeMap::new(),
        };
        Observed(Arc::new(Shared { state: Mutex::new(state), reported: watch::Sender::new(0) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node lives. Gives the lease that keeps its presence, if this control keeps it.
    pub fn heartbeat(&self, now: Timestamp, node: &NodeName, heartbeat: NodeHeartbeat) -> Option<LeaseId> {
        let mut state = self.state();
        let known = state.nodes.get(node);
        let lease = known.and_then(|node| node.lease);
        let measured = measured(now, &heartbeat, known);
        state.nodes.insert(node.clone(), Node { heard: now, is_told: false, heartbeat, measured, lease });
        lease
    }

    /// A node's presence is kept by this lease; by none of this control's any more, with `None`.
    pub fn present(&self, node: &NodeName, lease: Option<LeaseId>) {
        if let Some(node) = self.state().nodes.get_mut(node) {
            node.lease = lease;
        }
    }

    /// The last heartbeat of a node that this control was told, and when.
    #[must_use]
    pub fn last_heartbeat(&self, node: &NodeName) -> Option<(Timestamp, NodeHeartbeat)> {
        self.state().nodes.get(node).map(|node| (node.heard, node.heartbeat.clone()))
    }

    /// Notes what an ingress said to this control, for the others.
    pub fn said(&self, now: Timestamp, report: &IngressReport) {
        let mut state = self.state();
        let ingress = state.ingresses.entry(report.ingress.clone()).or_default();
        ingress.said = Some((now, report.stats.clone()));
        ingress.spec = report.spec.clone();
    }

    /// What nodes and ingresses said to this control lately: what the others are to be told.
    #[must_use]
    pub fn fresh(&self, now: Timestamp) -> Figures {
        let is_fresh = |at: Timestamp| now.since(at) <= FRESH;
        let state = self.state();
        let nodes = state.nodes.iter().filter(|(_, node)| !node.is_told && is_fresh(node.heard));
        let ingresses = state.ingresses.iter().filter_map(|(name, ingress)| {
            let (_, stats) = ingress.said.as_ref().filter(|(at, _)| is_fresh(*at))?;
            let reached = ingress.reached.unwrap_or_default();
            Some(IngressReport {
                ingress: name.clone(),
                spec: ingress.spec.clone(),
                reached,
                stats: stats.clone(),
            })
        });
        let dns = state.dns.iter().filter(|(_, server)| !server.is_told && is_fresh(server.heard));
        let dns =
            dns.map(|(name, server)| DnsReport { server: name.clone(), release: server.release.clone() });
        Figures {
            nodes: nodes.map(|(name, node)| (name.clone(), node.heartbeat.clone())).collect(),
            ingresses: ingresses.collect(),
            dns: dns.collect(),
            release: String::new(),
        }
    }

    /// Another control told something, be it that it has nothing to tell.
    pub fn control_told(&self, now: Timestamp, control: &NodeName, release: &str) {
        self.state().controls.insert(control.clone(), (now, release.to_owned()));
    }

    /// When another control last told this one anything, and its release.
    #[must_use]
    pub fn control_heard(&self, control: &NodeName) -> Option<(Timestamp, String)> {
        self.state().controls.get(control).cloned()
    }

    /// When an ingress of this machine was last heard, here or by another control, and its release. Runs of one are called
    /// `NAME.RUN`; the one in the process of `tutti dev` is `ingress-NAME`.
    #[must_use]
    pub fn ingress_heard(&self, machine: &NodeName) -> Option<(Timestamp, String)> {
        let is_its = |name: &str| match name.rsplit_once('.') {
            Some((of, _)) => of == machine.as_str(),
            None => name.strip_prefix("ingress-") == Some(machine.as_str()),
        };
        let state = self.state();
        let its = state.ingresses.iter().filter(|(name, _)| is_its(name));
        let heard = its.filter_map(|(_, ingress)| {
            let said = ingress.said.as_ref().map(|(at, _)| *at);
            Some((said.max(ingress.told)?, ingress.spec.release.clone()))
        });
        heard.max()
    }

    /// When what each node last measured came.
    #[must_use]
    pub fn measured_at(&self) -> Vec<(NodeName, Timestamp)> {
        let state = self.state();
        let at = |node: &Node| node.measured.as_ref().map(|(at, _)| *at);
        state.nodes.iter().filter_map(|(name, node)| Some((name.clone(), at(node)?))).collect()
    }

    /// Notes that a DNS server said to this control that it lives.
    pub fn dns_said(&self, now: Timestamp, report: &DnsReport) {
        let server = DnsServer { heard: now, is_told: false, release: report.release.clone() };
        self.state().dns.insert(report.server.clone(), server);
    }

    /// When the DNS server of a machine was last heard, here or by another control, and its release.
    #[must_use]
    pub fn dns_heard(&self, machine: &NodeName) -> Option<(Timestamp, String)> {
        self.state().dns.get(machine).map(|server| (server.heard, server.release.clone()))
    }

    /// What a node last measured, and when that came.
    #[must_use]
    pub fn measured(&self, node: &NodeName) -> Option<(Timestamp, NodeFigures)> {
        self.state().nodes.get(node)?.measured.clone()
    }

    /// What an instance of a node used when that last measured, and when that came.
    #[must_use]
    pub fn instance_measured(
        &self,
        node: &NodeName,
        instance: &InstanceId,
    ) -> Option<(Timestamp, InstanceFigures)> {
        let state = self.state();
        let (at, figures) = state.nodes.get(node)?.measured.as_ref()?;
        // They are told in the order of their ids.
        let found = figures.instances.binary_search_by(|one| one.instance.cmp(instance)).ok()?;
        Some((*at, figures.instances.get(found)?.clone()))
    }

    /// Another control tells what it was told. What was heard here lately is as new, and stays.
    pub fn told(&self, now: Timestamp, figures: &Figures) {
        for (name, heartbeat) in &figures.nodes {
            let mut state = self.state();
            let known = state.nodes.get(name);
            if known.is_some_and(|node| !node.is_told && now.since(node.heard) <= FRESH) {
                continue;
            }
            let lease = known.and_then(|node| node.lease);
            let measured = measured(now, heartbeat, known);
            let node = Node { heard: now, is_told: true, heartbeat: heartbeat.clone(), measured, lease };
            state.nodes.insert(name.clone(), node);
        }
        for report in &figures.dns {
            let mut state = self.state();
            let known = state.dns.get(&report.server);
            if known.is_none_or(|server| server.is_told || now.since(server.heard) > FRESH) {
                let server = DnsServer { heard: now, is_told: true, release: report.release.clone() };
                state.dns.insert(report.server.clone(), server);
            }
        }
        for report in &figures.ingresses {
            let is_heard_here =
                |ingress: &Ingress| ingress.said.as_ref().is_some_and(|(at, _)| now.since(*at) <= FRESH);
            if self.state().ingresses.get(&report.ingress).is_some_and(is_heard_here) {
                continue;
            }
            self.ingress(report);
            if let Some(ingress) = self.state().ingresses.get_mut(&report.ingress) {
                ingress.told = Some(now);
                ingress.spec = report.spec.clone();
            }
        }
    }

    /// Forgets ingresses that this control holds no lease of, that are not there, and that have been silent for a while:
    /// those that only other controls told of, and those that ended before they could be stored. No watch tells that they
    /// have left, and what was on its way then would else count for ever as running.
    pub fn forget_silent(&self, now: Timestamp, is_there: impl Fn(&str) -> bool) {
        let is_over = |name: &str, ingress: &Ingress| {
            let said = ingress.said.as_ref().map(|(at, _)| *at);
            let silent = said.max(ingress.told).is_some_and(|at| now.since(at) > NODE_SILENCE);
            silent && ingress.lease.is_none() && !is_there(name)
        };
        let gone: Vec<String> = {
            let state = self.state();
            let over = state.ingresses.iter().filter(|(name, ingress)| is_over(name, ingress));
            over.map(|(name, _)| name.clone()).collect()
        };
        for name in gone {
            self.ingress_left(&name);
        }
    }

    /// Takes an ingress's figures. Gives what of its object must be written: its lease, and whether `reached` is new.
    pub fn ingress(&self, report: &IngressReport) -> (Option<LeaseId>, bool) {
        let mut state = self.state();
        let ingress = state.ingresses.entry(report.ingress.clone()).or_default();
        let told =
            report.stats.iter().map(|entry| ((entry.service.clone(), entry.version.clone()), &entry.stats));
        let base =
            ingress.base.get_or_insert_with(|| told.clone().map(|(of, stats)| (of, stats.clone())).collect());
        for (of, stats) in told {
            let since = match base.get(&of) {
                Some(base) => stats.since(base),
                None => stats.clone(),
            };
            ingress.stats.insert(of, since);
        }
        let answer = (ingress.lease, ingress.reached != Some(report.reached));
        drop(state);
        self.0.reported.send_modify(|count| *count += 1);
        answer
    }

    /// An ingress's object was written with this lease and revision.
    pub fn ingress_stored(&self, ingress: &str, lease: LeaseId, reached: u64) {
        let mut state = self.state();
        let ingress = state.ingresses.entry(ingress.to_owned()).or_default();
        ingress.lease = Some(lease);
        ingress.reached = Some(reached);
    }

    /// An ingress has left, or its lease has expired: it must be stored anew if it comes back.
    pub fn ingress_left(&self, ingress: &str) -> Option<LeaseId> {
        let mut state = self.state();
        let gone = state.ingresses.remove(ingress)?;
        for (of, mut stats) in gone.stats {
            stats.running = 0;
            state.departed.entry(of).or_default().add(&stats);
        }
        gone.lease
    }

    /// All ingresses have left but those that `is_there`.
    pub fn only_ingresses(&self, is_there: impl Fn(&str) -> bool) {
        let names: Vec<String> = self.state().ingresses.keys().cloned().collect();
        for name in names.iter().filter(|name| !is_there(name)) {
            self.ingress_left(name);
        }
    }

    /// Tells of every report of an ingress.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<u64> {
        self.0.reported.subscribe()
    }

    /// The figures of a version over all ingresses, since this control first heard of each.
    #[must_use]
    pub fn figures(&self, service: &ServiceRef, version: Option<&VersionName>) -> VersionStats {
        let of = (service.clone(), version.cloned());
        let state = self.state();
        let mut sum = state.departed.get(&of).cloned().unwrap_or_default();
        for ingress in state.ingresses.values() {
            if let Some(stats) = ingress.stats.get(&of) {
                sum.add(stats);
            }
        }
        sum
    }

    /// Requests of a service that run now, over all versions and ingresses.
    #[must_use]
    pub fn running(&self, service: &ServiceRef) -> u64 {
        let state = self.state();
        let all = state.ingresses.values().flat_map(|ingress| &ingress.stats);
        all.filter(|((of, _), _)| of == service).map(|(_, stats)| stats.running).sum()
    }

    /// What each service was asked for: the requests that run now, and those that were answered since this control began
    /// to hear of them.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<ServiceRef, (u64, u64)> {
        let state = self.state();
        let mut totals: BTreeMap<ServiceRef, (u64, u64)> = BTreeMap::new();
        let living = state.ingresses.values().flat_map(|ingress| &ingress.stats);
        for ((service, _), stats) in living.chain(&state.departed) {
            let (running, answers) = totals.entry(service.clone()).or_default();
            *running = running.saturating_add(stats.running);
            *answers = answers.saturating_add(stats.answers);
        }
        totals
    }

    /// What a version answered since a deployment's step began to be observed, which is when this was first asked for
    /// that step: after a restart of control a step is judged by what came since, never by less than it needs.
    #[must_use]
    pub fn since_step(
        &self,
        deployment: &DeploymentId,
        step: usize,
        service: &ServiceRef,
        version: &VersionName,
    ) -> VersionStats {
        let figures = self.figures(service, Some(version));
        let mut state = self.state();
        let (known, baseline) =
            state.baselines.entry(deployment.clone()).or_insert_with(|| (step, figures.clone()));
        if *known != step {
            (*known, *baseline) = (step, figures.clone());
        }
        figures.since(baseline)
    }

    /// A deployment is no longer observed.
    pub fn forget(&self, deployment: &DeploymentId) {
        self.state().baselines.remove(deployment);
    }
}

/// What a node's heartbeat says that it measured, else what it had said before.
fn measured(
    now: Timestamp,
    heartbeat: &NodeHeartbeat,
    known: Option<&Node>,
) -> Option<(Timestamp, NodeFigures)> {
    match (&heartbeat.measured, known) {
        // Told once more by the other controls until its next heartbeat: it is no newer by that.
        (Some(figures), Some(known)) if known.measured.as_ref().is_some_and(|(_, same)| same == figures) => {
            known.measured.clone()
        }
        (Some(figures), _) => Some((now, figures.clone())),
        (None, known) => known.and_then(|known| known.measured.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_api::zone::IngressReport;

    fn report(ingress: &str, answers: u64) -> IngressReport {
        let stats = ServiceStats {
            service: "example.com:web".parse().unwrap(),
            version: Some("1.0".parse().unwrap()),
            stats: VersionStats { answers, running: 3, ..VersionStats::default() },
        };
        IngressReport {
            ingress: ingress.into(),
            spec: IngressSpec::default(),
            reached: 1,
            stats: vec![stats],
        }
    }

    #[test]
    fn one_that_could_never_be_stored_is_forgotten_when_it_is_silent() {
        let observed = Observed::new();
        let service = "example.com:web".parse().unwrap();
        let at = |seconds| Timestamp(1_000_000).plus(Millis::seconds(seconds));
        observed.said(at(0), &report("a", 0));
        observed.ingress(&report("a", 0));
        observed.forget_silent(at(10), |_| false);
        assert_eq!(observed.running(&service), 3);
        observed.forget_silent(at(11), |_| false);
        assert_eq!(observed.running(&service), 0);
    }

    #[test]
    fn repeated_reports_and_restarted_ingresses_never_count_twice_or_back() {
        let observed = Observed::new();
        let (service, version) = ("example.com:web".parse().unwrap(), "1.0".parse().unwrap());
        let answers = || observed.figures(&service, Some(&version)).answers;
        observed.ingress(&report("a", 0));
        observed.ingress(&report("a", 10));
        observed.ingress(&report("a", 10));
        assert_eq!(answers(), 10);
        observed.ingress_left("a");
        observed.ingress(&report("b", 0));
        observed.ingress(&report("b", 5));
        assert_eq!(answers(), 15);
        assert_eq!(observed.running(&service), 3, "what ran at the one that left is gone with it");
        observed.ingress(&report("a", 10));
        assert_eq!(answers(), 15, "one whose lease had expired comes back, and counts on");
        observed.ingress(&report("a", 12));
        assert_eq!(answers(), 17);
        observed.only_ingresses(|name| name == "a");
        assert_eq!((answers(), observed.running(&service)), (17, 3), "of who left, what it answered stays");
    }

    #[test]
    fn what_one_control_hears_the_others_are_told_and_nothing_counts_twice() {
        let (first, second) = (Observed::new(), Observed::new());
        let service: ServiceRef = "example.com:web".parse().unwrap();
        let at = |seconds| Timestamp(1_000_000).plus(Millis::seconds(seconds));
        let answers = |of: &Observed| of.totals().get(&service).map_or(0, |(_, answers)| *answers);
        for (second_of, count) in [(0, 10), (1, 15)] {
            first.ingress(&report("a", count));
            first.said(at(second_of), &report("a", count));
            first.heartbeat(at(second_of), &"n1".parse().unwrap(), NodeHeartbeat::default());
            second.told(at(second_of), &first.fresh(at(second_of)));
        }
        assert_eq!((answers(&first), answers(&second)), (5, 5));
        assert_eq!(second.running(&service), 3);
        assert!(second.last_heartbeat(&"n1".parse().unwrap()).is_some());
        first.dns_said(at(1), &DnsReport { server: "d1".parse().unwrap(), release: "1".into() });
        second.told(at(1), &first.fresh(at(1)));
        assert_eq!(second.dns_heard(&"d1".parse().unwrap()), Some((at(1), "1".to_owned())));
        // What it was told it does not tell on, and what came long ago neither does.
        assert_eq!(second.fresh(at(1)), Figures::default());
        assert_eq!(first.fresh(at(5)), Figures::default());
        // Then the ingress comes to the second, which is told of its past by the first once more.
        second.ingress(&report("a", 20));
        second.said(at(2), &report("a", 20));
        second.told(at(2), &first.fresh(at(2)));
        assert_eq!(answers(&second), 10);
        second.forget_silent(at(30), |_| true);
        assert_eq!(second.running(&service), 3, "whoever is there stays");
        second.forget_silent(at(30), |_| false);
        assert_eq!((second.running(&service), answers(&second)), (0, 10));
    }

    #[test]
    fn what_a_node_measured_stays_with_its_age_until_the_next() {
        let (observed, node) = (Observed::new(), "n1".parse().unwrap());
        let of = |received: u64| NodeFigures { received, ..NodeFigures::default() };
        let beat = |at: u64, measured: Option<NodeFigures>| {
            observed.heartbeat(Timestamp(at), &node, NodeHeartbeat { measured, ..NodeHeartbeat::default() });
            observed.measured(&node)
        };
        assert_eq!(beat(1, None), None);
        assert_eq!(beat(2, Some(of(7))), Some((Timestamp(2), of(7))));
        assert_eq!(beat(3, None), Some((Timestamp(2), of(7))));
        assert_eq!(beat(4, Some(of(7))), Some((Timestamp(2), of(7))), "the same, told again");
        assert_eq!(beat(5, Some(of(8))), Some((Timestamp(5), of(8))));
    }

    #[test]
    fn a_machine_is_heard_by_any_run_of_its_ingress_and_by_no_others() {
        let observed = Observed::new();
        for (at, name) in [(1, "a.1"), (3, "a.2"), (9, "ab.1"), (5, "ingress-b")] {
            observed.said(Timestamp(at), &report(name, 0));
        }
        let heard = |name: &str| observed.ingress_heard(&name.parse().unwrap()).map(|(at, _)| at.0);
        assert_eq!((heard("a"), heard("ab"), heard("b"), heard("c")), (Some(3), Some(9), Some(5), None));
    }

    #[test]
    fn a_control_that_starts_does_not_judge_by_what_was_counted_before() {
        let observed = Observed::new();
        let (service, version) = ("example.com:web".parse().unwrap(), "1.0".parse().unwrap());
        let deployment = DeploymentId::from_bits(1);
        assert_eq!(observed.since_step(&deployment, 0, &service, &version).answers, 0);
        observed.ingress(&report("a", 100_000));
        assert_eq!(observed.since_step(&deployment, 0, &service, &version).answers, 0);
        observed.ingress(&report("a", 100_020));
        assert_eq!(observed.since_step(&deployment, 0, &service, &version).answers, 20);
    }

    #[test]
    fn a_step_counts_from_its_own_beginning() {
        let observed = Observed::new();
        let (service, version) = ("example.com:web".parse().unwrap(), "1.0".parse().unwrap());
        let deployment = DeploymentId::from_bits(1);
        observed.ingress(&report("a", 100));
        assert_eq!(observed.since_step(&deployment, 0, &service, &version).answers, 0);
        observed.ingress(&report("a", 130));
        assert_eq!(observed.since_step(&deployment, 0, &service, &version).answers, 30);
        assert_eq!(observed.since_step(&deployment, 1, &service, &version).answers, 0);
    }
}
