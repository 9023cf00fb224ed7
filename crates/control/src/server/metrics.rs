//! `GET /metrics`: what this control knows of the cloud and of itself, for Prometheus.
//!
//! Objects are read when somebody asks, page by page and bounded, and what was measured is in memory. It is for admins
//! only: it names every tenant's services.

use super::{
    App,
    call::{Answer, Call},
    reply,
};
use crate::Objects;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tutti_api::zone::{InstanceFigures, NodeFigures};
use tutti_base::metrics::{END, Exposition, Family, MetricKind};
use tutti_model::{
    Problem, Resource, ServiceRef, Timestamp,
    control::{LEADER, LeaderSpec},
    instance::{Goal, InstanceSpec, InstanceState},
    name::NodeName,
    node::{NodeSpec, Resources},
    quantity::MilliCpu,
    resource::Object,
};

/// Most objects of a kind that are counted: some tenths of a second of reading.
const COUNTED: usize = 20_000;
/// Nodes that have series of their own: a dozen each.
pub(super) const NODES: usize = 1000;
/// Instances that have series of their own: four each.
pub(super) const INSTANCES: usize = 2000;
/// Services whose instances are counted apart.
pub(super) const SERVICES: usize = 1000;
/// Objects that are read at once.
const PAGE: usize = 500;
/// Longest to wait for the store: within the ten seconds that Prometheus waits for all of it.
const STORE_ANSWER: Duration = Duration::from_secs(5);

/// `GET /metrics`
pub(super) async fn answer(call: Call) -> Answer {
    let app = &call.app;
    let _turn = app.gathering.lock().await;
    let mut text = Exposition::default();
    text.build(&app.release);
    of_itself(app, &mut text);
    let seen = match tokio::time::timeout(STORE_ANSWER, Seen::read(app)).await {
        Ok(Ok(seen)) => Some(seen),
        Ok(Err(problem)) => {
            tracing::warn!(%problem, "metrics are without what is in the store");
            None
        }
        Err(_) => {
            tracing::warn!("metrics are without what is in the store: it does not answer");
            None
        }
    };
    of_the_store(seen.as_ref(), &mut text);
    let seen = seen.unwrap_or_default();
    seen.nodes(&mut text);
    seen.instances(&mut text);
    let others = (app.metrics)();
    let text = format!("{}{others}{END}", text.into_text());
    Ok(reply::text("application/openmetrics-text; version=1.0.0; charset=utf-8", text))
}

/// What is known without the store.
fn of_itself(app: &App, text: &mut Exposition) {
    let now = app.objects.clock().now();
    let gauge = MetricKind::Gauge;
    let (leads_since, loops) = app.loops.read();
    let help = "Whether this control leads, so that its loops run.";
    text.single("tutti_control_leads", gauge, help, u8::from(leads_since.is_some()));
    let help = "Age of this control's process.";
    text.single("tutti_control_up_seconds", gauge, help, age(now, app.started));
    let help = "Requests to the API under way.";
    text.single("tutti_api_requests_running", gauge, help, app.under_way.taken());
    let mut open = text.family(
        "tutti_api_streams",
        gauge,
        "Watches and followed logs that are open, by who opened them: users, or machines of this cloud.",
    );
    open.put(&[("of", "users")], app.streams.taken());
    open.put(&[("of", "machines")], app.node_streams.taken());

    let mut family = |name, kind, help, value: &dyn Fn(&tutti_api::debug::ReconcilerLoop) -> Option<f64>| {
        let mut family = text.family(name, kind, help);
        for one in &loops {
            if let Some(value) = value(one) {
                family.put(&[("loop", &one.name)], value);
            }
        }
    };
    let count = |count: u64| Some(count as f64);
    let waiting = |count: usize| Some(count as f64);
    family(
        "tutti_reconciler_runs",
        MetricKind::Counter,
        "Runs of a loop of this control that found something to do.",
        &|one| count(one.runs),
    );
    family(
        "tutti_reconciler_failures",
        MetricKind::Counter,
        "Times that a loop could not do something; it tries again.",
        &|one| count(one.errors),
    );
    family("tutti_reconciler_run_age_seconds", gauge, "Age of a loop's last whole run.", &|one| {
        one.last_run.map(|at| age(now, at))
    });
    family("tutti_reconciler_running_seconds", gauge, "How long a loop's run is under way.", &|one| {
        Some(one.running_since.map_or(0.0, |at| age(now, at)))
    });
    family("tutti_reconciler_longest_seconds", gauge, "The longest run of a loop.", &|one| {
        Some(one.longest.duration().as_secs_f64())
    });
    family("tutti_reconciler_due", gauge, "Objects that a loop is to look at as soon as can be.", &|one| {
        waiting(one.due)
    });
    family("tutti_reconciler_later", gauge, "Objects that a loop is to look at later.", &|one| {
        waiting(one.later)
    });
}

fn of_the_store(seen: Option<&Seen>, text: &mut Exposition) {
    let help = "Whether the store answered within 5 s when this was asked for; what stands in it is left out otherwise.";
    text.single("tutti_store_up", MetricKind::Gauge, help, u8::from(seen.is_some()));
    let mut revision =
        text.family("tutti_store_revision", MetricKind::Gauge, "The revision that the store is at.");
    if let Some(seen) = seen {
        revision.put(&[], seen.revision);
    }
    let mut leader =
        text.family("tutti_leader", MetricKind::Info, "The control that leads, as the store says.");
    if let Some(name) = seen.and_then(|seen| seen.leader.as_ref()) {
        leader.put(&[("control", name.as_str())], 1);
    }
    let mut cut = text.family(
        "tutti_metrics_truncated",
        MetricKind::Gauge,
        "Whether there are more than are told of one by one, or counted.",
    );
    if let Some(seen) = seen {
        for what in Bound::ALL {
            cut.put(&[("of", what.as_str())], u8::from(seen.cut.contains(&what)));
        }
    }
}

fn age(now: Timestamp, at: Timestamp) -> f64 {
    now.since(at).duration().as_secs_f64()
}

fn cores(cpu: MilliCpu) -> f64 {
    f64::from(cpu.0) / 1000.0
}

/// What is bounded, and may have been cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Nodes,
    Instances,
    Services,
    Counted,
}

impl Bound {
    const ALL: [Bound; 4] = [Bound::Nodes, Bound::Instances, Bound::Services, Bound::Counted];

    const fn as_str(self) -> &'static str {
        match self {
            Bound::Nodes => "nodes",
            Bound::Instances => "instances",
            Bound::Services => "services",
            Bound::Counted => "counted",
        }
    }
}

/// The states of nodes, as `tutti node list` calls them.
const NODE_STATES: [&str; 5] = ["ready", "starting", "cordoned", "draining", "silent"];

/// What stands in the store, with what was heard of it.
#[derive(Debug, Default)]
struct Seen {
    now: Timestamp,
    revision: u64,
    leader: Option<NodeName>,
    node_states: BTreeMap<&'static str, u64>,
    nodes: Vec<OneNode>,
    services: BTreeMap<ServiceRef, BTreeMap<&'static str, u64>>,
    instances: Vec<OneInstance>,
    cut: BTreeSet<Bound>,
}

#[derive(Debug)]
struct OneNode {
    name: NodeName,
    capacity: Resources,
    heard: Option<Timestamp>,
    measured: Option<(Timestamp, NodeFigures)>,
}

#[derive(Debug)]
struct OneInstance {
    spec: InstanceSpec,
    measured_at: Timestamp,
    figures: InstanceFigures,
}

impl Seen {
    async fn read(app: &App) -> Result<Seen, Problem> {
        let (objects, observed) = (&app.objects, &app.observed);
        let mut seen = Seen {
            now: objects.clock().now(),
            revision: objects.store().revision().await?,
            leader: objects.find::<LeaderSpec>(LEADER).await?.map(|leader| leader.spec.control),
            ..Seen::default()
        };
        let more_nodes = each::<NodeSpec>(objects, |node| {
            *seen.node_states.entry(node_state(&node)).or_default() += 1;
            if seen.nodes.len() >= NODES {
                seen.cut.insert(Bound::Nodes);
                return;
            }
            let name = node.spec.node;
            let mut measured = observed.measured(&name);
            if let Some((_, figures)) = &mut measured {
                figures.instances = Vec::new();
            }
            let heard = observed.last_heartbeat(&name).map(|(at, _)| at);
            seen.nodes.push(OneNode { name, capacity: node.status.capacity, heard, measured });
        })
        .await?;
        let more_instances = each::<InstanceSpec>(objects, |instance| {
            let state = instance_state(&instance);
            let spec = instance.spec;
            let service = &spec.version.service;
            let has_room = seen.services.len() < SERVICES;
            match seen.services.get_mut(service) {
                Some(states) => *states.entry(state).or_default() += 1,
                None if has_room => {
                    seen.services.insert(service.clone(), BTreeMap::from([(state, 1)]));
                }
                None => drop(seen.cut.insert(Bound::Services)),
            }
            let Some((measured_at, figures)) = observed.instance_measured(&spec.node, &spec.instance) else {
                return;
            };
            if seen.instances.len() >= INSTANCES {
                seen.cut.insert(Bound::Instances);
                return;
            }
            seen.instances.push(OneInstance { spec, measured_at, figures });
        })
        .await?;
        if more_nodes || more_instances {
            seen.cut.insert(Bound::Counted);
        }
        Ok(seen)
    }

    fn nodes(&self, text: &mut Exposition) {
        let mut states =
            text.family("tutti_nodes", MetricKind::Gauge, "Nodes by state, as tutti node list has them.");
        for state in NODE_STATES {
            states.put(&[("state", state)], self.node_states.get(state).copied().unwrap_or(0));
        }
        let mut of_each = |name, help, value: &dyn Fn(&OneNode) -> Option<f64>| {
            let mut family = text.family(name, MetricKind::Gauge, help);
            for node in &self.nodes {
                if let Some(value) = value(node) {
                    family.put(&[("node", node.name.as_str())], value);
                }
            }
        };
        of_each("tutti_node_heard_age_seconds", "Age of the last sign of life of a node.", &|node| {
            node.heard.map(|at| age(self.now, at))
        });
        of_each("tutti_node_measured_age_seconds", "Age of what a node measured last.", &|node| {
            node.measured.as_ref().map(|(at, _)| age(self.now, *at))
        });
        let mut measured = |name, help, value: fn(&NodeFigures) -> f64| {
            of_each(name, help, &|node| node.measured.as_ref().map(|(_, figures)| value(figures)));
        };
        measured("tutti_node_cpu_used_cores", "Cpu that all processes of a node use.", |it| cores(it.cpu));
        measured("tutti_node_memory_used_bytes", "Memory of a node that is in use.", |it| it.memory.0 as f64);
        measured("tutti_node_disk_used_bytes", "Disk of a node that is in use.", |it| it.disk.0 as f64);
        measured(
            "tutti_node_network_received_bytes_per_second",
            "What comes over the network interfaces of a node.",
            |it| it.received as f64,
        );
        measured(
            "tutti_node_network_sent_bytes_per_second",
            "What goes over the network interfaces of a node.",
            |it| it.sent as f64,
        );
        let mut capacity = |name, help, value: fn(&Resources) -> f64| {
            of_each(name, help, &|node| Some(value(&node.capacity)));
        };
        capacity("tutti_node_cpu_capacity_cores", "Cpu that a node has.", |it| cores(it.cpu));
        capacity("tutti_node_memory_capacity_bytes", "Memory that a node has.", |it| it.memory.0 as f64);
        capacity("tutti_node_disk_capacity_bytes", "Disk that a node has.", |it| it.disk.0 as f64);
    }

    fn instances(&self, text: &mut Exposition) {
        let mut states = text.family(
            "tutti_instances",
            MetricKind::Gauge,
            "Instances by service and state, as tutti ps has them; states that none is in are left out.",
        );
        for (service, counts) in &self.services {
            let service = service.to_string();
            for (state, count) in counts {
                states.put(&[("service", &service), ("state", state)], count);
            }
        }
        let mut of_each = |name, help, value: &dyn Fn(&OneInstance) -> f64| {
            let mut family = text.family(name, MetricKind::Gauge, help);
            for one in &self.instances {
                put_instance(&mut family, &one.spec, value(one));
            }
        };
        of_each(
            "tutti_instance_measured_age_seconds",
            "Age of what was last measured of an instance.",
            &|one| age(self.now, one.measured_at),
        );
        of_each("tutti_instance_cpu_used_cores", "Cpu that an instance uses.", &|one| cores(one.figures.cpu));
        of_each("tutti_instance_memory_used_bytes", "Memory that an instance uses.", &|one| {
            one.figures.memory.0 as f64
        });
        of_each("tutti_instance_requests_running", "Requests that an instance serves.", &|one| {
            f64::from(one.figures.running)
        });
    }
}

fn put_instance(family: &mut Family<'_>, spec: &InstanceSpec, value: f64) {
    let (service, version) = (spec.version.service.to_string(), spec.version.version.to_string());
    let labels = [
        ("instance", spec.instance.as_str()),
        ("service", &service),
        ("version", &version),
        ("node", spec.node.as_str()),
    ];
    family.put(&labels, value);
}

fn node_state(node: &Resource<NodeSpec>) -> &'static str {
    match (node.status.ready, node.spec.cordoned) {
        _ if node.silent_since().is_some() => "silent",
        (true, false) => "ready",
        (true, true) if node.spec.draining => "draining",
        (true, true) => "cordoned",
        (false, _) => "starting",
    }
}

fn instance_state(instance: &Resource<InstanceSpec>) -> &'static str {
    match (instance.status.state, instance.spec.goal) {
        _ if instance.silent_since().is_some() => "silent",
        (InstanceState::Ready, Goal::Standby { .. }) => "standby",
        (state, _) => state.as_str(),
    }
}

/// Shows every object of a kind, [`COUNTED`] at most; whether there are more.
async fn each<S: Object>(objects: &Objects, mut see: impl FnMut(Resource<S>)) -> Result<bool, Problem> {
    let (mut after, mut seen) = (None::<String>, 0);
    loop {
        let page = objects.page::<S>("", after.as_deref(), Some(PAGE)).await?;
        seen += page.items.len();
        after = page.items.last().map(|last| last.name.clone());
        page.items.into_iter().for_each(&mut see);
        if !page.more || after.is_none() {
            return Ok(false);
        }
        if seen >= COUNTED {
            return Ok(true);
        }
    }
}
