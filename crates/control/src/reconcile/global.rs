//! The global tier's loop: moves deployments on, hands services down to the zone, and removes what is to go.

use super::{ReconcileOptions, index::Index, loops::Pulse, wake::Wake};
use crate::{Objects, keys::Home, observed::Observed};
use futures_util::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use tokio_util::sync::CancellationToken;
use tutti_api::{Cache, WatchEvent, WatchStream};
use tutti_base::crashpoint;
use tutti_model::{
    DomainName, Kind, Millis, Problem, Resource, ServiceRef,
    assignment::AssignmentSpec,
    deployment::{DeploymentSpec, Phase, Target},
    domain::DomainSpec,
    report::{ReportSpec, report_name},
    resource::Object,
    route::RouteSpec,
    service::ServiceSpec,
    stats::VersionStats,
    version::VersionSpec,
};
use tutti_plan::{
    handdown::{HanddownView, hand_down, under_aliases},
    happened,
    rollout::{RolloutView, advance},
};
use tutti_store::Compare;

/// Pause before a write that the store did not take is tried again.
pub(super) const RETRY: Millis = Millis::seconds(1);

/// Most ended deployments of a service that are kept, for its history: a month of several a day.
const DEPLOYMENTS_KEPT: usize = 100;

/// Runs the loop until `stop`.
pub async fn run(options: ReconcileOptions, stop: CancellationToken) {
    let objects = options.objects.clone();
    let mut reports_of_ingresses = options.observed.reports();
    let mut streams = Streams {
        services: objects.watch(None),
        versions: objects.watch(None),
        deployments: objects.watch(None),
        routes: objects.watch(None),
        domains: objects.watch(None),
        reports: objects.watch(None),
        assignments: objects.watch(None),
    };
    let mut tier = Global::new(options);
    loop {
        if tier.is_synced() {
            tier.pass().await;
        }
        // Before everything is known nothing is due, however late it is: only a watch can change that.
        let next = if tier.is_synced() { tier.wake.next() } else { None };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(event) = streams.services.next() => tier.services_changed(event),
            Some(event) = streams.versions.next() => tier.versions_changed(event),
            Some(event) = streams.deployments.next() => tier.deployments_changed(event),
            Some(event) = streams.routes.next() => tier.routes_changed(event),
            Some(event) = streams.domains.next() => tier.domains_changed(event),
            Some(event) = streams.reports.next() => tier.reports_changed(event),
            Some(event) = streams.assignments.next() => tier.assignments_changed(event),
            Ok(()) = reports_of_ingresses.changed() => tier.figures_changed(),
            () = sleep_until(&objects, next) => {}
        }
    }
}

struct Streams {
    services: WatchStream<ServiceSpec>,
    versions: WatchStream<VersionSpec>,
    deployments: WatchStream<DeploymentSpec>,
    routes: WatchStream<RouteSpec>,
    domains: WatchStream<DomainSpec>,
    reports: WatchStream<ReportSpec>,
    assignments: WatchStream<AssignmentSpec>,
}

/// Waits until `when`, or for ever.
pub(super) async fn sleep_until(objects: &Objects, when: Option<tutti_model::Timestamp>) {
    match when {
        Some(when) => objects.clock().sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Applies an event to a cache; a watch that cannot go on is logged, and what it told stays.
pub(super) fn apply<S: Object>(
    cache: &mut Cache<S>,
    event: Result<WatchEvent<S>, Problem>,
) -> Vec<Resource<S>> {
    match event {
        Ok(event) => cache.apply(event),
        Err(problem) => {
            tracing::error!(%problem, kind = %S::KIND, "a watch failed");
            Vec::new()
        }
    }
}

struct Global {
    objects: Objects,
    observed: Observed,
    host_suffixes: Vec<String>,
    services: Cache<ServiceSpec>,
    versions: Cache<VersionSpec>,
    deployments: Cache<DeploymentSpec>,
    routes: Cache<RouteSpec>,
    domains: Cache<DomainSpec>,
    /// Other names of domains that have some, as they were handed down.
    aliases: BTreeMap<String, Vec<DomainName>>,
    reports: Cache<ReportSpec>,
    assignments: Cache<AssignmentSpec>,
    routes_of: Index,
    deployments_of: Index,
    /// Deployments that are being judged, each with its service.
    observing: BTreeMap<String, String>,
    wake: Wake,
    pulse: Pulse,
}

impl Global {
    fn new(options: ReconcileOptions) -> Self {
        Global {
            pulse: options.loops.pulse("global", options.objects.clock()),
            objects: options.objects,
            observed: options.observed,
            host_suffixes: options.host_suffixes,
            services: Cache::default(),
            versions: Cache::default(),
            deployments: Cache::default(),
            routes: Cache::default(),
            domains: Cache::default(),
            aliases: BTreeMap::new(),
            reports: Cache::default(),
            assignments: Cache::default(),
            routes_of: Index::default(),
            deployments_of: Index::default(),
            observing: BTreeMap::new(),
            wake: Wake::default(),
        }
    }

    fn is_synced(&self) -> bool {
        self.services.is_synced()
            && self.versions.is_synced()
            && self.deployments.is_synced()
            && self.routes.is_synced()
            && self.domains.is_synced()
            && self.reports.is_synced()
            && self.assignments.is_synced()
    }

    fn services_changed(&mut self, event: Result<WatchEvent<ServiceSpec>, Problem>) {
        for service in apply(&mut self.services, event) {
            if self.services.get(&service.name).is_none() {
                self.wake_rivals(&service.spec.service);
            }
            self.wake.now(service.name);
        }
    }

    fn versions_changed(&mut self, event: Result<WatchEvent<VersionSpec>, Problem>) {
        for version in apply(&mut self.versions, event) {
            self.wake.now(version.spec.version.service.to_string());
        }
    }

    fn deployments_changed(&mut self, event: Result<WatchEvent<DeploymentSpec>, Problem>) {
        for deployment in apply(&mut self.deployments, event) {
            let service = deployment.spec.service.to_string();
            let is_there = self.deployments.get(&deployment.name).is_some();
            self.deployments_of.set(&deployment.name, is_there.then_some(service.as_str()));
            if is_there && deployment.status.phase == Phase::Observing {
                self.observing.insert(deployment.name, service.clone());
            } else {
                self.observing.remove(&deployment.name);
            }
            self.wake.now(service);
        }
    }

    /// A service that has gone leaves its host to the next oldest of the same label.
    fn wake_rivals(&mut self, gone: &ServiceRef) {
        let label = gone.service.host_label();
        let prefix = format!("{}:", gone.domain);
        let siblings = self.services.with_prefix(&prefix);
        let rivals = siblings.filter(|sibling| sibling.spec.service.service.host_label() == label);
        for rival in rivals {
            self.wake.now(rival.name.clone());
        }
    }

    fn routes_changed(&mut self, event: Result<WatchEvent<RouteSpec>, Problem>) {
        for route in apply(&mut self.routes, event) {
            let service = route.spec.service.to_string();
            let is_there = self.routes.get(&route.name).is_some();
            if let Some(before) = self.routes_of.set(&route.name, is_there.then_some(service.as_str())) {
                self.wake.now(before);
            }
            self.wake.now(service);
            // It may take what another's route was under an alias, or give it back.
            let domain = route.spec.service.domain.to_string();
            if self.aliases.contains_key(&domain) {
                self.wake_domain(&domain);
            }
        }
    }

    /// A domain is touched by each service that is made in it: only its other names matter here.
    fn domains_changed(&mut self, event: Result<WatchEvent<DomainSpec>, Problem>) {
        for domain in apply(&mut self.domains, event) {
            let now = self.domains.get(&domain.name).map(|domain| domain.spec.aliases.clone());
            let now = now.unwrap_or_default();
            let before = match now.is_empty() {
                true => self.aliases.remove(&domain.name),
                false => self.aliases.insert(domain.name.clone(), now.clone()),
            };
            if before.unwrap_or_default() != now {
                self.wake_domain(&domain.name);
            }
        }
    }

    fn wake_domain(&mut self, domain: &str) {
        for service in self.services.with_prefix(&format!("{domain}:")) {
            self.wake.now(service.name.clone());
        }
    }

    fn reports_changed(&mut self, event: Result<WatchEvent<ReportSpec>, Problem>) {
        for report in apply(&mut self.reports, event) {
            self.wake.now(report.spec.service.to_string());
        }
    }

    fn assignments_changed(&mut self, event: Result<WatchEvent<AssignmentSpec>, Problem>) {
        for assignment in apply(&mut self.assignments, event) {
            self.wake.now(assignment.name);
        }
    }

    /// New figures matter to deployments that are being judged.
    fn figures_changed(&mut self) {
        for service in self.observing.values() {
            self.wake.now(service.clone());
        }
    }

    async fn pass(&mut self) {
        let now = self.objects.clock().now();
        let due = self.wake.take(now);
        let is_run = !due.is_empty();
        if is_run {
            self.pulse.begin();
        }
        for name in due {
            if let Err(problem) = self.service(&name).await {
                self.pulse.fail(&name, &problem);
                tracing::warn!(service = %name, %problem, "reconciling will be tried again");
                self.wake.at(&name, Some(now.plus(RETRY)));
            }
        }
        if is_run {
            self.pulse.end();
        }
        self.pulse.waiting(self.wake.waiting());
    }

    /// One look at one service. At most one write: what it changes comes back by watch, and is looked at then.
    async fn service(&mut self, name: &str) -> Result<(), Problem> {
        let Some(service) = self.services.get(name).cloned() else {
            return Ok(());
        };
        if self.roll_out(&service).await?
            || self.hand_down(&service).await?
            || self.tell_preparation(&service).await?
        {
            return Ok(());
        }
        if service.deleted_at.is_some() { self.finalize(&service).await } else { self.prune(&service).await }
    }

    /// Forgets the oldest deployments of a service, beyond [`DEPLOYMENTS_KEPT`].
    async fn prune(&mut self, service: &Resource<ServiceSpec>) -> Result<(), Problem> {
        // The one that runs is not counted among those kept.
        let surplus = self.deployments_of.count(&service.name).saturating_sub(DEPLOYMENTS_KEPT + 1);
        if surplus == 0 {
            return Ok(());
        }
        let names = self.deployments_of.of(&service.name);
        let mut ended: Vec<_> = names
            .filter_map(|name| self.deployments.get(name))
            .filter(|deployment| deployment.status.phase.is_final())
            .collect();
        ended.sort_by_key(|deployment| (deployment.created_at, &deployment.name));
        let mut write = self.objects.write();
        for deployment in ended.into_iter().take(surplus) {
            if write.room() > 0 {
                write = write.delete(deployment);
            }
        }
        write.commit().await?;
        Ok(())
    }

    /// Moves the service's deployment on; true if something was written.
    async fn roll_out(&mut self, service: &Resource<ServiceSpec>) -> Result<bool, Problem> {
        let Some(id) = &service.status.deployment else {
            self.wake.at(&service.name, None);
            return Ok(false);
        };
        let Some(deployment) = self.deployments.get(id.as_str()).cloned() else {
            // It was created with the lock, so its own watch is only behind.
            return Ok(false);
        };
        let name = report_name(self.objects.zone(), &service.spec.service);
        let report = self.reports.get(&name).map(|report| report.spec.clone());
        let since_step = self.since_step(&deployment);
        let plan = advance(RolloutView {
            now: self.objects.clock().now(),
            deployment: &deployment,
            service,
            reports: &[report],
            since_step: &since_step,
        });
        self.wake.at(&service.name, plan.wake);
        let mut write = self.objects.write();
        let mut next = deployment.clone();
        if plan.deployment != deployment.status {
            next.status = plan.deployment;
            write = write.update(&next);
        } else {
            write = write.unchanged(&deployment);
        }
        let mut changed = service.clone();
        if plan.service != service.status {
            changed.status = plan.service;
            write = write.update(&changed);
        } else {
            write = write.unchanged(service);
        }
        if write.operations() == 0 {
            return Ok(false);
        }
        if next.status.phase != deployment.status.phase {
            tracing::info!(deployment = %next.name, service = %service.name, phase = %next.status.phase, message = %next.status.message, "deployment");
        }
        write = write.tell(happened::of_deployment(self.objects.clock().now(), &deployment.status, &next));
        if next.status.phase.is_final() {
            self.observed.forget(&next.spec.deployment);
        }
        let entered = next.status.phase;
        crashpoint::reached(|| format!("deployment/{entered}/before"));
        if write.commit().await?.is_some() {
            crashpoint::reached(|| format!("deployment/{entered}/after"));
        }
        Ok(true)
    }

    /// What the deployment's version answered since its step's weights serve.
    fn since_step(&self, deployment: &Resource<DeploymentSpec>) -> VersionStats {
        let (spec, status) = (&deployment.spec, &deployment.status);
        match &spec.target {
            Target::Version { version, .. } if status.phase == Phase::Observing => {
                self.observed.since_step(&spec.deployment, status.step, &spec.service, version)
            }
            _ => VersionStats::default(),
        }
    }

    /// Hands the service down if its part has changed; true if something was written.
    async fn hand_down(&mut self, service: &Resource<ServiceSpec>) -> Result<bool, Problem> {
        let current = self.assignments.get(&service.name);
        if service.deleted_at.is_some() && current.is_none() {
            return Ok(false);
        }
        let siblings: Vec<_> =
            self.services.with_prefix(&format!("{}:", service.spec.service.domain)).collect();
        let versions: Vec<_> = self.versions.with_prefix(&format!("{}@", service.name)).collect();
        let routes: Vec<_> =
            self.routes_of.of(&service.name).filter_map(|name| self.routes.get(name)).collect();
        let deployment = service.status.deployment.as_ref().and_then(|id| self.deployments.get(id.as_str()));
        let domain = &service.spec.service.domain;
        let aliases = self.aliases.get(domain.as_str()).map_or(&[][..], Vec::as_slice);
        let taken: BTreeSet<String> = routes
            .iter()
            .flat_map(|route| under_aliases(&route.spec.r#match, domain, aliases))
            .map(|route| route.to_string())
            .filter(|route| self.routes.get(route).is_some())
            .collect();
        let Some(next) = hand_down(HanddownView {
            service,
            siblings: &siblings,
            aliases,
            taken: &taken,
            versions: &versions,
            routes: &routes,
            deployment,
            host_suffixes: &self.host_suffixes,
            current: current.map(|current| &current.spec),
        }) else {
            return Ok(false);
        };
        let write = match current {
            Some(current) => {
                let mut changed = current.clone();
                changed.spec = next;
                changed.generation += 1;
                self.objects.write().update(&changed)
            }
            None => self.objects.write().create(&self.objects.make(&service.name, next)),
        };
        if write.unchanged(service).commit().await?.is_some() {
            crashpoint::reached(|| "handed-down/after".to_owned());
        }
        Ok(true)
    }

    /// Writes to its versions how far the zone is with holding them ready; true if something was written.
    async fn tell_preparation(&mut self, service: &Resource<ServiceSpec>) -> Result<bool, Problem> {
        if service.deleted_at.is_some() {
            return Ok(false);
        }
        let report = self.reports.get(&report_name(self.objects.zone(), &service.spec.service));
        let prepared = report.and_then(|report| report.spec.prepared.as_ref());
        let mut write = self.objects.write();
        for version in self.versions.with_prefix(&format!("{}@", service.name)) {
            let name = &version.spec.version.version;
            let preparation = prepared
                .filter(|prepared| prepared.version == *name)
                .map(|prepared| prepared.preparation.clone());
            // That a version is not held ready any more is not written while a deployment waits for the store.
            let matters = preparation.is_some() || service.status.deployment.is_none();
            if matters && version.status.preparation != preparation && write.room() > 0 {
                let mut changed = version.clone();
                changed.status.preparation = preparation;
                write = write.update(&changed);
            }
        }
        if write.operations() == 0 {
            return Ok(false);
        }
        // Refused, it is looked at again when the change that refused it arrives.
        write.commit().await?;
        Ok(true)
    }

    /// Removes a service that no zone has anything of any more, with its versions, routes and deployments; it goes last.
    /// What there is of it is read from the store: nothing is added to what is marked to be removed, but a watch may not
    /// have told yet what came just before, and nobody would ever remove that.
    async fn finalize(&mut self, service: &Resource<ServiceSpec>) -> Result<(), Problem> {
        if self.objects.find::<AssignmentSpec>(&service.name).await?.is_some() {
            return Ok(());
        }
        let versions = self.objects.list::<VersionSpec>(&format!("{}@", service.name)).await?.items;
        let mut routes = self.objects.list::<RouteSpec>("").await?.items;
        routes.retain(|route| route.spec.service == service.spec.service);
        let mut deployments = self.objects.list::<DeploymentSpec>("").await?.items;
        deployments.retain(|deployment| deployment.spec.service == service.spec.service);
        let key = Home::of(Kind::Assignment, self.objects.zone()).key(Kind::Assignment, &service.name);
        let mut write = self.objects.write().when(Compare::Absent(key)).unchanged(service);
        for version in versions.iter().take(write.room()) {
            write = write.delete(version);
        }
        for route in routes.iter().take(write.room()) {
            write = write.delete(route);
        }
        for deployment in deployments.iter().take(write.room()) {
            write = write.delete(deployment);
        }
        if write.operations() == 0 {
            let report = report_name(self.objects.zone(), &service.spec.service);
            write = self.objects.write().delete(service);
            if let Some(report) = self.objects.find::<ReportSpec>(&report).await? {
                write = write.delete(&report);
            }
            tracing::info!(service = %service.name, "removed");
        }
        write.commit().await?;
        Ok(())
    }
}
