//! A small cloud: one service, three nodes, two ingresses, a user who deploys and changes their mind, and a control that
//! is killed now and then.

use crate::Checker;
use std::sync::Arc;
use tutti_api::{
    ZoneApi as _,
    zone::{IngressReport, InstanceReport, NodeHeartbeat},
};
use tutti_base::{Clock as _, Random, Tasks, clock::VirtualClock};
use tutti_control::{
    Objects,
    observed::Observed,
    reconcile::{self, ReconcileOptions},
    zone::LocalZone,
};
use tutti_model::{
    DeploymentId, Digest, Millis, Problem, Resource, ServiceRef, Split, Timestamp, VersionName,
    assignment::AssignmentSpec,
    deployment::{DeploymentSpec, Intent, Phase, Target},
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec, InstanceState},
    manifest::Manifest,
    name::{NodeName, ZoneName},
    node::{Fingerprint, NodeStatus, Resources},
    quantity::{ByteSize, MilliCpu},
    report::ReportSpec,
    service::ServiceSpec,
    stats::{ServiceStats, VersionStats},
    table::TableSpec,
    version::{Isolate, VersionSpec},
};
use tutti_store::{
    MemoryStore, Store,
    faulty::{Faults, Faulty, Rates},
};

/// Turns that every task gets after each event: more than the longest chain of tasks that wake one another.
const TURNS: usize = 200;
/// The versions that the user deploys.
const VERSIONS: u64 = 4;

/// A simulated cloud.
pub struct World {
    clock: VirtualClock,
    random: Random,
    /// The store as it is, for looking.
    real: Objects,
    /// The store as control sees it.
    seen: Objects,
    faults: Faults,
    control: Option<(Tasks, LocalZone)>,
    nodes: Vec<NodeName>,
    ingresses: Vec<(String, u64)>,
    answers: u64,
    /// How often, in a thousandth, an instance fails rather than becoming ready.
    broken: u64,
    checker: Checker,
    /// What happened, for the story of a failing seed.
    pub story: Vec<String>,
}

impl World {
    /// A cloud with one service of three workers and nothing deployed.
    ///
    /// # Errors
    /// None but a fault of the simulation itself.
    pub async fn new(seed: u64) -> Result<World, Problem> {
        let clock = VirtualClock::at(Timestamp(1_000_000));
        let random = Random::seeded(seed);
        let memory = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let faulty = Faulty::new(Arc::clone(&memory), Random::seeded(seed ^ 0xfa), Arc::new(clock.clone()));
        let faults = faulty.faults();
        let over = |store: Arc<dyn Store>| {
            Objects::new(store, ZoneName::local(), Arc::new(clock.clone()), random.clone())
        };
        let real = over(Arc::clone(&memory) as _);
        let seen = over(Arc::new(faulty));
        let checker = Checker::start(memory.as_ref()).await;
        let mut world = World {
            clock,
            random,
            real,
            seen,
            faults,
            control: None,
            nodes: ["a", "b", "c"].iter().filter_map(|name| name.parse().ok()).collect(),
            ingresses: vec![("ingress-1".into(), 0), ("ingress-2".into(), 0)],
            answers: 0,
            broken: 0,
            checker,
            story: Vec::new(),
        };
        world.make_service().await?;
        world.restart_control().await;
        Ok(world)
    }

    async fn make_service(&self) -> Result<(), Problem> {
        let spec = ServiceSpec { service: service()?, upstreams: Vec::new(), workers: Some(3) };
        let mut write = self.real.write().create(&self.real.make(service()?.to_string(), spec));
        for index in 0..VERSIONS {
            let version = service()?.at(version(index)?);
            let spec = VersionSpec {
                version: version.clone(),
                artifact: Digest::from_sha256(&[0; 32]),
                size: 1,
                isolate: Isolate::Wasm,
                manifest: Manifest { standby: Millis::seconds(20), ..Manifest::default() },
            };
            write = write.create(&self.real.make(version.to_string(), spec));
        }
        write.commit().await.map(|_| ())
    }

    /// Kills control, if it runs, and starts another that knows only what is stored.
    pub async fn restart_control(&mut self) {
        if let Some((tasks, _)) = self.control.take() {
            tasks.stop();
            self.turns().await;
        }
        let observed = Observed::new(self.clock.now());
        let tasks = Tasks::new();
        let zone = LocalZone::new(self.seen.clone(), observed.clone());
        let options = ReconcileOptions {
            objects: self.seen.clone(),
            observed,
            host_suffixes: vec!["localhost".into()],
        };
        reconcile::start(options, &tasks);
        self.control = Some((tasks, zone));
        self.register_nodes().await;
    }

    async fn register_nodes(&self) {
        let Some((_, zone)) = &self.control else { return };
        for node in &self.nodes {
            let status = NodeStatus {
                ready: true,
                registered_at: Timestamp(1),
                release: "sim".into(),
                capacity: Resources { cpu: MilliCpu(64_000), memory: ByteSize::mib(64 * 1024) },
                isolates: vec![Fingerprint { isolate: Isolate::Wasm, usable: true, notes: Vec::new() }],
            };
            // A store that fails now is asked again with the next heartbeat.
            let _ = zone.register_node(node, status).await;
        }
    }

    /// Faults from now on happen so often, in a thousandth.
    pub fn set_faults(&mut self, rate: u64) {
        self.faults.set_rates(Rates {
            before: rate,
            after: rate,
            no_space: rate / 2,
            watch_breaks: rate,
            latency: Millis(0),
        });
        self.broken = rate;
    }

    async fn turns(&self) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// One event, by chance, and everything that follows from it at once.
    pub async fn step(&mut self) {
        match self.random.below(100) {
            0..=34 => self.agent_acts().await,
            35..=64 => self.ingress_acts().await,
            65..=84 => self.time_passes(Millis(1 + self.random.below(3000))).await,
            85..=92 => self.user_deploys().await,
            93..=97 => self.user_changes_mind().await,
            98 => {
                self.note("control is killed");
                self.restart_control().await;
            }
            _ => {
                self.note("watches break");
                self.faults.break_watches();
            }
        }
        self.turns().await;
        self.checker.catch_up(&self.real);
    }

    /// No more faults, and every part does its work, until the service is at rest: its deployment ended, its weights
    /// served by as many ready instances as they need, and nothing left over.
    ///
    /// # Errors
    /// The state in which it got stuck.
    pub async fn comes_to_rest(&mut self) -> Result<(), String> {
        self.set_faults(0);
        for _ in 0..400 {
            self.resume().await;
            for _ in 0..4 {
                self.agent_acts().await;
                self.turns().await;
            }
            for _ in 0..self.ingresses.len() * 3 {
                self.ingress_acts().await;
                self.turns().await;
            }
            self.time_passes(Millis::seconds(1)).await;
            self.turns().await;
            self.checker.catch_up(&self.real);
            if self.is_at_rest().await.map_err(|problem| problem.to_string())? {
                return Ok(());
            }
        }
        Err(self.state().await)
    }

    /// What the checker found.
    #[must_use]
    pub fn faults_found(&self) -> &[String] {
        &self.checker.faults
    }

    fn note(&mut self, text: impl Into<String>) {
        self.story.push(format!("{} {}", self.clock.now().0, text.into()));
    }

    async fn time_passes(&mut self, span: Millis) {
        self.clock.advance(span);
        self.turns().await;
        let Some((_, zone)) = &self.control else { return };
        for node in &self.nodes {
            let _ = zone.heartbeat(node, NodeHeartbeat::default()).await;
        }
    }

    /// One instance of one node moves on.
    async fn agent_acts(&mut self) {
        let Ok(all) = self.real.list::<InstanceSpec>("").await else { return };
        for instance in all.items {
            if self.random.below(3) == 0 {
                continue;
            }
            let Some(next) = self.moves_on(&instance) else { continue };
            let mut status = instance.status.clone();
            status.state = next;
            status.since = self.clock.now();
            status.observed_generation = instance.generation;
            status.reason = (next == InstanceState::Failed).then(|| "it was told to".into());
            let report = InstanceReport { instance: instance.spec.instance.clone(), status };
            if let Some((_, zone)) = &self.control {
                // An agent tries again until it is heard; here that is its next turn.
                let _ = zone.report_instances(&instance.spec.node, vec![report]).await;
            }
        }
    }

    fn moves_on(&self, instance: &Resource<InstanceSpec>) -> Option<InstanceState> {
        use InstanceState as S;
        let unlucky = self.random.below(1000) < self.broken;
        match (instance.spec.goal, instance.status.state) {
            (_, S::Stopped) => None,
            (Goal::Stop, _) | (Goal::Drain, S::Draining | S::Failed) => Some(S::Stopped),
            (Goal::Drain, _) => Some(S::Draining),
            (_, S::Pending) => Some(S::Preloading),
            (_, S::Preloading) => Some(S::Starting),
            (_, S::Starting | S::Backoff) if unlucky => Some(S::Failed),
            (_, S::Starting | S::Backoff) => Some(S::Ready),
            (_, S::Ready) if unlucky => Some(S::Backoff),
            _ => None,
        }
    }

    /// One ingress applies what it has been told, and reports.
    async fn ingress_acts(&mut self) {
        let at = usize::try_from(self.random.below(self.ingresses.len() as u64)).unwrap_or(0);
        let newest = match self.real.list::<TableSpec>("").await {
            Ok(tables) => tables.items.iter().map(|table| table.revision).max().unwrap_or(0),
            Err(_) => return,
        };
        let caught_up = self.random.below(3) > 0;
        self.answers += 40;
        let Some((name, reached)) = self.ingresses.get_mut(at) else { return };
        if caught_up {
            *reached = newest;
        }
        let stats = (0..VERSIONS).filter_map(|index| {
            let stats = VersionStats { answers: self.answers, ..VersionStats::default() };
            Some(ServiceStats { service: service().ok()?, version: Some(version(index).ok()?), stats })
        });
        let report = IngressReport {
            ingress: name.clone(),
            spec: IngressSpec::default(),
            reached: *reached,
            stats: stats.collect(),
        };
        if let Some((_, zone)) = &self.control {
            let _ = zone.report_ingress(report).await;
        }
    }

    /// As the API does: the deployment and the service's lock in one transaction.
    async fn user_deploys(&mut self) {
        let (Ok(name), Ok(version)) = (service(), version(self.random.below(VERSIONS))) else { return };
        let Ok(mut service) = self.real.get::<ServiceSpec>(&name.to_string()).await else { return };
        if service.status.deployment.is_some() {
            return;
        }
        let id: DeploymentId = self.random.deployment_id();
        let steps: &[&str] = match self.random.below(3) {
            0 => &["100%"],
            1 => &["10%"],
            _ => &["1%", "50%", "100%"],
        };
        let spec = DeploymentSpec {
            deployment: id.clone(),
            service: name,
            target: Target::Version {
                version: version.clone(),
                steps: steps.iter().filter_map(|text| text.parse().ok()).collect(),
            },
            every: Millis::seconds(5),
            abort_if: "error_rate>1%".parse().into_iter().collect(),
            intent: Intent::Proceed,
            promoted: 0,
        };
        let mut deployment = self.real.make(id.to_string(), spec);
        deployment.status.from = service.status.split.clone();
        service.status.deployment = Some(id);
        self.note(format!("deploy {version} by {}", steps.join(",")));
        let _ = self.real.write().create(&deployment).update(&service).commit().await;
    }

    async fn user_changes_mind(&mut self) {
        let intent = match self.random.below(3) {
            0 => Intent::Abort,
            1 => Intent::Pause,
            _ => Intent::Proceed,
        };
        self.intend(intent).await;
    }

    async fn intend(&mut self, intent: Intent) {
        let Ok(all) = self.real.list::<DeploymentSpec>("").await else { return };
        for mut deployment in all.items {
            let settled = deployment.status.phase.is_final() || deployment.spec.intent == Intent::Abort;
            if !settled && deployment.spec.intent != intent {
                deployment.spec.intent = intent;
                deployment.generation += 1;
                self.note(format!("{intent:?}"));
                let _ = self.real.write().update(&deployment).commit().await;
            }
        }
    }

    /// Whoever paused lets it go on.
    async fn resume(&mut self) {
        self.intend(Intent::Proceed).await;
    }

    async fn is_at_rest(&self) -> Result<bool, Problem> {
        let deployments = self.real.list::<DeploymentSpec>("").await?.items;
        let service = self.real.get::<ServiceSpec>(&service()?.to_string()).await?;
        let table = self.real.find::<TableSpec>(&service.name).await?;
        let instances = self.real.list::<InstanceSpec>("").await?.items;
        let weights = table.map(|table| {
            let backends =
                table.spec.versions().iter().map(|backend| (backend.version.clone(), backend.weight));
            Split::new(backends).unwrap_or_default()
        });
        let wanted: u32 = service.status.split.iter().map(|(_, share)| share.workers(3)).sum();
        let serving = instances
            .iter()
            .filter(|i| i.spec.goal == Goal::Serve && i.status.state == InstanceState::Ready)
            .count();
        Ok(deployments.iter().all(|deployment| deployment.status.phase.is_final())
            && weights.unwrap_or_default() == service.status.split
            && u32::try_from(serving) == Ok(wanted)
            && instances.len() == serving)
    }

    async fn state(&self) -> String {
        let deployments = self.real.list::<DeploymentSpec>("").await.map(|all| all.items).unwrap_or_default();
        let open: Vec<_> = deployments
            .iter()
            .filter(|deployment| {
                !deployment.status.phase.is_final() || deployment.status.phase == Phase::Observing
            })
            .map(|deployment| (&deployment.status, deployment.spec.intent))
            .collect();
        let instances = self.real.list::<InstanceSpec>("").await.map(|all| all.items).unwrap_or_default();
        let instances: Vec<_> = instances
            .iter()
            .map(|instance| {
                format!(
                    "{} {:?} {}",
                    instance.spec.version.version, instance.spec.goal, instance.status.state
                )
            })
            .collect();
        let tables = self.real.list::<TableSpec>("").await.map(|all| all.items).unwrap_or_default();
        let reports = self.real.list::<ReportSpec>("").await.map(|all| all.items).unwrap_or_default();
        let reports: Vec<_> = reports
            .iter()
            .map(|report| (report.spec.round, &report.spec.progress, &report.spec.reasons))
            .collect();
        let round = self.real.list::<ServiceSpec>("").await.map(|all| all.items).unwrap_or_default();
        let round: Vec<_> = round.iter().map(|service| service.status.round).collect();
        let assigned = self.real.list::<AssignmentSpec>("").await.map(|all| all.items).unwrap_or_default();
        let assigned: Vec<_> =
            assigned.iter().map(|assignment| (assignment.spec.round, assignment.revision)).collect();
        let ingresses = self.real.list::<IngressSpec>("").await.map(|all| all.items).unwrap_or_default();
        let reached: Vec<_> =
            ingresses.iter().map(|ingress| (&ingress.name, ingress.status.reached)).collect();
        let tables: Vec<_> = tables
            .iter()
            .map(|table| {
                let backends = table.spec.versions().iter();
                (
                    table.revision,
                    backends
                        .map(|backend| format!("{} {}", backend.version, backend.weight))
                        .collect::<Vec<_>>(),
                )
            })
            .collect();
        format!(
            "stuck: deployments {open:?}\ninstances {instances:?}\ntables {tables:?}\nrounds {round:?} assigned {assigned:?} reports {reports:?}\ningresses {reached:?}"
        )
    }
}

fn service() -> Result<ServiceRef, Problem> {
    "example.com:web".parse()
}

fn version(index: u64) -> Result<VersionName, Problem> {
    format!("{index}.0").parse()
}
