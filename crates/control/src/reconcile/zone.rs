//! The zone tier's loop: makes instances and tables follow what was handed down, and reports.

use super::{
    ReconcileOptions,
    cache::Cache,
    global::{RETRY, apply, sleep_until},
    index::Index,
    report::Reporter,
    wake::Wake,
};
use crate::{Objects, objects::Write, observed::Observed};
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use tokio_util::sync::CancellationToken;
use tutti_api::{WatchEvent, WatchStream};
use tutti_base::crashpoint;
use tutti_model::{
    ErrorCode, InstanceId, Millis, Problem, Resource, Timestamp,
    assignment::AssignmentSpec,
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec},
    manifest::Manifest,
    name::NodeName,
    node::{Held, NodeSpec, NodeStatus},
    report::{PreparedReport, Progress},
    table::TableSpec,
    version::VersionSpec,
};
use tutti_plan::{
    capacity::Load,
    placement::{NodeView, Placed, promise},
    prepare::{preparation, prepare},
    room::{Spare, spare},
    zone::{NewInstance, ServicePlan, ServiceView, TablePlan, plan_service},
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
            () = sleep_until(&objects, next) => {}
        }
        // Whatever woke it: there may always be another event, most likely when nodes fail.
        if tier.is_synced() && objects.clock().now() >= check {
            check = objects.clock().now().plus(SILENCE_CHECK);
            tier.check_silence();
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
    by_service: Index,
    /// The last report on each service, to write only what is new.
    reported: BTreeMap<String, Resource<tutti_model::report::ReportSpec>>,
    /// Services whose plan waits for ingresses or nodes.
    unsettled: BTreeSet<String>,
    /// Services with an instance that found no node: whatever may free some room matters to them.
    waiting: BTreeSet<String>,
    /// What was written for each service and not told back by watch yet.
    written: BTreeMap<String, Written>,
    silent: BTreeSet<NodeName>,
    /// What placement goes by of each node, to tell when it changes: whether it is cordoned, and what it is.
    known_nodes: BTreeMap<String, (bool, NodeStatus)>,
    /// The nodes with their promises, as far as this pass has counted them.
    views: Option<BTreeMap<NodeName, NodeView>>,
    /// New instances, with the revision that made them, that have not come back by watch: another service must not be
    /// promised the same room.
    promised: Vec<(u64, NodeName, Manifest)>,
    /// Where versions are to be held ready though nothing runs them, by service.
    preparing: BTreeMap<String, Preparing>,
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

/// A version that is to be held ready, and where.
#[derive(Debug, PartialEq, Eq)]
struct Preparing {
    version: VersionSpec,
    placed: Placed,
}

/// A plan as a transaction, with what it writes.
struct Transaction {
    write: Write,
    table: bool,
    instances: bool,
    /// Where new instances go, and what they need there.
    promises: Vec<(NodeName, Manifest)>,
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
            by_service: Index::default(),
            reported: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            waiting: BTreeSet::new(),
            written: BTreeMap::new(),
            silent: BTreeSet::new(),
            known_nodes: BTreeMap::new(),
            views: None,
            promised: Vec::new(),
            preparing: BTreeMap::new(),
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
        self.promised.clear();
    }

    fn assignments_changed(&mut self, event: Result<WatchEvent<AssignmentSpec>, Problem>) {
        for assignment in apply(&mut self.assignments, event) {
            self.preload_due = true;
            self.wake.now(assignment.name);
            self.wake_waiting();
        }
    }

    fn tables_changed(&mut self, event: Result<WatchEvent<TableSpec>, Problem>) {
        for table in apply(&mut self.tables, event) {
            self.wake.now(table.name);
        }
    }

    fn instances_changed(&mut self, event: Result<WatchEvent<InstanceSpec>, Problem>) {
        for instance in apply(&mut self.instances, event) {
            let service = instance.spec.version.service.to_string();
            let is_there = self.instances.get(&instance.name).is_some();
            self.by_service.set(&instance.name, is_there.then_some(service.as_str()));
            self.wake.now(service);
            if !is_there || instance.spec.goal != Goal::Serve {
                self.wake_waiting();
            }
        }
    }

    fn nodes_changed(&mut self, event: Result<WatchEvent<NodeSpec>, Problem>) {
        let mut is_news = false;
        for node in apply(&mut self.nodes, event) {
            let held_down = |version| node.spec.preload.contains(version);
            self.preload_due |= !node.spec.asked.iter().all(held_down);
            // What a node is to hold ready is this loop's own writing, and means nothing to services.
            let mut is = self.nodes.get(&node.name).map(|node| (node.spec.cordoned, node.status.clone()));
            let mut was = match is.clone() {
                Some(is) => self.known_nodes.insert(node.name, is),
                None => self.known_nodes.remove(&node.name),
            };
            // What it holds means something only to the services whose version that is.
            if held(&mut is) != held(&mut was) {
                self.wake_prepared(&node.spec.node);
            }
            is_news |= is != was;
        }
        if is_news {
            self.preload_due = true;
            self.wake_all();
        }
    }

    fn ingresses_changed(&mut self, event: Result<WatchEvent<IngressSpec>, Problem>) {
        let changed = apply(&mut self.ingresses, event);
        for ingress in &changed {
            if self.ingresses.get(&ingress.name).is_none() {
                // Its lease has expired: what it last said to be running is not running any more.
                self.observed.ingress_left(&ingress.name);
            }
        }
        if !changed.is_empty() {
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

    /// Room may have been freed, or may be had now.
    fn wake_waiting(&mut self) {
        for name in &self.waiting {
            self.wake.now(name.clone());
        }
    }

    /// The services that have a version held ready on a node.
    fn wake_prepared(&mut self, node: &NodeName) {
        for (service, preparing) in &self.preparing {
            if preparing.placed.nodes.contains(node) {
                self.wake.now(service.clone());
            }
        }
    }

    async fn pass(&mut self) {
        let now = self.objects.clock().now();
        self.views = None;
        let mut due = self.wake.take(now);
        self.preload_due |= due.remove(PRELOAD);
        if self.preload_due {
            // Planned before anything is reported, and written after all that somebody waits for.
            due.extend(self.plan_preload());
        }
        let mut due = due.into_iter();
        while let Some(name) = due.next() {
            if let Err(problem) = self.service(&name).await {
                tracing::warn!(service = %name, %problem, "reconciling will be tried again");
                self.wake.at(&name, Some(now.plus(RETRY)));
                self.in_doubt |= is_doubtful(&problem);
            }
            if self.in_doubt {
                // What was perhaps written has perhaps taken the room that the next one would be given.
                due.for_each(|name| self.wake.now(name));
                return;
            }
        }
        if std::mem::take(&mut self.preload_due)
            && let Err(problem) = self.write_preload().await
        {
            tracing::warn!(%problem, "preloading will be planned again");
            self.wake.at(PRELOAD, Some(now.plus(RETRY)));
            self.in_doubt |= is_doubtful(&problem);
        }
    }

    /// One look at one service, and what follows from it.
    async fn service(&mut self, name: &str) -> Result<(), Problem> {
        let Some(assignment) = self.assignments.get(name).cloned() else {
            self.unsettled.remove(name);
            self.waiting.remove(name);
            self.reported.remove(name);
            self.written.remove(name);
            self.wake.at(name, None);
            return Ok(());
        };
        if let Some(written) = self.written.get(name) {
            if self.tables.revision() < written.table || self.instances.revision() < written.instances {
                tracing::debug!(service = name, ?written, "what was written has not come back yet");
                return Ok(());
            }
            self.written.remove(name);
        }
        let mut plan = self.decide(&assignment).await?;
        plan.report.prepared = self.prepared(&assignment);
        tracing::debug!(
            service = name,
            round = plan.report.round,
            progress = stage(&plan.report.progress),
            "planned"
        );
        self.wake.at(name, plan.wake);
        let in_motion = plan.report.progress != Progress::Settled
            || self.instances_of(name).any(|instance| instance.spec.goal != Goal::Serve);
        if in_motion {
            self.unsettled.insert(name.to_owned());
        } else {
            self.unsettled.remove(name);
        }
        if plan.lacks_room {
            self.waiting.insert(name.to_owned());
        } else {
            self.waiting.remove(name);
        }
        // Written side by side, so that they share one fsync.
        let reporter = Reporter { objects: self.objects.clone(), known: self.reported.get(name).cloned() };
        let reporting = async { if plan.gone { Ok(None) } else { reporter.report(&plan.report).await } };
        let (carried_out, reported) = tokio::join!(self.carry_out(&assignment, &plan), reporting);
        if let Some(report) = reported? {
            self.reported.insert(name.to_owned(), report);
        }
        carried_out
    }

    /// Plans a service; with what all services can spare only where it lacks room. Before anything drains, the ingresses
    /// are read from the store itself: one that has just come back may not have been told by watch yet, and still send by
    /// an old table.
    async fn decide(&mut self, assignment: &Resource<AssignmentSpec>) -> Result<ServicePlan, Problem> {
        let known: Vec<Resource<IngressSpec>> = self.ingresses.iter().cloned().collect();
        let known: Vec<&Resource<IngressSpec>> = known.iter().collect();
        let mut plan = self.plan(assignment, &known, false);
        let lacks_room = plan.lacks_room;
        if lacks_room {
            plan = self.plan(assignment, &known, true);
        }
        if !plan.goals.iter().any(|(_, goal)| *goal == Goal::Drain) {
            return Ok(plan);
        }
        let read = self.objects.list::<IngressSpec>("").await?.items;
        Ok(self.plan(assignment, &read.iter().collect::<Vec<_>>(), lacks_room))
    }

    fn instances_of(&self, service: &str) -> impl Iterator<Item = &Resource<InstanceSpec>> {
        self.by_service.of(service).filter_map(|name| self.instances.get(name))
    }

    /// Plans a service, with these ingresses, and where it is to look for room with what others can spare.
    fn plan(
        &mut self,
        assignment: &Resource<AssignmentSpec>,
        ingresses: &[&Resource<IngressSpec>],
        makes_room: bool,
    ) -> ServicePlan {
        let nodes = self.node_views();
        let service = &assignment.spec.service;
        let instances: Vec<_> = self.instances_of(&assignment.name).collect();
        let now = self.objects.clock().now();
        let spares: Vec<Spare<'_>> = if makes_room { self.spares(now) } else { Vec::new() };
        plan_service(ServiceView {
            now,
            zone: self.objects.zone(),
            assignment: &assignment.spec,
            table: self.tables.get(&assignment.name),
            instances: &instances,
            nodes: &nodes,
            ingresses,
            load: Load { running: self.observed.running(service) },
            spares: &spares,
        })
    }

    /// Every instance whose room can be had.
    fn spares(&self, now: Timestamp) -> Vec<Spare<'_>> {
        let spares = self.instances.iter().filter_map(|instance| {
            let assignment = self.assignments.get(&instance.spec.version.service.to_string())?;
            spare(now, instance, &assignment.spec)
        });
        spares.collect()
    }

    /// Every node with what is promised there. Counted once a pass, and kept up as the pass makes new promises.
    fn node_views(&mut self) -> Vec<NodeView> {
        let views = match self.views.take() {
            Some(views) => views,
            None => self.count_promises(),
        };
        let nodes = views.values().cloned().collect();
        self.views = Some(views);
        nodes
    }

    fn count_promises(&mut self) -> BTreeMap<NodeName, NodeView> {
        let mut views: BTreeMap<NodeName, NodeView> =
            self.nodes.iter().map(|node| (node.spec.node.clone(), self.node_view(node))).collect();
        for instance in self.instances.iter().filter(|instance| instance.spec.goal != Goal::Stop) {
            if let Some(view) = views.get_mut(&instance.spec.node) {
                promise(view, &instance.spec.manifest);
            }
        }
        let told = self.instances.revision();
        self.promised.retain(|(revision, ..)| *revision > told);
        for (_, node, manifest) in &self.promised {
            if let Some(view) = views.get_mut(node) {
                promise(view, manifest);
            }
        }
        views
    }

    fn node_view(&self, node: &Resource<NodeSpec>) -> NodeView {
        let usable = node.status.isolates.iter().filter(|isolate| isolate.usable);
        NodeView {
            node: node.spec.node.clone(),
            heard: !self.silent.contains(&node.spec.node),
            ready: node.status.ready,
            cordoned: node.spec.cordoned,
            capacity: node.status.capacity,
            promised: tutti_model::node::Resources::default(),
            isolates: usable.map(|isolate| isolate.isolate).collect(),
            ports: Vec::new(),
            holds: node.status.held.iter().filter_map(Held::ready).cloned().collect(),
        }
    }

    /// Writes what a plan says, in one transaction that compares what it was decided from.
    async fn carry_out(
        &mut self,
        assignment: &Resource<AssignmentSpec>,
        plan: &ServicePlan,
    ) -> Result<(), Problem> {
        let Transaction { write, table, instances, promises } = self.transaction(assignment, plan);
        if write.operations() == 0 {
            return Ok(());
        }
        let stage = stage(&plan.report.progress);
        crashpoint::reached(|| format!("zone/{stage}/before"));
        let committed = write.commit().await?;
        crashpoint::reached(|| format!("zone/{stage}/after"));
        if let Some(revision) = committed {
            let written = |is_written| if is_written { revision } else { 0 };
            let written = Written { table: written(table), instances: written(instances) };
            self.written.insert(assignment.name.clone(), written);
            for (node, manifest) in promises {
                if let Some(view) = self.views.as_mut().and_then(|views| views.get_mut(&node)) {
                    promise(view, &manifest);
                }
                self.promised.push((revision, node, manifest));
            }
        }
        Ok(())
    }

    /// The transaction that carries a plan out, as far as one can: whatever finds no room is planned again when this one
    /// comes back by watch. A table and all that it relies on always fit.
    fn transaction(&self, assignment: &Resource<AssignmentSpec>, plan: &ServicePlan) -> Transaction {
        let mut write = self.objects.write();
        let known = self.tables.get(&assignment.name);
        let drains = plan.goals.iter().any(|(_, goal)| *goal == Goal::Drain);
        write = match (&plan.table, known) {
            (TablePlan::Put(spec), Some(table)) => {
                let mut changed = table.clone();
                changed.spec = spec.clone();
                changed.generation += 1;
                write.update(&changed)
            }
            (TablePlan::Put(spec), None) => write.create(&self.objects.make(&assignment.name, spec.clone())),
            (TablePlan::Remove, Some(table)) => write.delete(table),
            // Whoever drains must not be named by a table that is being written.
            (TablePlan::Keep, Some(table)) if drains => write.unchanged(table),
            _ => write,
        };
        let table = write.operations();
        if plan.gone {
            write = write.delete(assignment);
            if let Some(report) = self.reported.get(&assignment.name) {
                write = write.delete(report);
            }
            return Transaction { write, table: false, instances: false, promises: Vec::new() };
        }
        write = write.unchanged(assignment);
        let goals: BTreeMap<&InstanceId, Goal> = plan.goals.iter().map(|(id, goal)| (id, *goal)).collect();
        for id in &plan.relies_on {
            if let Some(instance) = self.instances.get(id.as_str()) {
                write = match goals.get(id) {
                    Some(goal) => write.update(&with_goal(instance, *goal)),
                    None => write.unchanged(instance),
                };
            }
        }
        for (id, goal) in goals.iter().filter(|(id, _)| !plan.relies_on.contains(id)) {
            if let Some(instance) = self.instances.get(id.as_str())
                && write.room() > 0
            {
                write = write.update(&with_goal(instance, *goal));
            }
        }
        for id in &plan.forget {
            if let Some(instance) = self.instances.get(id.as_str())
                && write.room() > 0
            {
                write = write.delete(instance);
            }
        }
        let mut promises = Vec::new();
        for new in &plan.create {
            if write.room() > 0 {
                let instance = self.new_instance(new);
                write = write.create(&instance);
                promises.push((new.node.clone(), instance.spec.manifest));
            }
        }
        write = self.make_room(write, &plan.make_room);
        let instances = write.operations() > table;
        Transaction { write, table: table > 0, instances, promises }
    }

    /// Ends the standby of other services' instances, as far as there is room in the transaction. It compares the
    /// services' own hand-downs too: a rollback that was just asked for keeps what it returns to.
    fn make_room(&self, mut write: Write, going: &[InstanceId]) -> Write {
        let until = self.objects.clock().now();
        let mut compared = BTreeSet::new();
        for id in going {
            let Some(instance) = self.instances.get(id.as_str()) else { continue };
            let service = instance.spec.version.service.to_string();
            let Some(owner) = self.assignments.get(&service) else { continue };
            if write.room() < 2 {
                break;
            }
            tracing::info!(instance = %id, version = %instance.spec.version, "stands by no longer, to make room");
            write = write.update(&with_goal(instance, Goal::Standby { until }));
            if compared.insert(service) {
                write = write.unchanged(owner);
            }
        }
        write
    }

    fn new_instance(&self, new: &NewInstance) -> Resource<InstanceSpec> {
        let NewInstance { version, node, placed } = new;
        let instance = self.objects.random().instance_id();
        let spec = InstanceSpec {
            instance: instance.clone(),
            version: version.version.clone(),
            artifact: version.artifact.clone(),
            isolate: version.isolate,
            manifest: version.manifest.clone(),
            node: node.clone(),
            goal: Goal::Serve,
            placed: placed.clone(),
        };
        self.objects.make(instance.to_string(), spec)
    }

    /// Finds where pushed, not yet deployed versions are to be held ready, and gives the services for which that is
    /// news.
    fn plan_preload(&mut self) -> Vec<String> {
        let views = self.node_views();
        let mut next: BTreeMap<String, Preparing> = BTreeMap::new();
        for assignment in self.assignments.iter().filter(|assignment| !assignment.spec.removed) {
            let Some(version) = &assignment.spec.preload else { continue };
            let running: BTreeSet<NodeName> =
                self.instances_of(&assignment.name).map(|instance| instance.spec.node.clone()).collect();
            let placed = prepare(version, &running, &views);
            next.insert(assignment.name.clone(), Preparing { version: version.clone(), placed });
        }
        let before = std::mem::replace(&mut self.preparing, next);
        let is_news = |(service, preparing): (&String, &Preparing)| {
            (before.get(service) != Some(preparing)).then(|| service.clone())
        };
        self.preparing.iter().filter_map(is_news).collect()
    }

    /// How far the nodes are with the version that a service has held ready.
    fn prepared(&self, assignment: &Resource<AssignmentSpec>) -> Option<PreparedReport> {
        let version = assignment.spec.preload.as_ref()?;
        let preparing =
            self.preparing.get(&assignment.name).filter(|preparing| preparing.version == *version)?;
        let held = |node: &NodeName| self.nodes.get(node.as_str()).map(|node| node.status.held.as_slice());
        Some(PreparedReport {
            version: version.version.version.clone(),
            preparation: preparation(&version.artifact, &preparing.placed, held),
        })
    }

    /// Tells each node which versions to hold ready.
    async fn write_preload(&mut self) -> Result<(), Problem> {
        let mut wanted: BTreeMap<NodeName, Vec<VersionSpec>> = BTreeMap::new();
        for preparing in self.preparing.values() {
            for node in &preparing.placed.nodes {
                wanted.entry(node.clone()).or_default().push(preparing.version.clone());
            }
        }
        for node in self.nodes.iter() {
            let mut preload = node.spec.asked.clone();
            let planned = wanted.remove(&node.spec.node).unwrap_or_default();
            preload.extend(planned.into_iter().filter(|version| !node.spec.asked.contains(version)));
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

/// Takes what a node holds ready out of what is known of it.
fn held(node: &mut Option<(bool, NodeStatus)>) -> Vec<Held> {
    node.as_mut().map(|(_, status)| std::mem::take(&mut status.held)).unwrap_or_default()
}

/// Whether a write that failed so may have taken effect all the same.
const fn is_doubtful(problem: &Problem) -> bool {
    matches!(problem.code, ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Internal)
}

/// The word for how far a zone is.
pub(super) const fn stage(progress: &Progress) -> &'static str {
    match progress {
        Progress::Placing => "placing",
        Progress::Preloading => "preloading",
        Progress::Starting => "starting",
        Progress::Shifting => "shifting",
        Progress::Settled => "settled",
        Progress::Failed { .. } => "failed",
    }
}

fn with_goal(instance: &Resource<InstanceSpec>, goal: Goal) -> Resource<InstanceSpec> {
    let mut changed = instance.clone();
    changed.spec.goal = goal;
    changed.generation += 1;
    changed
}
