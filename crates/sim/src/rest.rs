//! Liveness: left in peace, the world comes to rest, on what was asked and with nothing left over.

use crate::{World, user::SERVICES};
use tutti_model::{
    Millis, Problem, Split,
    assignment::AssignmentSpec,
    deployment::{DeploymentSpec, Intent},
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec, InstanceState},
    report::{ReportSpec, report_name},
    service::ServiceSpec,
    table::TableSpec,
    version::VersionSpec,
};

/// Seconds in which everything must have come to rest: far more than any timer in the world.
const PATIENCE: usize = 400;

impl World {
    /// No more faults, and every part does its work, until each service is at rest: its deployment ended, its weights
    /// served by as many ready instances as they need, and nothing left over.
    ///
    /// # Errors
    /// The state in which it got stuck.
    pub async fn comes_to_rest(&mut self) -> Result<(), String> {
        self.set_faults(0);
        self.everyone_is_well();
        for second in 0..PATIENCE {
            // Whoever paused lets it go on; and whoever finds no room for it, because two deployments hold what the other
            // needs, gives it up.
            let gives_up = second >= PATIENCE / 2;
            self.intends(if gives_up { Intent::Abort } else { Intent::Proceed }).await;
            self.second().await;
            let mut at_rest = true;
            for name in SERVICES {
                at_rest &= self.is_at_rest(name).await.map_err(|problem| problem.to_string())?;
            }
            if at_rest {
                return Ok(());
            }
        }
        Err(self.state().await)
    }

    /// One second in which every part does its work.
    async fn second(&mut self) {
        for _ in 0..4 {
            self.agents_act().await;
            self.turns().await;
        }
        for at in 0..self.ingress_count() {
            self.ingress_reports(at, true).await;
            self.turns().await;
        }
        self.time_passes(Millis::seconds(1)).await;
        self.turns().await;
        self.check();
    }

    /// Whether the service's deployment ends within so many seconds in which every part does its work.
    pub async fn is_deployed_within(&mut self, name: &str, seconds: usize) -> bool {
        for _ in 0..seconds {
            self.second().await;
            let service = self.service(name).await;
            if service.is_some_and(|service| service.status.deployment.is_none()) {
                return true;
            }
        }
        false
    }

    async fn is_at_rest(&self, name: &str) -> Result<bool, Problem> {
        let table = self.real.find::<TableSpec>(name).await?;
        let mut instances = self.real.list::<InstanceSpec>("").await?.items;
        instances.retain(|instance| instance.spec.version.service.to_string() == name);
        let mut deployments = self.real.list::<DeploymentSpec>("").await?.items;
        deployments.retain(|deployment| deployment.spec.service.to_string() == name);
        let Some(service) = self.real.find::<ServiceSpec>(name).await? else {
            let versions = self.real.list::<VersionSpec>(&format!("{name}@")).await?.items;
            let assignment = self.real.find::<AssignmentSpec>(name).await?;
            let report = match name.parse() {
                Ok(service) => self.real.find::<ReportSpec>(&report_name(self.real.zone(), &service)).await?,
                Err(_) => None,
            };
            return Ok(table.is_none()
                && assignment.is_none()
                && report.is_none()
                && instances.is_empty()
                && deployments.is_empty()
                && versions.is_empty());
        };
        let weights = table.map(|table| {
            let backends =
                table.spec.versions().iter().map(|backend| (backend.version.clone(), backend.weight));
            Split::new(backends).unwrap_or_default()
        });
        let workers = service.spec.workers.unwrap_or(1);
        let wanted: u32 = service.status.split.iter().map(|(_, share)| share.workers(workers)).sum();
        let serves = |goal, state: InstanceState| goal == Goal::Serve && state.answers();
        let serving = instances.iter().filter(|i| serves(i.spec.goal, i.status.state)).count();
        Ok(service.deleted_at.is_none()
            && deployments.iter().all(|deployment| deployment.status.phase.is_final())
            && weights.unwrap_or_default() == service.status.split
            && u32::try_from(serving) == Ok(wanted)
            && instances.len() == serving
            && self.is_held_ready(name).await?)
    }

    /// Whether the version that the service has held ready is, on every node that is to hold it, and whoever pushed it
    /// can read that.
    async fn is_held_ready(&self, name: &str) -> Result<bool, Problem> {
        let Some(assignment) = self.real.find::<AssignmentSpec>(name).await? else { return Ok(true) };
        let Some(version) = assignment.spec.preload else { return Ok(true) };
        let pushed = self.real.get::<VersionSpec>(&version.version.to_string()).await?;
        Ok(pushed
            .status
            .preparation
            .is_some_and(|told| told.nodes > 0 && told.ready + told.failed == told.nodes))
    }

    /// Everything that is, for people.
    async fn state(&self) -> String {
        let mut lines = Vec::new();
        for service in self.real.list::<ServiceSpec>("").await.map(|all| all.items).unwrap_or_default() {
            lines.push(format!(
                "{} round {} is to serve {}, workers {:?}, removed {:?}",
                service.name,
                service.status.round,
                service.status.split,
                service.spec.workers,
                service.deleted_at
            ));
        }
        for open in self.real.list::<DeploymentSpec>("").await.map(|all| all.items).unwrap_or_default() {
            if !open.status.phase.is_final() {
                let (phase, message) = (open.status.phase, &open.status.message);
                lines.push(format!(
                    "{} of {} {:?} {phase}: {message}",
                    open.name, open.spec.service, open.spec.intent
                ));
            }
        }
        for report in self.real.list::<ReportSpec>("").await.map(|all| all.items).unwrap_or_default() {
            let report = report.spec;
            lines.push(format!(
                "{} report of round {}: {:?}, {:?}",
                report.service, report.round, report.progress, report.reasons
            ));
        }
        for version in self.real.list::<VersionSpec>("").await.map(|all| all.items).unwrap_or_default() {
            lines.push(format!("{} is held ready: {:?}", version.name, version.status.preparation));
        }
        for table in self.real.list::<TableSpec>("").await.map(|all| all.items).unwrap_or_default() {
            let weights: Vec<_> = table
                .spec
                .versions()
                .iter()
                .map(|backend| format!("{} {}", backend.version, backend.weight))
                .collect();
            lines.push(format!("{} table at {}: {weights:?}", table.name, table.revision));
        }
        for i in self.real.list::<InstanceSpec>("").await.map(|all| all.items).unwrap_or_default() {
            lines.push(format!(
                "{} {} on {} {:?} {}",
                i.name, i.spec.version, i.spec.node, i.spec.goal, i.status.state
            ));
        }
        for ingress in self.real.list::<IngressSpec>("").await.map(|all| all.items).unwrap_or_default() {
            lines.push(format!("{} has reached {}", ingress.name, ingress.status.reached));
        }
        lines.join("\n")
    }
}
