//! Is all well? In one word and one sentence for each service.

use super::{
    call::{Answer, Call},
    facts::{ServiceFacts, ZoneFacts},
    lists::Scope,
    names, reply,
};
use crate::Objects;
use tutti_api::wire::{ClusterStatus, ServiceSummary, ZoneSummary};
use tutti_model::{
    Millis, Problem, Resource, Split, Timestamp,
    cluster::MemberSpec,
    control::{LEADER, LeaderSpec},
    deployment::{DeploymentSpec, Intent, Phase},
    limits,
    member::MachineRole,
    pool::{MachineState, PoolSpec},
    report::Progress,
    service::ServiceSpec,
    table::{Backend, TableSpec},
};

/// What is left of a certificate when its member is named: a quarter of its life, which a member that lives does not let
/// come.
const CERTIFICATE_WARNING: Millis = Millis(tutti_pki::LEAF_LIFE.0 / 4);
/// Most members that are named for their certificates; of further ones the number is told.
const CERTIFICATES_NAMED: usize = 8;
/// How long after its start a control does not miss a leader: twice what the lease of one that is gone keeps others
/// waiting.
const ELECTION: Millis = Millis::seconds(10);

/// `GET /v1/status`
pub(super) async fn status(call: Call) -> Answer {
    let objects = &call.app.objects;
    let revision = objects.store().revision().await.map_err(Problem::from)?;
    let scope = Scope::seen(&call.caller);
    let services = ServiceFacts::read_all(objects, &scope).await?;
    let services: Vec<ServiceSummary> = services.iter().map(summarize).collect();
    let mut problems = Vec::new();
    let mut zones = Vec::new();
    // Nodes and ingresses are the platform's affair.
    if call.caller.is_admin() {
        let zone = ZoneFacts::read(objects).await?;
        let now = objects.clock().now();
        let leader = objects.find::<LeaderSpec>(LEADER).await?;
        let machines = Machines::read(objects, now).await?;
        problems.extend(zone_problems(&zone));
        if leader.is_none() && now.since(call.app.started) > ELECTION {
            problems.push(
                "no control leads: what runs goes on, and nothing new is done; look at the logs of the controls"
                    .to_owned(),
            );
        }
        problems.extend(machines.problems());
        problems.extend(pool_problems(objects).await?);
        problems.extend((call.app.troubles)());
        zones.push(ZoneSummary {
            zone: objects.zone().to_string(),
            nodes_ready: zone.ready(),
            nodes: zone.nodes.len(),
            leader: leader.map(|leader| leader.spec.control.to_string()),
            controls: machines.controls,
            ingresses: zone.ingresses.len(),
            http: zone.ingresses.iter().map(|ingress| ingress.spec.http.clone()).collect(),
        });
    }
    let degraded = services.iter().filter(|service| matches!(service.state.as_str(), "degraded" | "failed"));
    problems.extend(degraded.map(|service| {
        format!(
            "service {0}: {1}; see tutti explain {0}",
            service.service,
            service.reason.as_deref().unwrap_or("is not as it should be")
        )
    }));
    Ok(reply::ok(&ClusterStatus { release: call.app.release.clone(), revision, zones, services, problems }))
}

/// `GET /v1/services/{name}/summary`
pub(super) async fn summary(call: Call) -> Answer {
    let name = call.service()?;
    match ServiceFacts::read(&call.app.objects, name).await? {
        Some(facts) => Ok(reply::ok(&summarize(&facts))),
        None => Err(names::missing::<ServiceSpec>(&call.app, &call.caller, &name.to_string()).await.into()),
    }
}

/// Machines of pools that cannot be made or removed.
async fn pool_problems(objects: &Objects) -> Result<Vec<String>, Problem> {
    let pools = objects.list::<PoolSpec>("").await?.items;
    let of_pool = |pool: &Resource<PoolSpec>| {
        let failing = pool.status.machines.iter().filter_map(|machine| {
            let failure = machine.failure.as_ref()?;
            Some((machine, failure))
        });
        let count = failing.clone().count();
        let (machine, failure) = failing.max_by_key(|(_, failure)| failure.attempts)?;
        let more = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
        let what = if machine.state == MachineState::Removing { "removed" } else { "made" };
        Some(format!(
            "pool {0}: machine {1} is not {what} after {2} attempts{more}: {3}; see tutti pool show {0}",
            pool.name, machine.name, failure.attempts, failure.reason
        ))
    };
    Ok(pools.iter().filter_map(of_pool).collect())
}

fn zone_problems(zone: &ZoneFacts) -> Vec<String> {
    let mut problems = Vec::new();
    if zone.nodes.is_empty() {
        problems.push("no node has joined: nothing can be placed".to_owned());
    }
    for node in &zone.nodes {
        if node.silent_since().is_some() {
            problems.push(format!("node {0} is silent; see tutti explain node/{0}", node.name));
        } else if !node.status.ready {
            problems.push(format!("node {} is not ready", node.name));
        }
    }
    if zone.ingresses.is_empty() {
        problems.push("no ingress lives: no request is answered".to_owned());
    }
    problems
}

/// What is told of the members, taken up page by page.
#[derive(Debug, Default)]
struct Machines {
    /// Those that run control.
    controls: usize,
    /// What is wrong with certificates; at most [`CERTIFICATES_NAMED`].
    certificates: Vec<String>,
    /// How many more are wrong.
    more: usize,
}

impl Machines {
    async fn read(objects: &Objects, now: Timestamp) -> Result<Machines, Problem> {
        let (mut machines, mut after) = (Machines::default(), None::<String>);
        loop {
            let page = objects.page::<MemberSpec>("", after.as_deref(), Some(limits::PAGE_SIZE)).await?;
            page.items.iter().for_each(|member| machines.take(member, now));
            after = page.items.last().map(|member| member.name.clone()).or(after);
            if !page.more {
                return Ok(machines);
            }
        }
    }

    fn take(&mut self, member: &Resource<MemberSpec>, now: Timestamp) {
        self.controls += usize::from(member.spec.roles.contains(&MachineRole::Server));
        match certificate_problem(member, now) {
            Some(problem) if self.certificates.len() < CERTIFICATES_NAMED => self.certificates.push(problem),
            Some(_) => self.more += 1,
            None => {}
        }
    }

    fn problems(&self) -> impl Iterator<Item = String> {
        let more = (self.more > 0)
            .then(|| format!("the certificates of {} more members expire; see tutti node list", self.more));
        self.certificates.iter().cloned().chain(more)
    }
}

/// Whether a member's certificate ends soon, or has ended: each renews its own long before, while it reaches a control.
/// One that made its own certificate, as the first control of a cluster does, is known by its key alone.
fn certificate_problem(member: &Resource<MemberSpec>, now: Timestamp) -> Option<String> {
    let until = member.status.certified_until;
    if until == Timestamp(0) || until > now.plus(CERTIFICATE_WARNING) {
        return None;
    }
    let ends = match until.since(now) {
        Millis(0) => "has expired".to_owned(),
        left => format!("expires within {} h", left.0.div_ceil(3_600_000)),
    };
    Some(format!(
        "the certificate of member {0} {ends}, and it has not asked for another; look at its log, or remove it with \
         tutti node remove {0}",
        member.name
    ))
}

/// The weights that a table holds.
pub(super) fn serving(table: Option<&TableSpec>) -> Split {
    let weights = table.into_iter().flat_map(TableSpec::versions);
    Split::new(weights.map(|version| (version.version.clone(), version.weight))).unwrap_or_default()
}

/// One service in short.
pub(super) fn summarize(facts: &ServiceFacts) -> ServiceSummary {
    let service = &facts.service;
    let table = facts.table.as_ref().map(|table| &table.spec);
    let hosts = match table {
        Some(table) => table.matches.iter().map(ToString::to_string).collect(),
        None => facts.routes.iter().map(|route| route.name.clone()).collect(),
    };
    let (state, reason) = state(facts);
    ServiceSummary {
        service: service.spec.service.clone(),
        hosts,
        split: service.status.split.clone(),
        serving: serving(table),
        versions: facts.report.as_ref().map(|report| report.spec.versions.clone()).unwrap_or_default(),
        upstreams: service.spec.upstreams.iter().map(ToString::to_string).collect(),
        deployment: service.status.deployment.as_ref().map(ToString::to_string),
        state: state.to_owned(),
        reason,
    }
}

/// How the only thing that was to serve ended.
fn missed_says(missed: &Resource<DeploymentSpec>) -> String {
    let status = &missed.status;
    let why = status.failure.as_ref().map_or(status.message.as_str(), |failure| failure.reason.as_str());
    format!("deployment {} {}: {why}", missed.name, status.phase)
}

/// A service in one word, and why it is not as it should be.
fn state(facts: &ServiceFacts) -> (&'static str, Option<String>) {
    let (service, table) = (&facts.service, facts.table.as_ref().map(|table| &table.spec));
    if service.deleted_at.is_some() {
        return ("deleting", Some("is being deleted".to_owned()));
    }
    if service.status.deployment.is_some() {
        let message = facts.deployment.as_ref().map(|deployment| deployment.status.message.clone());
        let paused =
            facts.deployment.as_ref().is_some_and(|deployment| deployment.spec.intent == Intent::Pause);
        return ("deploying", message.or_else(|| paused.then(|| "paused".to_owned())));
    }
    if !service.spec.upstreams.is_empty() {
        return match table.map(|table| &table.backend) {
            Some(Backend::Upstreams(_)) => ("serving", None),
            _ => ("degraded", Some("its addresses have not reached the ingress yet".to_owned())),
        };
    }
    if service.status.split.is_empty() {
        return match &facts.missed {
            Some(missed) if missed.status.phase == Phase::Failed => ("failed", Some(missed_says(missed))),
            Some(missed) => ("idle", Some(missed_says(missed))),
            None => ("idle", Some("nothing is deployed".to_owned())),
        };
    }
    if let Some(Backend::None { reason }) = table.map(|table| &table.backend) {
        return ("degraded", Some(reason.clone()));
    }
    let report = facts.report.as_ref().map(|report| &report.spec);
    if let Some(Progress::Failed { failure }) = report.map(|report| &report.progress) {
        return ("degraded", Some(failure.reason.clone()));
    }
    let serving = serving(table);
    if serving != service.status.split {
        return ("degraded", Some(format!("serves {serving} instead of {}", service.status.split)));
    }
    let missing =
        report.into_iter().flat_map(|report| &report.versions).find(|version| version.ready < version.wanted);
    match missing {
        Some(version) => {
            let text =
                format!("{} of {} instances of {} are ready", version.ready, version.wanted, version.version);
            ("degraded", Some(text))
        }
        None => ("serving", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_base::sha256;
    use tutti_model::cluster::MemberStatus;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn member(name: &str, certified_until: Timestamp) -> Resource<MemberSpec> {
        let roles = [MachineRole::Server].into();
        let spec = MemberSpec { roles, key: sha256::digest(b"key"), api: None, joined_by: None };
        let mut member = Resource::new(name, tutti_base::Random::seeded(1).uid(), NOW, spec);
        member.status = MemberStatus { certified_until, ..MemberStatus::default() };
        member
    }

    #[test]
    fn a_certificate_that_is_not_renewed_is_told_before_it_ends() {
        let told = |until: Timestamp| certificate_problem(&member("n1", until), NOW);
        assert_eq!(told(NOW.plus(CERTIFICATE_WARNING).plus(Millis(1))), None);
        assert!(told(NOW.plus(CERTIFICATE_WARNING)).unwrap().contains("member n1 expires within 6 h"));
        assert!(told(NOW.plus(Millis(1))).unwrap().contains("expires within 1 h"));
        assert!(told(NOW).unwrap().contains("has expired"));
        assert_eq!(told(Timestamp(0)), None, "a control's own, which nobody handed over");
    }

    #[test]
    fn of_many_certificates_some_are_named_and_the_others_counted() {
        let mut machines = Machines::default();
        (0..CERTIFICATES_NAMED + 3).for_each(|n| machines.take(&member(&format!("c{n}"), NOW), NOW));
        assert_eq!(machines.controls, CERTIFICATES_NAMED + 3);
        let problems: Vec<String> = machines.problems().collect();
        assert_eq!(problems.len(), CERTIFICATES_NAMED + 1);
        assert!(problems.last().unwrap().contains("of 3 more members"), "{problems:?}");
    }
}
