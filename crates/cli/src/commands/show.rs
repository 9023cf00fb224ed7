//! One object in full, for people.

use super::{Session, tables};
use crate::{
    exit::Failed,
    rollout::{self, goal},
    table::facts,
    text::{self, harmless, moment, since, size},
    ui::Ui,
};
use tutti_model::{
    Resource, Share, Timestamp,
    deployment::{DeploymentSpec, Intent, Target},
    domain::{DomainSpec, Ownership},
    instance::{Goal, InstanceSpec},
    manifest::{Manifest, Probe},
    node::NodeSpec,
    resource::Object,
    route::RouteSpec,
    secret::SecretSpec,
    version::{Preparation, VersionSpec},
};

/// Gives one object: as a person reads it, or as it is.
pub(super) async fn show<S: Object>(
    session: &Session<'_>,
    name: &str,
    people: impl FnOnce(&Resource<S>, &Ui) -> String,
) -> Result<(), Failed> {
    let object = session.client.get::<S>(name).await?;
    session.ui.result(&object, || people(&object, session.ui))
}

/// Columns before the text of a line of history: when, and the phase.
const HISTORY_INDENT: usize = 38;

/// When it was, and how long ago.
fn when(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({} ago)", moment(at), since(at, now))
}

pub(super) fn domain(domain: &Resource<DomainSpec>, ui: &Ui, now: Timestamp) -> String {
    let aliases: Vec<String> = domain.spec.aliases.iter().map(ToString::to_string).collect();
    let members: Vec<String> = domain
        .spec
        .members
        .iter()
        .map(|member| match member.is_confirmed() {
            true => format!("{} ({})", member.user, member.role),
            false => format!("{} (invited as {})", member.user, member.role),
        })
        .collect();
    let ownership = match domain.status.ownership {
        Ownership::Unverified => "unverified",
        Ownership::Vouched => "vouched",
        Ownership::Verified => "verified",
    };
    facts(
        ui,
        &[
            ("domain", domain.name.clone()),
            ("aliases", aliases.join("\n")),
            ("members", members.join("\n")),
            ("ownership", ownership.to_owned()),
            ("created", when(domain.created_at, now)),
        ],
    )
}

pub(super) fn route(route: &Resource<RouteSpec>, ui: &Ui, now: Timestamp) -> String {
    facts(
        ui,
        &[
            ("route", route.name.clone()),
            ("service", route.spec.service.to_string()),
            ("created", when(route.created_at, now)),
        ],
    )
}

pub(super) fn secret(secret: &Resource<SecretSpec>, ui: &Ui, now: Timestamp) -> String {
    let times = match secret.generation {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    facts(
        ui,
        &[
            ("secret", secret.name.clone()),
            ("set", times),
            ("last set", when(secret.status.changed_at, now)),
            ("by", secret.status.changed_by.clone()),
            ("created", when(secret.created_at, now)),
        ],
    )
}

pub(super) fn version(version: &Resource<VersionSpec>, ui: &Ui, now: Timestamp) -> String {
    let spec = &version.spec;
    let mut rows = vec![
        ("version", version.name.clone()),
        ("artifact", spec.artifact.to_string()),
        ("size", size(spec.size)),
        ("isolate", spec.isolate.to_string()),
        ("created", when(version.created_at, now)),
        ("held ready", version.status.preparation.as_ref().map_or_else(String::new, held_ready)),
    ];
    rows.extend(manifest(&spec.manifest));
    facts(ui, &rows)
}

fn held_ready(preparation: &Preparation) -> String {
    let mut lines = vec![format!("on {} of {} nodes", preparation.ready, preparation.nodes)];
    lines.extend(preparation.reasons.iter().map(|reason| harmless(reason)));
    lines.join("\n")
}

fn manifest(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let health = match &manifest.health.probe {
        Probe::Tcp => "its port accepts a connection".to_owned(),
        Probe::Http(path) => format!("GET {path} answers 200 to 399"),
        Probe::Grpc(service) if service.is_empty() => "grpc.health.v1 says that the server serves".to_owned(),
        Probe::Grpc(service) => format!("grpc.health.v1 says that {service} serves"),
    };
    // Values may be secrets; whoever needs them asks for JSON.
    let variables: Vec<&str> = manifest.env.keys().map(String::as_str).collect();
    let secrets: Vec<String> =
        manifest.secrets.iter().map(|(variable, name)| format!("{variable} = {name}")).collect();
    vec![
        ("run", manifest.run.join(" ")),
        ("port", manifest.port.map_or_else(String::new, |port| port.to_string())),
        ("variables", variables.join(", ")),
        ("secrets", secrets.join(", ")),
        ("memory", manifest.memory.to_string()),
        ("cpu", manifest.cpu.to_string()),
        ("concurrency", manifest.concurrency.to_string()),
        ("ready when", health),
        ("workers", format!("{} to {}", manifest.min, manifest.max)),
        ("standby", manifest.standby.to_string()),
        ("drain", manifest.drain.to_string()),
        ("timeout", manifest.timeout.to_string()),
    ]
}

pub(super) fn deployment(deployment: &Resource<DeploymentSpec>, ui: &Ui, now: Timestamp) -> String {
    let (spec, status) = (&deployment.spec, &deployment.status);
    let steps = match &spec.target {
        Target::Version { steps, .. } if steps.len() > 1 => {
            let steps: Vec<String> = steps.iter().map(Share::to_string).collect();
            format!(
                "{}, each {}; now at {} of {}",
                steps.join(", "),
                spec.every,
                status.step + 1,
                steps.len()
            )
        }
        Target::Version { .. } | Target::Split(_) => String::new(),
    };
    let conditions: Vec<String> = spec.abort_if.iter().map(ToString::to_string).collect();
    let asked = match (spec.intent, status.phase.is_final()) {
        (Intent::Pause, false) => "paused".to_owned(),
        (Intent::Abort, false) => "abort".to_owned(),
        _ => String::new(),
    };
    let mut out = facts(
        ui,
        &[
            ("deployment", deployment.name.clone()),
            ("service", text::service(&spec.service)),
            ("target", goal(spec, spec.target.steps().saturating_sub(1))),
            ("before", text::split(&status.from)),
            ("steps", steps),
            ("aborts if", conditions.join(" or ")),
            ("asked for", asked),
            ("phase", status.phase.to_string()),
            ("now", if status.failure.is_none() { harmless(&status.message) } else { String::new() }),
            ("created", when(deployment.created_at, now)),
            ("finished", status.finished_at.map_or_else(String::new, |at| when(at, now))),
        ],
    );
    if let Some((sentence, lines)) = rollout::failure(deployment) {
        out.push_str(&format!("\n{}\n", ui.wrap(&sentence, 0)));
        out.extend(lines.iter().map(|line| format!("{line}\n")));
    }
    out.push('\n');
    for entry in &status.history {
        let [at, phase, text] = rollout::entry_in_full(entry, deployment);
        out.push_str(&format!("{at}  {phase:<10}  {}\n", ui.wrap(&text, HISTORY_INDENT)));
    }
    out
}

pub(super) fn instance(instance: &Resource<InstanceSpec>, ui: &Ui, now: Timestamp) -> String {
    let (spec, status) = (&instance.spec, &instance.status);
    let goal = match spec.goal {
        Goal::Serve => "serve".to_owned(),
        Goal::Standby { until } if until > now => format!("stand by for another {}", since(now, until)),
        Goal::Standby { .. } => "stand by".to_owned(),
        Goal::Drain => "finish what it serves, then stop".to_owned(),
        Goal::Stop => "stop".to_owned(),
    };
    let lines: Vec<String> = status.last_lines.iter().map(|line| harmless(line)).collect();
    facts(
        ui,
        &[
            ("instance", instance.name.clone()),
            ("version", spec.version.to_string()),
            ("node", spec.node.to_string()),
            ("isolate", spec.isolate.to_string()),
            ("goal", goal),
            ("state", instance_state(instance, now)),
            ("reason", status.reason.as_deref().map(harmless).unwrap_or_default()),
            ("restarts", status.restarts.to_string()),
            ("weaker", status.weaker.join("\n")),
            ("created", when(instance.created_at, now)),
            ("last lines", lines.join("\n")),
        ],
    )
}

/// The state, and for how long; what was last reported by an agent that is silent now is told as that.
fn instance_state(instance: &Resource<InstanceSpec>, now: Timestamp) -> String {
    let status = &instance.status;
    match instance.silent_since() {
        Some(silent) => {
            format!("{} when its node was last heard, {} ago", status.state.as_str(), since(silent, now))
        }
        None => format!("{} for {}", tables::doing(instance), since(status.since, now)),
    }
}

/// A node's labels, its agent's and its operators', as they are written.
pub(super) fn labels(node: &Resource<NodeSpec>) -> String {
    let labels = node.labels();
    let written = labels.iter().map(|(key, value)| match value.as_str() {
        "" => key.to_string(),
        value => format!("{key}={value}"),
    });
    written.collect::<Vec<_>>().join(", ")
}

/// A node's taints, as they are written.
pub(super) fn taints(node: &Resource<NodeSpec>) -> String {
    node.spec.taints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn node(node: &Resource<NodeSpec>, ui: &Ui, now: Timestamp) -> String {
    let status = &node.status;
    let state = match (node.silent_since(), status.ready, node.spec.cordoned) {
        (Some(silent), ..) => format!("silent: its agent was last heard {} ago", since(silent, now)),
        (None, true, false) => "ready".to_owned(),
        (None, true, true) if node.spec.draining => {
            "draining: what runs there is to run elsewhere".to_owned()
        }
        (None, true, true) => "ready, and takes no new instances".to_owned(),
        (None, false, _) => "starting: its agent takes up what it ran before".to_owned(),
    };
    let isolates: Vec<String> = status
        .isolates
        .iter()
        .flat_map(|isolate| {
            let usable = if isolate.usable { "usable" } else { "not usable" };
            let head = format!("{}: {usable}", isolate.isolate);
            std::iter::once(head).chain(isolate.notes.iter().map(|note| format!("  {note}")))
        })
        .collect();
    facts(
        ui,
        &[
            ("node", node.name.clone()),
            ("state", state),
            ("address", tables::address(status)),
            ("cpu", status.capacity.cpu.to_string()),
            ("memory", size(status.capacity.memory.0)),
            ("disk", size(status.capacity.disk.0)),
            ("labels", labels(node)),
            ("taints", taints(node)),
            ("isolates", isolates.join("\n")),
            ("release", status.release.clone()),
            ("registered", when(status.registered_at, now)),
            ("created", when(node.created_at, now)),
        ],
    )
}
