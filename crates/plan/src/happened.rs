//! Which changes are worth an event, and what it says. What is done with it is the executors' business.
//!
//! A reader at night wants the few lines that matter. So what repeats is thinned: an instance that ends again and again
//! has an event for its first ends, and from then on for each that doubles their number. And what is ordinary has none:
//! to fall asleep and to wake, to drain.

use tutti_model::{
    Resource, Timestamp,
    assignment::AssignmentSpec,
    deployment::{DeploymentSpec, DeploymentStatus, Phase},
    event::{EventSpec, What},
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec, InstanceState, InstanceStatus},
    limits,
    name::NodeName,
    node::{NodeSpec, NodeStatus},
};

/// What it means that an instance, which was `before`, is now as `instance` says.
#[must_use]
pub fn of_instance(
    now: Timestamp,
    before: &InstanceStatus,
    instance: &Resource<InstanceSpec>,
) -> Option<EventSpec> {
    use InstanceState as S;
    let (spec, status) = (&instance.spec, &instance.status);
    let (version, node) = (&spec.version, &spec.node);
    let because = |otherwise: &str| status.reason.clone().unwrap_or_else(|| otherwise.to_owned());
    let (what, text) = match (before.state, status.state) {
        (before, after) if before == after && before != S::Backoff => return None,
        (S::Pending, S::Preloading | S::Starting) => {
            (What::Starting, with(format!("{version} on {node}"), ": ", &spec.placed))
        }
        (S::Asleep, S::Ready) => return None,
        (_, S::Ready) if is_told(status.restarts) => {
            let after = match status.restarts {
                0 => String::new(),
                1 => ", started again once".to_owned(),
                times => format!(", started again {times} times"),
            };
            (What::Ready, format!("{version} on {node} answers{after}"))
        }
        // Each end counts, also where the report of what came between is not sent.
        (was, S::Backoff) if (was != S::Backoff || before.restarts != status.restarts) => {
            if !is_told(status.restarts) {
                return None;
            }
            (What::Ended, format!("{version} on {node}: {}", because("it has ended")))
        }
        (_, S::Failed) => (What::Failed, format!("{version} on {node}: {}", because("it cannot run"))),
        (_, S::Stopped) => {
            let why = match spec.goal {
                Goal::Drain | Goal::Stop => "is gone, as it was to",
                Goal::Serve | Goal::Standby { .. } => "is gone",
            };
            (What::Stopped, with(format!("{version} on {node} {why}"), ": ", &because("")))
        }
        _ => return None,
    };
    Some(event_of(now, what, instance, text))
}

/// Whether an end, or the start that follows it, is told.
const fn is_told(restarts: u32) -> bool {
    restarts <= limits::EVENT_ENDS || restarts.is_power_of_two()
}

fn event_of(
    now: Timestamp,
    what: What,
    instance: &Resource<InstanceSpec>,
    text: impl Into<String>,
) -> EventSpec {
    EventSpec::new(now, what, instance.object(), text)
        .of(&instance.spec.version.service)
        .on(&instance.spec.node)
}

fn with(mut text: String, between: &str, more: &str) -> String {
    if !more.is_empty() {
        text.push_str(between);
        text.push_str(more);
    }
    text
}

/// What it means that an instance's node has fallen silent, or is heard again.
#[must_use]
pub fn of_lost_instance(now: Timestamp, instance: &Resource<InstanceSpec>) -> Option<EventSpec> {
    let (version, node) = (&instance.spec.version, &instance.spec.node);
    Some(match instance.silent_since() {
        Some(_) => {
            let grace = instance.spec.manifest.grace;
            let text =
                format!("{version} on {node}: the node is silent; it is replaced elsewhere after {grace}");
            event_of(now, What::Lost, instance, text)
        }
        None => event_of(now, What::Heard, instance, format!("{version} on {node}: the node is heard again")),
    })
    .filter(|_| !matches!(instance.status.state, InstanceState::Stopped | InstanceState::Failed))
}

/// What it means that a node, on which so many instances are, has fallen silent or is heard again.
#[must_use]
pub fn of_lost_node(now: Timestamp, node: &Resource<NodeSpec>, instances: usize) -> EventSpec {
    let what = if node.silent_since().is_some() { What::Silent } else { What::Heard };
    let reason = node.conditions.iter().find(|condition| condition.r#type == tutti_model::node::HEARD);
    let reason = reason.map_or("", |condition| condition.reason.as_str());
    EventSpec::new(now, what, node.object(), format!("{reason}; {} there", instances_are(instances)))
        .on(&node.spec.node)
}

fn instances_are(number: usize) -> String {
    match number {
        0 => "no instance is".to_owned(),
        1 => "1 instance is".to_owned(),
        number => format!("{number} instances are"),
    }
}

/// What it means that a node's agent, which said `before`, now says this.
#[must_use]
pub fn of_node(now: Timestamp, before: Option<&NodeStatus>, node: &Resource<NodeSpec>) -> Option<EventSpec> {
    let status = &node.status;
    let release = &status.release;
    let was_ready = before.is_some_and(|before| before.ready);
    let (what, text) = match (before, status.ready) {
        (None, _) => (What::Registered, format!("its agent has begun, release {release}")),
        (Some(_), true) if !was_ready => {
            (What::Ready, "its agent has taken up what ran there, and serves".to_owned())
        }
        (Some(_), false) if was_ready => {
            (What::Registered, format!("its agent has begun anew, release {release}"))
        }
        _ => return None,
    };
    Some(EventSpec::new(now, what, node.object(), text).on(&node.spec.node))
}

/// What it means that a node is no member any more.
#[must_use]
pub fn of_removed_node(now: Timestamp, node: &NodeName) -> EventSpec {
    let text = "it is no member any more; what ran there runs elsewhere, as far as there is room";
    EventSpec::new(now, What::Removed, format!("node {node}"), text).on(node)
}

/// What it means that a deployment, which was `before`, is now as `deployment` says.
#[must_use]
pub fn of_deployment(
    now: Timestamp,
    before: &DeploymentStatus,
    deployment: &Resource<DeploymentSpec>,
) -> Option<EventSpec> {
    let (spec, status) = (&deployment.spec, &deployment.status);
    if (before.phase, before.step) == (status.phase, status.step) {
        return None;
    }
    let steps = spec.target.steps();
    let at = match steps {
        0 | 1 => String::new(),
        steps => format!("step {} of {steps}", (status.step + 1).min(steps)),
    };
    let said = match (&status.failure, status.phase) {
        (Some(failure), Phase::Failing | Phase::Aborting | Phase::Failed | Phase::Aborted) => &failure.reason,
        _ => &status.message,
    };
    let text = with(with(spec.service.to_string(), ", ", &at), ": ", said);
    Some(EventSpec::new(now, status.phase.into(), deployment.object(), text).of(&spec.service))
}

/// What it means that load has changed how many workers serve a service, of which there were `before`.
#[must_use]
pub fn of_scaling(now: Timestamp, before: u32, assignment: &Resource<AssignmentSpec>) -> Option<EventSpec> {
    let scaled = assignment.status.scaled.as_ref().filter(|scaled| scaled.workers != before)?;
    let service = &assignment.spec.service;
    let text = with(format!("from {before} to {} workers", scaled.workers), ": ", &scaled.why);
    Some(EventSpec::new(now, What::Scaled, format!("service {service}"), text).of(service))
}

/// What it means that an ingress has come, where it `is_there`, or is not there any more.
#[must_use]
pub fn of_ingress(now: Timestamp, ingress: &Resource<IngressSpec>, is_there: bool) -> EventSpec {
    let http = &ingress.spec.http;
    let (what, text) = match is_there {
        true => (What::Registered, format!("it serves at http://{http}")),
        false => (What::Gone, format!("it has left, or is not heard; it served at http://{http}")),
    };
    EventSpec::new(now, what, ingress.object(), text)
}

/// What it means that a control leads.
#[must_use]
pub fn of_leader(now: Timestamp, control: &NodeName) -> EventSpec {
    EventSpec::new(now, What::Leads, format!("control {control}"), "it reconciles from now on")
}

#[cfg(test)]
mod tests;
