//! The zone tier's loop: makes instances and tables follow what was handed down, and reports.

use super::{
    ReconcileOptions,
    cache::Cache,
    global::{RETRY, apply, sleep_until},
    wake::Wake,
};
use crate::{Objects, observed::Observed};
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use tokio_util::sync::CancellationToken;
use tutti_api::{WatchEvent, WatchStream};
use tutti_base::crashpoint;
use tutti_model::{
    InstanceId, Millis, Problem, Resource, ServiceRef,
    assignment::AssignmentSpec,
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec},
    limits,
    name::NodeName,
    node::NodeSpec,
    report::{Progress, ReportSpec, report_name},
    table::TableSpec,
    version::VersionSpec,
};
use tutti_plan::{
    capacity::Load,
    placement::{NodeView, place, promise},
    zone::{ServicePlan, ServiceView, TablePlan, plan_service},
};

/// How often nodes are looked at for having fallen silent: often enough to notice within [`crate::observed::NODE_SILENCE`]
/// and a little.
const SILENCE_CHECK: Millis = Millis::seconds(2);

/// Most versions that a node holds ready without running them: enough for what is pushed in a busy hour, bounded so
/// that a node's disk is not the registry.
const PRELOADED: usize = 16;

/// Stands among the services to be looked at for the plan of what nodes preload; no service has this name.
const PRELOAD: &str = "";

/// Runs the loop until `stop`.
pub async fn run(options: ReconcileOptions, stop: CancellationToken) {
    let objects = options.objects.clone();
    let mut streams = Streams::start(&objects);
    let mut tier = Zone::new(options);
    let mut check = objects.clock().now().plus(SILENCE_CHECK);
    loop {
        if tier.is_synced() {
            tier.pass().await;
        }
        if std::mem::take(&mut tier.in_doubt) {
            streams = Streams::start(&objects);
            tier.doubt();
        }
        // Before everything is known nothing is due, however late it is: only a watch can change that.
        let next = tier.is_synced().then(|| tier.wake.next().map_or(check, |next| next.min(check)));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(event) = streams.assignments.next() => tier.assignments_changed(event),
            Some(event) = streams.tables.next() => tier.tables_changed(event),
            Some(event) = streams.instances.next() => tier.instances_changed(event),
            Some(event) = streams.nodes.next() => tier.nodes_changed(event),
            Some(event) = streams.ingresses.next() => tier.ingresses_changed(event),
            () = sleep_until(&objects, next) => {
                if objects.clock().now() >= check {
                    check = objects.clock().now().plus(SILENCE_CHECK);
                    tier.check_silence();
                }
            }
        }
    }
}

struct Streams {
    assignments: WatchStream<AssignmentSpec>,
    tables: WatchStream<TableSpec>,
    instances: WatchStream<InstanceSpec>,
    nodes: WatchStream<NodeSpec>,
    ingresses: WatchStream<IngressSpec>,
}

impl Streams {
    fn start(objects: &Objects) -> Streams {
        Streams {
            assignments: objects.watch(None),
            tables: objects.watch(None),
            instances: objects.watch(None),
            nodes: objects.watch(None),
            ingresses: objects.watch(None),
        }
    }
}

struct Zone {
    objects: Objects,
    observed: Observed,
    assignments: Cache<AssignmentSpec>,
    tables: Cache<TableSpec>,
    instances: Cache<InstanceSpec>,
    nodes: Cache<NodeSpec>,
    ingresses: Cache<IngressSpec>,
    /// Instances by service, so that one service's plan does not read all others'.
    by_service: BTreeMap<ServiceRef, BTreeSet<String>>,
    /// The last report on each service, to write only what is new.
    reported: BTreeMap<String, Resource<ReportSpec>>,
    /// Services whose plan waits for ingresses or nodes.
    unsettled: BTreeSet<String>,
    /// What was written for each service and not told back by watch yet.
    written: BTreeMap<String, Written>,
    silent: BTreeSet<NodeName>,
    preload_due: bool,
    /// Whether a write failed so that it may or may not have taken effect: everything is read again before the next
    /// plan, or instances could be made twice.
    in_doubt: bool,
    wake: Wake,
}

/// The revisions at which a service's table and instances were written last. It is not planned again before both have
/// come back by watch: else instances would be made twice, and a table that is no longer there taken for settled.
#[derive(Debug, Clone, Copy)]
struct Written {
    table: u64,
    instances: u64,
}

impl Zone {
    fn new(options: ReconcileOptions) -> Self {
        Zone {
            objects: options.objects,
            observed: options.observed,
            assignments: Cache::default(),
            tables: Cache::default(),
            instances: Cache::default(),
            nodes: Cache::default(),
            ingresses: Cache::default(),
            by_service: BTreeMap::new(),
            reported: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            written: BTreeMap::new(),
            silent: BTreeSet::new(),
            preload_due: false,
            in_doubt: false,
            wake: Wake::default(),
        }
    }

    fn is_synced(&self) -> bool {
        self.assignments.is_synced()
            && self.tables.is_synced()
            && self.instances.is_synced()
            && self.nodes.is_synced()
            && self.ingresses.is_synced()
    }

    /// Forgets that anything is complete, until the watches have begun again.
    fn doubt(&mut self) {
        self.assignments.doubt();
        self.tables.doubt();
        self.instances.doubt();
        self.nodes.doubt();
        self.ingresses.doubt();
        self.written.clear();
        self.reported.clear();
    }

    fn assignments_changed(&mut self, event: Result<WatchEvent<AssignmentSpec>, Problem>) {
        for assignment in apply(&mut self.assignments, event) {
            self.preload_due = true;
            self.wake.now(assignment.name);
        }
    }

    fn tables_changed(&mut self, event: Result<WatchEvent<TableSpec>, Problem>) {
        for table in apply(&mut self.tables, event) {
            self.wake.now(table.name);
        }
    }

    fn instances_changed(&mut self, event: Result<WatchEvent<InstanceSpec>, Problem>) {
        for instance in apply(&mut self.instances, event) {
            let service = &instance.spec.version.service;
            let names = self.by_service.entry(service.clone()).or_default();
            if self.instances.get(&instance.name).is_some() {
                names.insert(instance.name);
            } else {
                names.remove(&instance.name);
            }
            self.wake.now(service.to_string());
        }
    }

    fn nodes_changed(&mut self, event: Result<WatchEvent<NodeSpec>, Problem>) {
        if !apply(&mut self.nodes, event).is_empty() {
            self.preload_due = true;
            self.wake_all();
        }
    }

    fn ingresses_changed(&mut self, event: Result<WatchEvent<IngressSpec>, Problem>) {
        if !apply(&mut self.ingresses, event).is_empty() {
            for name in &self.unsettled {
                self.wake.now(name.clone());
            }
        }
    }

    /// A node that falls silent, or is heard again, matters to all that may run there.
    fn check_silence(&mut self) {
        let now = self.objects.clock().now();
        let silent: BTreeSet<NodeName> = self
            .nodes
            .iter()
            .map(|node| &node.spec.node)
            .filter(|node| !self.observed.is_heard(now, node))
            .cloned()
            .collect();
        if silent != self.silent {
            tracing::info!(?silent, "nodes that are not heard have changed");
            self.silent = silent;
            self.wake_all();
        }
    }

    fn wake_all(&mut self) {
        for assignment in self.assignments.iter() {
            self.wake.now(assignment.name.clone());
        }
    }

    async fn pass(&mut self) {
        let now = self.objects.clock().now();
        let mut due = self.wake.take(now);
        self.preload_due |= due.remove(PRELOAD);
        for name in due {
            if let Err(problem) = self.service(&name).await {
                tracing::warn!(service = %name, %problem, "reconciling will be tried again");
                self.wake.at(&name, Some(now.plus(RETRY)));
                self.in_doubt = true;
            }
        }
        if std::mem::take(&mut self.preload_due)
            && let Err(problem) = self.preload().await
        {
            tracing::warn!(%problem, "preloading will be planned again");
            self.wake.at(PRELOAD, Some(now.plus(RETRY)));
            self.in_doubt = true;
        }
    }

    /// One look at one service, and what follows from it.
    async fn service(&mut self, name: &str) -> Result<(), Problem> {
        let Some(assignment) = self.assignments.get(name).cloned() else {
            self.unsettled.remove(name);
            self.reported.remove(name);
            return Ok(());
        };
        if let Some(written) = self.written.get(name) {
            if self.tables.revision() < written.table || self.instances.revision() < written.instances {
                tracing::debug!(service = name, ?written, "what was written has not come back yet");
                return Ok(());
            }
            self.written.remove(name);
        }
        let plan = self.plan(&assignment);
        tracing::debug!(
            service = name,
            round = plan.report.round,
            progress = stage(&plan.report.progress),
            "planned"
        );
        self.wake.at(name, plan.wake);
        let in_motion = plan.report.progress != Progress::Settled
            || self.instances_of(&assignment.spec.service).any(|instance| instance.spec.goal != Goal::Serve);
        if in_motion {
            self.unsettled.insert(name.to_owned());
        } else {
            self.unsettled.remove(name);
        }
        let report = self.report(name, &plan.report);
        // Written side by side, so that they share one fsync.
        let (carried_out, reported) = tokio::join!(self.carry_out(&assignment, &plan), report);
        if let Some(report) = reported? {
            self.reported.insert(name.to_owned(), report);
        }
        if let Some(revision) = carried_out? {
            let instances = !(plan.create.is_empty() && plan.goals.is_empty() && plan.forget.is_empty());
            let written = Written {
                table: if plan.table == TablePlan::Keep { 0 } else { revision },
                instances: if instances { revision } else { 0 },
            };
            self.written.insert(name.to_owned(), written);
        }
        Ok(())
    }

    fn instances_of(&self, service: &ServiceRef) -> impl Iterator<Item = &Resource<InstanceSpec>> {
        self.by_service.get(service).into_iter().flatten().filter_map(|name| self.instances.get(name))
    }

    fn plan(&self, assignment: &Resource<AssignmentSpec>) -> ServicePlan {
        let service = &assignment.spec.service;
        let instances: Vec<_> = self.instances_of(service).collect();
        let ingresses: Vec<_> = self.ingresses.iter().collect();
        plan_service(ServiceView {
            now: self.objects.clock().now(),
            zone: self.objects.zone(),
            assignment: &assignment.spec,
            table: self.tables.get(&assignment.name),
            instances: &instances,
            nodes: &self.node_views(),
            ingresses: &ingresses,
            load: Load { running: self.observed.running(service) },
        })
    }

    fn node_views(&self) -> Vec<NodeView> {
        let mut views: BTreeMap<&NodeName, NodeView> = self
            .nodes
            .iter()
            .map(|node| {
                let usable = node
                    .status
                    .isolates
                    .iter()
                    .filter(|isolate| isolate.usable)
                    .map(|isolate| isolate.isolate);
                let view = NodeView {
                    node: node.spec.node.clone(),
                    ready: node.status.ready && !self.silent.contains(&node.spec.node),
                    cordoned: node.spec.cordoned,
                    capacity: node.status.capacity,
                    promised: tutti_model::node::Resources::default(),
                    isolates: usable.collect(),
                    ports: Vec::new(),
                };
                (&node.spec.node, view)
            })
            .collect();
        for instance in self.instances.iter().filter(|instance| instance.spec.goal != Goal::Stop) {
            if let Some(view) = views.get_mut(&instance.spec.node) {
                promise(view, &version_of(&instance.spec));
            }
        }
        views.into_values().collect()
    }

    /// Writes what a plan says, in one transaction that compares what it was decided from.
    async fn carry_out(
        &self,
        assignment: &Resource<AssignmentSpec>,
        plan: &ServicePlan,
    ) -> Result<Option<u64>, Problem> {
        let mut write = self.objects.write();
        let table = self.tables.get(&assignment.name);
        write = match (&plan.table, table) {
            (TablePlan::Put(spec), Some(table)) => {
                let mut changed = table.clone();
                changed.spec = spec.clone();
                changed.generation += 1;
                write.update(&changed)
            }
            (TablePlan::Put(spec), None) => write.create(&self.objects.make(&assignment.name, spec.clone())),
            (TablePlan::Remove, Some(table)) => write.delete(table),
            _ => write,
        };
        let changes: BTreeMap<&InstanceId, Goal> = plan.goals.iter().map(|(id, goal)| (id, *goal)).collect();
        for id in &plan.relies_on {
            // One that changes in this very transaction is compared by that.
            if let Some(instance) = self.instances.get(id.as_str())
                && !changes.contains_key(id)
            {
                write = write.unchanged(instance);
            }
        }
        // Whatever finds no room is planned again when this transaction comes back by watch.
        let room = limits::STORE_TXN_OPERATIONS - tutti_plan::zone::BATCH - plan.relies_on.len().min(32) - 2;
        for (id, goal) in changes {
            if let Some(instance) = self.instances.get(id.as_str())
                && write.operations() < room
            {
                let mut changed = instance.clone();
                changed.spec.goal = goal;
                changed.generation += 1;
                write = write.update(&changed);
            }
        }
        for id in &plan.forget {
            if let Some(instance) = self.instances.get(id.as_str())
                && write.operations() < room
            {
                write = write.delete(instance);
            }
        }
        for (version, node) in &plan.create {
            let instance = self.objects.random().instance_id();
            let spec = InstanceSpec {
                instance: instance.clone(),
                version: version.version.clone(),
                artifact: version.artifact.clone(),
                isolate: version.isolate,
                manifest: version.manifest.clone(),
                node: node.clone(),
                goal: Goal::Serve,
            };
            write = write.create(&self.objects.make(instance.to_string(), spec));
        }
        if plan.gone {
            return write.delete(assignment).commit().await;
        }
        if write.operations() == 0 {
            return Ok(None);
        }
        let stage = stage(&plan.report.progress);
        crashpoint::reached(|| format!("zone/{stage}/before"));
        let committed = write.unchanged(assignment).commit().await?;
        crashpoint::reached(|| format!("zone/{stage}/after"));
        Ok(committed)
    }

    /// Writes the report if it says something new. It is the zone's own object, so the last one to write it wins.
    async fn report(&self, name: &str, report: &ReportSpec) -> Result<Option<Resource<ReportSpec>>, Problem> {
        if self.reported.get(name).is_some_and(|known| known.spec == *report) {
            return Ok(None);
        }
        let object = report_name(self.objects.zone(), &report.service);
        let mut known = self.reported.get(name).cloned();
        loop {
            let (write, mut next) = match known {
                Some(mut known) => {
                    if known.spec == *report {
                        return Ok(Some(known));
                    }
                    known.spec = report.clone();
                    known.generation += 1;
                    (self.objects.write().update(&known), known)
                }
                None => {
                    let made = self.objects.make(&object, report.clone());
                    (self.objects.write().create(&made), made)
                }
            };
            if let Some(revision) = write.commit().await? {
                next.revision = revision;
                return Ok(Some(next));
            }
            known = self.objects.find(&object).await?;
        }
    }

    /// Tells each node which pushed, not yet deployed versions to hold ready.
    async fn preload(&self) -> Result<(), Problem> {
        let views = self.node_views();
        let mut wanted: BTreeMap<NodeName, Vec<VersionSpec>> = BTreeMap::new();
        for assignment in self.assignments.iter().filter(|assignment| !assignment.spec.removed) {
            let Some(version) = &assignment.spec.preload else { continue };
            let mut nodes: BTreeSet<NodeName> = self
                .instances_of(&assignment.spec.service)
                .map(|instance| instance.spec.node.clone())
                .collect();
            if nodes.is_empty() {
                nodes.extend(place(version, 1, &mut views.clone(), &mut BTreeMap::new()).nodes);
            }
            for node in nodes {
                wanted.entry(node).or_default().push(version.clone());
            }
        }
        for node in self.nodes.iter() {
            let mut preload = wanted.remove(&node.spec.node).unwrap_or_default();
            preload.truncate(PRELOADED);
            if preload != node.spec.preload {
                let mut changed = node.clone();
                changed.spec.preload = preload;
                changed.generation += 1;
                // Refused, it is planned again when the change that refused it arrives.
                self.objects.write().update(&changed).commit().await?;
            }
        }
        Ok(())
    }
}

/// The word for how far a zone is.
const fn stage(progress: &Progress) -> &'static str {
    match progress {
        Progress::Placing => "placing",
        Progress::Preloading => "preloading",
        Progress::Starting => "starting",
        Progress::Shifting => "shifting",
        Progress::Settled => "settled",
        Progress::Failed { .. } => "failed",
    }
}

/// The version that an instance runs, as far as placement is concerned.
fn version_of(instance: &InstanceSpec) -> VersionSpec {
    VersionSpec {
        version: instance.version.clone(),
        artifact: instance.artifact.clone(),
        size: 0,
        isolate: instance.isolate,
        manifest: instance.manifest.clone(),
    }
}
