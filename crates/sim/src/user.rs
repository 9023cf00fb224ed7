//! What users do, as the API does it: each act is one transaction that compares what it was decided from.

use crate::World;
use tutti_model::{
    DeploymentId, Digest, DomainName, Millis, Problem, Resource, ServiceRef, VersionName,
    deployment::{DeploymentSpec, Intent, Target},
    manifest::Manifest,
    quota::{Limits, QuotaSpec},
    service::ServiceSpec,
    version::{Isolate, VersionSpec},
};

/// The services of the world; they share its nodes.
pub const SERVICES: [&str; 2] = ["example.com:web", "example.com:com.example.Web"];
/// How many versions of each service the user deploys.
pub(crate) const VERSIONS: u64 = 4;
/// How long what is replaced stands by.
pub(crate) const STANDBY: Millis = Millis::seconds(20);
/// The most instances that the services' domain may have by load.
const QUOTA: u32 = 7;

impl World {
    /// What the domain of the services may have: less than both of them may ask for at their busiest.
    pub(crate) async fn make_quota(&self) -> Result<(), Problem> {
        let domain: DomainName = "example.com".parse()?;
        let limits = Limits { instances: Some(QUOTA), ..Limits::default() };
        let spec = QuotaSpec { domain: domain.clone(), limits };
        self.real.write().create(&self.real.make(domain.to_string(), spec)).commit().await.map(|_| ())
    }

    /// A service with all its versions.
    pub(crate) async fn make_service(&mut self, name: &str) -> Result<(), Problem> {
        let service: ServiceRef = name.parse()?;
        let spec = ServiceSpec { service: service.clone(), upstreams: Vec::new(), workers: Some(3) };
        let mut write = self.real.write().create(&self.real.make(name, spec));
        for index in 0..VERSIONS {
            let version = service.at(version(index)?);
            let spec = VersionSpec {
                version: version.clone(),
                artifact: Digest::from_sha256(&[0; 32]),
                size: 1,
                isolate: Isolate::Wasm,
                manifest: Manifest {
                    standby: STANDBY,
                    concurrency: 10,
                    // Every other version sleeps when nothing is asked of it.
                    min: u32::from(index % 2 == 0),
                    ..Manifest::default()
                },
            };
            write = write.create(&self.real.make(version.to_string(), spec));
        }
        write.commit().await.map(|_| ())
    }

    /// Something, by chance.
    pub(crate) async fn user_acts(&mut self) {
        let [one, other] = SERVICES;
        let name = if self.random.below(2) > 0 { other } else { one };
        let found = self.real.find::<ServiceSpec>(name).await;
        let Ok(Some(service)) = found else {
            self.note(format!("{name} is made anew"));
            // Whatever is left of its former life keeps it from being made; it is tried again.
            let _ = self.make_service(name).await;
            return;
        };
        if service.deleted_at.is_some() {
            return;
        }
        match self.random.below(20) {
            0..=11 => self.deploys(service).await,
            12..=14 => self.rolls_back(service).await,
            15..=17 => self.scales(service).await,
            _ => self.removes(service).await,
        }
    }

    /// The service of that name, if there is one.
    pub async fn service(&self, name: &str) -> Option<Resource<ServiceSpec>> {
        self.real.find::<ServiceSpec>(name).await.ok().flatten()
    }

    /// A service with nothing else to do takes a version to all its traffic.
    ///
    /// # Errors
    /// If there is no such service or version.
    pub async fn deploys_fully(&mut self, name: &str, index: u64) -> Result<(), Problem> {
        let Some(service) = self.service(name).await else {
            return Err(Problem::not_found("service", name));
        };
        let steps = vec!["100%".parse()?];
        self.begins(service, Target::Version { version: version(index)?, steps }).await;
        Ok(())
    }

    async fn deploys(&mut self, service: Resource<ServiceSpec>) {
        let Ok(version) = version(self.random.below(VERSIONS)) else { return };
        let steps: &[&str] = match self.random.below(3) {
            0 => &["100%"],
            1 => &["10%"],
            _ => &["1%", "50%", "100%"],
        };
        let steps = steps.iter().filter_map(|text| text.parse().ok()).collect();
        self.begins(service, Target::Version { version, steps }).await;
    }

    async fn rolls_back(&mut self, service: Resource<ServiceSpec>) {
        match service.status.previous.clone() {
            Some(previous) if service.status.deployment.is_none() && !previous.is_empty() => {
                self.begins(service, Target::Split(previous)).await;
            }
            _ => self.intends(Intent::Abort).await,
        }
    }

    /// The deployment and the service's lock in one transaction.
    async fn begins(&mut self, mut service: Resource<ServiceSpec>, target: Target) {
        if service.status.deployment.is_some() {
            return;
        }
        let id: DeploymentId = self.random.deployment_id();
        self.note(format!("{} deploys {target:?}", service.name));
        let spec = DeploymentSpec {
            deployment: id.clone(),
            service: service.spec.service.clone(),
            target,
            every: Millis::seconds(5),
            abort_if: "error_rate>1%".parse().into_iter().collect(),
            intent: Intent::Proceed,
            promoted: 0,
        };
        let mut deployment = self.real.make(id.to_string(), spec);
        deployment.status.from = service.status.split.clone();
        service.status.deployment = Some(id);
        let _ = self.real.write().create(&deployment).update(&service).commit().await;
    }

    async fn scales(&mut self, service: Resource<ServiceSpec>) {
        // Now and then their number is left to the load.
        match u32::try_from(self.random.below(5)) {
            Ok(0) | Err(_) => self.leaves_to_load(service).await,
            Ok(workers) => self.scales_to(service, workers).await,
        }
    }

    /// Both services deploy something to all their traffic, at the same moment.
    pub(crate) async fn user_deploys_both(&mut self) {
        for name in SERVICES {
            let index = self.random.below(VERSIONS);
            if let (Some(service), Ok(version), Ok(whole)) =
                (self.service(name).await, version(index), "100%".parse())
                && service.deleted_at.is_none()
            {
                self.begins(service, Target::Version { version, steps: vec![whole] }).await;
            }
        }
    }

    /// Some service gets another number of workers.
    pub(crate) async fn user_scales(&mut self) {
        let [one, other] = SERVICES;
        let name = if self.random.below(2) > 0 { other } else { one };
        if let Some(service) = self.service(name).await
            && service.deleted_at.is_none()
        {
            self.scales(service).await;
        }
    }

    /// Some service is served by as many as its load needs.
    pub(crate) async fn user_leaves_to_load(&mut self) {
        let [one, other] = SERVICES;
        let name = if self.random.below(2) > 0 { other } else { one };
        if let Some(service) = self.service(name).await
            && service.deleted_at.is_none()
            && service.spec.workers.is_some()
        {
            self.leaves_to_load(service).await;
        }
    }

    async fn leaves_to_load(&mut self, mut service: Resource<ServiceSpec>) {
        self.note(format!("{} is scaled by its load", service.name));
        service.spec.workers = None;
        service.generation += 1;
        let _ = self.real.write().update(&service).commit().await;
    }

    /// The service gets so many workers.
    pub async fn scales_to(&mut self, mut service: Resource<ServiceSpec>, workers: u32) {
        self.note(format!("{} is scaled to {workers}", service.name));
        service.spec.workers = Some(workers);
        service.generation += 1;
        let _ = self.real.write().update(&service).commit().await;
    }

    async fn removes(&mut self, mut service: Resource<ServiceSpec>) {
        if service.status.deployment.is_none() {
            self.note(format!("{} is removed", service.name));
            service.deleted_at = Some(self.now());
            let _ = self.real.write().update(&service).commit().await;
        }
    }

    pub(crate) async fn user_changes_mind(&mut self) {
        let intent = match self.random.below(3) {
            0 => Intent::Abort,
            1 => Intent::Pause,
            _ => Intent::Proceed,
        };
        self.intends(intent).await;
    }

    /// For every deployment that runs.
    pub(crate) async fn intends(&mut self, intent: Intent) {
        let Ok(all) = self.real.list::<DeploymentSpec>("").await else { return };
        for mut deployment in all.items {
            let settled = deployment.status.phase.is_final() || deployment.spec.intent == Intent::Abort;
            if !settled && deployment.spec.intent != intent {
                deployment.spec.intent = intent;
                deployment.generation += 1;
                self.note(format!("{intent:?} {}", deployment.spec.service));
                let _ = self.real.write().update(&deployment).commit().await;
            }
        }
    }
}

pub(crate) fn version(index: u64) -> Result<VersionName, Problem> {
    format!("{index}.0").parse()
}
