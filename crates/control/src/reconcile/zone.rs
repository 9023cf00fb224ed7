//! The zone tier's loop: makes instances and tables follow what was handed down, and reports. What happens, and which
//! service is looked at when, is here; how much room there is, what is held ready, what is silent and how a plan is written have files of
//! their own.

mod pools;
mod preload;
mod quota;
mod revoked;
mod room;
mod scaling;
mod silence;
mod write;

#[cfg(test)]
mod tests;

use self::{preload::Preparing, revoked::Revoked, room::KnownRoom, scaling::History};
use super::{
    ReconcileOptions,
    global::{RETRY, apply, sleep_until},
    index::Index,
    loops::Pulse,
    report::Reporter,
    wake::Wake,
};
use crate::{Objects, observed::Observed};
use futures_util::StreamExt as _;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};
use tokio_util::sync::CancellationToken;
use tutti_api::{Cache, WatchEvent, WatchStream};
use tutti_model::{
    ErrorCode, Millis, Problem, Resource, Timestamp,
    assignment::AssignmentSpec,
    control::PresenceSpec,
    event::EventSpec,
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec},
    name::NodeName,
    node::{Held, NodeSpec, NodeStatus},
    report::Progress,
    table::TableSpec,
    version::VersionSpec,
};
use tutti_plan::{
    capacity::Load,
    happened,
    room::Spare,
    scaling::workers,
    zone::{ServicePlan, ServiceView, plan_service},
};

/// How often marks of silence that could not be written are tried again, what was measured is taken in, and how soon it is noticed that a node has
/// never been heard at all.
const SILENCE_CHECK: Millis = Millis::seconds(2);

/// Most events that wait to be told. More than so many ingresses at once come or go only with the store.
const EVENTS_WAITING: usize = 64;

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
            Some(event) = streams.presences.next() => tier.presences_changed(event),
            () = sleep_until(&objects, next) => {}
        }
        // Whatever woke it: there may always be another event, most likely when nodes fail.
        if tier.is_synced() && objects.clock().now() >= check {
            check = objects.clock().now().plus(SILENCE_CHECK);
            tier.check_silence();
            tier.silence_due = true;
            tier.look_at_measures();
            tier.look_at_load().await;
            if let Err(problem) = tier.look_at_pools().await {
                tracing::warn!(%problem, "node pools are looked at later");
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
    presences: WatchStream<PresenceSpec>,
}

impl Streams {
    fn start(objects: &Objects) -> Streams {
        Streams {
            assignments: objects.watch(None),
            tables: objects.watch(None),
            instances: objects.watch(None),
            nodes: objects.watch(None),
            ingresses: objects.watch(None),
            presences: objects.watch(None),
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
    /// Nodes that are heard.
    presences: Cache<PresenceSpec>,
    /// When this loop began: a node that is not heard yet may only not have had the time to find this control.
    began: Timestamp,
    /// Instances by service, so that one service's plan does not read all others'.
    by_service: Index,
    /// The last report on each service, to write only what is new.
    reported: BTreeMap<String, Resource<tutti_model::report::ReportSpec>>,
    /// Services whose plan waits for ingresses or nodes.
    unsettled: BTreeSet<String>,
    /// Services with an instance that found no node: whatever may free some room matters to them. With what of theirs
    /// has no room to wait for either.
    waiting: BTreeMap<String, Vec<(VersionSpec, u32)>>,
    /// What node pools do for those that wait, by service.
    pool_notes: BTreeMap<String, Vec<String>>,
    /// What was written for each service and not told back by watch yet.
    written: BTreeMap<String, Written>,
    silent: BTreeSet<NodeName>,
    revoked: Revoked,
    /// What placement goes by of each node, to tell when it changes: what was asked of it, without what it holds ready,
    /// and what it is.
    known_nodes: BTreeMap<String, (NodeSpec, NodeStatus)>,
    /// The nodes with their promises.
    room: KnownRoom,
    /// Where versions are to be held ready though nothing runs them, by service.
    preparing: BTreeMap<String, Preparing>,
    preload_due: bool,
    /// Whether a node refused to be told what to hold ready, since it had changed: whatever that was, it comes by watch.
    preload_refused: bool,
    /// Whether it is time to mark what is silent.
    silence_due: bool,
    /// Whether a write failed so that it may or may not have taken effect: everything is read again before the next
    /// plan, or instances could be made twice.
    in_doubt: bool,
    /// What was seen to happen and is to be told, at most [`EVENTS_WAITING`].
    happened: Vec<EventSpec>,
    /// What was asked of services lately.
    history: History,
    wake: Wake,
    pulse: Pulse,
    /// Of the look at the load of all services.
    scaling: Pulse,
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
        let began = options.objects.clock().now();
        Zone {
            pulse: options.loops.pulse("zone", options.objects.clock()),
            scaling: options.loops.pulse("scaling", options.objects.clock()),
            objects: options.objects,
            observed: options.observed,
            assignments: Cache::default(),
            tables: Cache::default(),
            instances: Cache::default(),
            nodes: Cache::default(),
            ingresses: Cache::default(),
            presences: Cache::default(),
            began,
            by_service: Index::default(),
            reported: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            waiting: BTreeMap::new(),
            pool_notes: BTreeMap::new(),
            written: BTreeMap::new(),
            silent: BTreeSet::new(),
            revoked: Revoked::default(),
            known_nodes: BTreeMap::new(),
            room: KnownRoom::default(),
            preparing: BTreeMap::new(),
            preload_due: false,
            preload_refused: false,
            silence_due: false,
            in_doubt: false,
            happened: Vec::new(),
            history: History::default(),
            wake: Wake::default(),
        }
    }

    fn is_synced(&self) -> bool {
        self.assignments.is_synced()
            && self.tables.is_synced()
            && self.instances.is_synced()
            && self.nodes.is_synced()
            && self.ingresses.is_synced()
            && self.presences.is_synced()
    }

    /// Forgets that anything is complete, until the watches have begun again.
    fn doubt(&mut self) {
        self.assignments.doubt();
        self.tables.doubt();
        self.instances.doubt();
        self.nodes.doubt();
        self.ingresses.doubt();
        self.presences.doubt();
        self.written.clear();
        self.reported.clear();
        self.room.forget_promised();
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
            if instance.spec.manifest.singleton {
                let is_to_stop = is_there && instance.spec.goal == Goal::Stop;
                self.revoked.note(&instance.spec.instance, is_to_stop, self.objects.clock().as_ref());
            }
            self.by_service.set(&instance.name, is_there.then_some(service.as_str()));
            self.room.instance(&instance, is_there);
            self.wake.now(service);
            if !is_there || instance.spec.goal != Goal::Serve {
                self.wake_waiting();
            }
        }
    }

    fn nodes_changed(&mut self, event: Result<WatchEvent<NodeSpec>, Problem>) {
        let mut is_news = false;
        for node in apply(&mut self.nodes, event) {
            self.room.changed(&node.spec.node);
            // What refused the write may be anything: a mark of silence is no news to anybody else.
            self.preload_due |= std::mem::take(&mut self.preload_refused);
            let held_down = |version| node.spec.preload.contains(version);
            self.preload_due |= !node.spec.asked.iter().all(held_down);
            // What a node is to hold ready is this loop's own writing, and means nothing to services.
            let mut is = self.nodes.get(&node.name).map(|node| {
                let asked = NodeSpec { asked: Vec::new(), preload: Vec::new(), ..node.spec.clone() };
                (asked, node.status.clone())
            });
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
        let is_complete = matches!(event, Ok(WatchEvent::InitDone { .. }));
        let is_news = matches!(event, Ok(WatchEvent::Changes { .. }));
        let known: BTreeSet<String> = self.ingresses.iter().map(|ingress| ingress.name.clone()).collect();
        let changed = apply(&mut self.ingresses, event);
        let now = self.objects.clock().now();
        for ingress in changed.iter().filter(|_| is_news) {
            let is_there = self.ingresses.get(&ingress.name).is_some();
            if is_there != known.contains(&ingress.name) && self.happened.len() < EVENTS_WAITING {
                self.happened.push(happened::of_ingress(now, ingress, is_there));
            }
        }
        if is_complete {
            // Whoever left while another control led, or while the watch was broken, is told by no change.
            self.observed.only_ingresses(|name| self.ingresses.get(name).is_some());
        }
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

    /// Its lease has run out, or it is heard again.
    fn presences_changed(&mut self, event: Result<WatchEvent<PresenceSpec>, Problem>) {
        if !apply(&mut self.presences, event).is_empty() && self.is_synced() {
            self.check_silence();
            self.silence_due = true;
        }
    }

    fn wake_all(&mut self) {
        for assignment in self.assignments.iter() {
            self.wake.now(assignment.name.clone());
        }
    }

    /// Room may have been freed, or may be had now.
    fn wake_waiting(&mut self) {
        for name in self.waiting.keys() {
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

    /// Does what is due, and says how that went.
    async fn pass(&mut self) {
        let is_run = self.preload_due
            || self.silence_due
            || !self.happened.is_empty()
            || self.wake.next().is_some_and(|next| next <= self.objects.clock().now());
        if is_run {
            self.pulse.begin();
        }
        self.do_due().await;
        if is_run {
            self.pulse.end();
        }
        self.pulse.waiting(self.wake.waiting());
    }

    async fn do_due(&mut self) {
        let now = self.objects.clock().now();
        let mut due = self.wake.take(now);
        self.preload_due |= due.remove(PRELOAD);
        if self.preload_due {
            // Planned before anything is reported, and written after all that somebody waits for.
            due.extend(self.plan_preload());
        }
        let mut due = due.into_iter();
        while let Some(name) = due.next() {
            if let Err(problem) = self.service(&name).await {
                self.pulse.fail(&name, &problem);
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
            self.pulse.fail("preloading", &problem);
            tracing::warn!(%problem, "preloading will be planned again");
            self.wake.at(PRELOAD, Some(now.plus(RETRY)));
            self.in_doubt |= is_doubtful(&problem);
        }
        // Last, since it helps only those who look.
        if std::mem::take(&mut self.silence_due)
            && let Err(problem) = self.mark_silence().await
        {
            self.pulse.fail("marks of silence", &problem);
            tracing::warn!(%problem, "what is silent will be marked later");
            self.in_doubt |= is_doubtful(&problem);
        }
        // Each by itself, since what it tells of was no write of this loop. What cannot be told now is not told.
        for event in std::mem::take(&mut self.happened) {
            if let Err(problem) = self.objects.write().tell(Some(event)).commit().await {
                tracing::warn!(%problem, "an event is not told");
                break;
            }
        }
    }

    async fn look_at_load(&mut self) {
        self.scaling.begin();
        let scaled = self.scale().await;
        self.scaling.end();
        if let Err(problem) = scaled {
            self.scaling.fail("load", &problem);
            tracing::warn!(%problem, "what load asks for is done later");
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
        plan.report.scaled = assignment.status.scaled.clone().filter(|_| assignment.spec.scales);
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
            self.waiting.insert(name.to_owned(), std::mem::take(&mut plan.homeless));
            // After what is missing, before the nodes, of which there may be many.
            let notes = self.pool_notes.get(name).cloned().unwrap_or_default();
            plan.report
                .reasons
                .splice(plan.report.reasons.len().min(1)..plan.report.reasons.len().min(1), notes);
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
        self.enter_changed();
        let service = &assignment.spec.service;
        let instances: Vec<_> = self.instances_of(&assignment.name).collect();
        let now = self.objects.clock().now();
        let workers = workers(&assignment.spec, assignment.status.scaled.as_ref());
        let scaled = match workers == assignment.spec.workers {
            true => Cow::Borrowed(&assignment.spec),
            false => Cow::Owned(AssignmentSpec { workers, ..assignment.spec.clone() }),
        };
        let spares: Vec<Spare<'_>> = if makes_room { self.spares(now) } else { Vec::new() };
        plan_service(ServiceView {
            now,
            zone: self.objects.zone(),
            assignment: &scaled,
            table: self.tables.get(&assignment.name),
            instances: &instances,
            nodes: &self.room.nodes,
            ingresses,
            load: Load { running: self.observed.running(service) },
            revoked: &self.revoked.by_time_of_day(self.objects.clock().as_ref()),
            spares: &spares,
        })
    }
}

/// Takes what a node holds ready out of what is known of it.
fn held(node: &mut Option<(NodeSpec, NodeStatus)>) -> Vec<Held> {
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
