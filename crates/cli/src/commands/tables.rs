//! Lists of objects as tables.

use crate::{
    rollout::{goal, phase_tone, state_tone},
    table::{Cell, Table, toned},
    text::{service as short, since, size, version as short_version},
    ui::Tone,
};
use tutti_api::wire::{DomainQuota, Invitation, Preloaded, ServiceSummary};
use tutti_model::{
    Resource, Timestamp,
    claim::ClaimSpec,
    deployment::{DeploymentSpec, Intent},
    domain::{DomainSpec, Member, MemberState, Ownership},
    instance::InstanceSpec,
    node::{NodeSpec, NodeStatus, Readiness},
    route::RouteSpec,
    secret::SecretSpec,
    service::ServiceSpec,
    token::{Role, TokenSpec},
    user::UserSpec,
    version::VersionSpec,
};

fn text(value: impl ToString) -> Cell {
    value.to_string().into()
}

pub(crate) fn domains(domains: &[Resource<DomainSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["DOMAIN", "OWNERSHIP", "AGE"], "no domains");
    for domain in domains {
        table.row([
            text(&domain.name),
            ownership(domain.status.ownership),
            text(since(domain.created_at, now)),
        ]);
    }
    table
}

pub(crate) fn quota(quota: &DomainQuota) -> Table {
    let mut table = Table::new(&["LIMIT", "MOST", "USED"], "nothing is limited");
    let (limits, used) = (&quota.limits, &quota.used);
    let most = |limit: Option<String>| limit.unwrap_or_else(|| "none".to_owned());
    let rows = [
        ("instances", most(limits.instances.map(|it| it.to_string())), used.instances.to_string()),
        ("cpu", most(limits.cpu.map(|it| it.to_string())), used.cpu.to_string()),
        ("memory", most(limits.memory.map(|it| it.to_string())), used.memory.to_string()),
        ("versions", most(limits.versions.map(|it| it.to_string())), used.versions.to_string()),
    ];
    for (what, most, used) in rows {
        table.row([text(what), text(most), text(used)]);
    }
    table
}

pub(crate) fn secrets(secrets: &[Resource<SecretSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["SECRET", "SET", "BY", "AGE"], "no secrets");
    for secret in secrets {
        table.row([
            text(&secret.name),
            text(format!("{} ago", since(secret.status.changed_at, now))),
            text(&secret.status.changed_by),
            text(since(secret.created_at, now)),
        ]);
    }
    table
}

pub(crate) fn members(members: &[Member]) -> Table {
    let mut table = Table::new(&["USER", "ROLE", "STATE"], "no members: admins run it");
    for member in members {
        let state = match member.state {
            MemberState::Pending => toned("invited", Tone::Busy),
            MemberState::Confirmed(_) => toned("member", Tone::Good),
        };
        table.row([text(&member.user), text(member.role), state]);
    }
    table
}

pub(crate) fn invitations(invitations: &[Invitation]) -> Table {
    let mut table = Table::new(&["DOMAIN", "ROLE"], "no invitations");
    for invitation in invitations {
        table.row([text(&invitation.domain), text(invitation.role)]);
    }
    table
}

pub(crate) fn claims(claims: &[Resource<ClaimSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["DOMAIN", "FOR", "EXPIRES", "RECORD", "TEXT"], "no claims");
    for claim in claims {
        let expires = match claim.spec.expires_at {
            at if at <= now => toned("expired", Tone::Bad),
            at => text(format!("in {}", since(now, at))),
        };
        let of = claim.spec.alias_of.as_ref();
        table.row([
            text(&claim.spec.domain),
            text(of.map_or_else(|| "domain".to_owned(), |of| format!("alias of {of}"))),
            expires,
            text(&claim.spec.record),
            text(&claim.spec.text),
        ]);
    }
    table
}

pub(crate) fn users(users: &[Resource<UserSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["USER", "AGE"], "no users");
    for user in users {
        table.row([text(&user.name), text(since(user.created_at, now))]);
    }
    table
}

fn ownership(ownership: Ownership) -> Cell {
    match ownership {
        Ownership::Unverified => toned("unverified", Tone::Bad),
        Ownership::Vouched => toned("vouched", Tone::Good),
        Ownership::Verified => toned("verified", Tone::Good),
    }
}

pub(crate) fn services(services: &[Resource<ServiceSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["SERVICE", "SERVES", "WORKERS", "DEPLOYMENT", "AGE"], "no services");
    for service in services {
        let upstreams: Vec<String> = service.spec.upstreams.iter().map(ToString::to_string).collect();
        let serves =
            if upstreams.is_empty() { service.status.split.to_string() } else { upstreams.join(", ") };
        table.row([
            text(short(&service.spec.service)),
            text(serves),
            text(service.spec.workers.map_or_else(|| "auto".to_owned(), |workers| workers.to_string())),
            text(service.status.deployment.as_ref().map_or_else(String::new, ToString::to_string)),
            text(since(service.created_at, now)),
        ]);
    }
    table
}

/// What each node makes of a version that it was asked to hold.
pub(crate) fn preloaded(said: &Preloaded) -> Table {
    let mut table = Table::new(&["NODE", "HOLDS IT", "WHY"], "no node was asked").yielding("WHY");
    for node in &said.nodes {
        let (holds, why) = match &node.readiness {
            Some(Readiness::Ready { took }) => (toned("ready", Tone::Good), format!("prepared in {took}")),
            Some(Readiness::Delayed { reason }) => (toned("delayed", Tone::Busy), reason.clone()),
            Some(Readiness::Unrunnable { reason }) => (toned("cannot run", Tone::Bad), reason.clone()),
            None => (toned("asked", Tone::Busy), "it has not said anything yet".to_owned()),
        };
        table.row([text(&node.node), holds, text(why)]);
    }
    table
}

/// What serves each service.
pub(crate) fn services_serving(services: &[ServiceSummary]) -> Table {
    let mut table = Table::new(
        &["SERVICE", "STATE", "SERVES", "READY", "HOST"],
        "no services yet: tutti push PATH NAME@VERSION",
    )
    .yielding("HOST");
    for service in services {
        let (ready, wanted) = service.versions.iter().fold((0u32, 0u32), |(ready, wanted), v| {
            (ready.saturating_add(v.ready), wanted.saturating_add(v.wanted))
        });
        let (serves, ready) = match service.upstreams.as_slice() {
            [] => (service.serving.to_string(), format!("{ready}/{wanted}")),
            [upstream] => (upstream.clone(), String::new()),
            upstreams => (format!("{} addresses", upstreams.len()), String::new()),
        };
        let host = match (best_host(&service.hosts), service.hosts.len()) {
            (None, _) => String::new(),
            (Some(host), 1) => host.to_owned(),
            (Some(host), hosts) => format!("{host} +{}", hosts - 1),
        };
        table.row([
            text(short(&service.service)),
            state(&service.state),
            text(serves),
            text(ready),
            text(host),
        ]);
    }
    table
}

/// The host that a person would try first: a whole one before a path of one, and no `*`.
fn best_host(hosts: &[String]) -> Option<&str> {
    hosts.iter().map(String::as_str).min_by_key(|host| (host.starts_with('*'), host.contains('/')))
}

fn state(state: &str) -> Cell {
    let tone = match state {
        "serving" => Tone::Good,
        "deploying" | "deleting" => Tone::Busy,
        "degraded" | "failed" => Tone::Bad,
        _ => Tone::Dim,
    };
    toned(state, tone)
}

/// What each version of a service does now.
pub(crate) fn versions_serving(summary: &ServiceSummary) -> Table {
    let mut table =
        Table::new(&["VERSION", "SHARE", "READY", "STARTING", "STANDBY", "DRAINING"], "no version serves it");
    // A version may have a share that no zone has spoken of yet.
    let silent =
        summary.serving.iter().filter(|(version, _)| summary.versions.iter().all(|v| v.version != **version));
    for (version, share) in silent {
        table.row([text(version), text(share), "".into(), "".into(), "".into(), "".into()]);
    }
    for report in &summary.versions {
        let ready = format!("{}/{}", report.ready, report.wanted);
        let tone = if report.ready >= report.wanted { Tone::Good } else { Tone::Busy };
        table.row([
            text(&report.version),
            text(summary.serving.share(&report.version)),
            toned(ready, tone),
            text(report.starting),
            text(report.standby),
            text(report.draining),
        ]);
    }
    table
}

pub(crate) fn versions(versions: &[Resource<VersionSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["VERSION", "ISOLATE", "SIZE", "ARTIFACT", "AGE"], "no versions");
    for version in versions {
        table.row([
            text(short_version(&version.spec.version)),
            text(version.spec.isolate),
            text(size(version.spec.size)),
            text(version.spec.artifact.short()),
            text(since(version.created_at, now)),
        ]);
    }
    table
}

pub(crate) fn deployments(deployments: &[Resource<DeploymentSpec>], now: Timestamp) -> Table {
    let mut table =
        Table::new(&["DEPLOYMENT", "SERVICE", "TARGET", "PHASE", "STEP", "AGE"], "no deployments");
    for deployment in deployments {
        let (spec, status) = (&deployment.spec, &deployment.status);
        let paused = spec.intent == Intent::Pause && !status.phase.is_final();
        let phase = if paused { "paused" } else { status.phase.as_str() };
        table.row([
            text(&deployment.name),
            text(short(&spec.service)),
            text(goal(spec, spec.target.steps().saturating_sub(1))),
            toned(phase, phase_tone(status.phase)),
            text(format!("{}/{}", status.step + 1, spec.target.steps())),
            text(since(deployment.created_at, now)),
        ]);
    }
    table
}

pub(crate) fn instances(instances: &[Resource<InstanceSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["INSTANCE", "VERSION", "NODE", "STATE", "RESTARTS", "AGE"], "no instances");
    for instance in instances {
        table.row([
            text(&instance.name),
            text(short_version(&instance.spec.version)),
            text(&instance.spec.node),
            toned(doing(instance), instance_tone(instance)),
            text(instance.status.restarts),
            text(since(instance.created_at, now)),
        ]);
    }
    table
}

/// The state of an instance in one word: a ready one that takes no requests says so, and one of which nothing is heard.
pub(super) fn doing(instance: &Resource<InstanceSpec>) -> &'static str {
    use tutti_model::instance::{Goal, InstanceState};
    match (instance.status.state, instance.spec.goal) {
        _ if instance.silent_since().is_some() => "silent",
        (InstanceState::Ready, Goal::Standby { .. }) => "standby",
        (state, _) => state.as_str(),
    }
}

/// How it stands with an instance: one of which nothing is heard may be gone.
fn instance_tone(instance: &Resource<InstanceSpec>) -> Tone {
    if instance.silent_since().is_some() { Tone::Bad } else { state_tone(instance.status.state) }
}

pub(crate) fn routes(routes: &[Resource<RouteSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["ROUTE", "SERVICE", "AGE"], "no routes");
    for route in routes {
        table.row([text(&route.name), text(short(&route.spec.service)), text(since(route.created_at, now))]);
    }
    table
}

pub(super) fn node_state(node: &Resource<NodeSpec>, now: Timestamp) -> Cell {
    if let Some(silent) = node.silent_since() {
        return toned(format!("silent {}", since(silent, now)), Tone::Bad);
    }
    match (node.status.ready, node.spec.cordoned) {
        (true, false) => toned("ready", Tone::Good),
        (true, true) if node.spec.draining => toned("draining", Tone::Busy),
        (true, true) => toned("cordoned", Tone::Busy),
        (false, _) => toned("starting", Tone::Busy),
    }
}

/// Where a node is reached; the one in control's process is not, over any address.
pub(super) fn address(status: &NodeStatus) -> String {
    status.address.as_ref().map_or_else(|| "with control".to_owned(), ToString::to_string)
}

pub(crate) fn tokens(tokens: &[Resource<TokenSpec>], now: Timestamp) -> Table {
    let mut table = Table::new(&["TOKEN", "ROLE", "DOMAIN", "EXPIRES", "AGE"], "no tokens");
    for token in tokens {
        let expires = match token.spec.expires_at {
            None => "never".into(),
            Some(at) if at <= now => toned("expired", Tone::Bad),
            Some(at) => text(format!("in {}", since(now, at))),
        };
        table.row([
            text(&token.name),
            text(match (&token.spec.user, token.spec.role) {
                (Some(_), Role::Owner) => "its user's".to_owned(),
                (Some(_), role) => format!("its user's, at most {role}"),
                (None, role) => role.to_string(),
            }),
            text(token.spec.domain.as_ref().map_or_else(|| "every".to_owned(), ToString::to_string)),
            expires,
            text(since(token.created_at, now)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests;
