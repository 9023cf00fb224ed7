//! The words of an explanation, as a pure function of what was read.

mod domain;
mod node;

use super::{About, Snapshot};
use crate::server::{
    facts::ServiceFacts,
    status::{serving, summarize},
};
use tutti_api::wire::{Explanation, Reason};
use tutti_model::{
    Resource, Share,
    deployment::{DeploymentSpec, Intent, Phase, Target},
    instance::{Goal, InstanceSpec, InstanceState},
    quantity::ByteSize,
    report::{Progress, ReportSpec},
    route::RouteSpec,
    table::Backend,
    version::VersionSpec,
};

/// Most lines of a deployment's history that an explanation repeats: the lock, the estimate, the table, and a few nodes.
const STEPS: usize = 12;

/// Most instances that an explanation goes into; the others are like these.
const INSTANCES: usize = 5;

/// Explains.
pub(in crate::server) fn explain(snapshot: &Snapshot) -> Explanation {
    let mut words = Words { snapshot, reasons: Vec::new(), hints: Vec::new() };
    let (object, well, summary) = match &snapshot.about {
        About::Service => words.service(),
        About::Deployment(deployment) => words.deployment(deployment),
        About::Version(version) => words.version(version),
        About::Instance(instance) => words.instance(instance),
        About::Route(route) => words.route(route),
        About::Node(node, instances, measured) => words.node(node, *instances, measured.as_ref()),
        About::Domain(domain, services) => words.domain(domain, services),
    };
    Explanation { object, summary, well, reasons: words.reasons, hints: words.hints }
}

/// How the rollout's message says that too few answers came; see `tutti_plan::rollout`.
const TOO_FEW: &str = "answers needed to judge";

/// What an explanation says at its head: the object, whether it is well, and its state.
type Head = (String, bool, String);

struct Words<'a> {
    snapshot: &'a Snapshot,
    reasons: Vec<Reason>,
    hints: Vec<String>,
}

impl<'a> Words<'a> {
    fn say(&mut self, about: impl Into<String>, text: impl Into<String>) {
        self.reasons.push(Reason { about: about.into(), text: text.into(), lines: Vec::new() });
    }

    fn hint(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.hints.contains(&text) {
            self.hints.push(text);
        }
    }

    fn facts(&self) -> Option<&'a ServiceFacts> {
        self.snapshot.service.as_ref()
    }

    fn service(&mut self) -> Head {
        let Some(facts) = self.facts() else {
            return ("service".to_owned(), false, "it is not there".to_owned());
        };
        let service = &facts.service;
        let summary = summarize(facts);
        if let Some(deployment) = &facts.deployment {
            let head = self.deployment(deployment);
            let text = format!("deployment {} is changing it: {}", deployment.name, head.2);
            return (service.object(), head.1, text);
        }
        if service.deleted_at.is_some() {
            self.say(
                service.object(),
                "its deletion was asked for; its instances finish what they serve and stop, then it goes",
            );
            self.zone_says(facts.report.as_ref());
            return (service.object(), true, "it is being deleted".to_owned());
        }
        if !service.spec.upstreams.is_empty() {
            self.say(
                service.object(),
                format!("is served by the addresses {}", summary.upstreams.join(", ")),
            );
        } else if service.status.split.is_empty() {
            let never = match &self.snapshot.missed {
                Some(_) => "no version serves it yet, so it has no instances",
                None => "nothing was ever deployed, so it has no instances",
            };
            self.say(service.object(), never);
            if self.snapshot.missed.is_none() {
                self.hint(format!("push a version with: tutti push PATH {}@1.0", service.name));
                self.hint(format!("deploy it with: tutti deploy {}@1.0 100%", service.name));
            }
        } else {
            self.say(service.object(), format!("is to serve {}", service.status.split));
            self.zone_says(facts.report.as_ref());
            self.unready(facts, |_| true);
        }
        self.table_says(facts);
        self.missed_says();
        let text = match summary.state.as_str() {
            "serving" if summary.upstreams.is_empty() => format!("it serves {}", summary.serving),
            "serving" => "it serves its addresses".to_owned(),
            "idle" => "it has nothing to serve".to_owned(),
            "failed" => "nothing serves it, because its deployment failed".to_owned(),
            _ => format!("it is not as it should be: {}", summary.reason.unwrap_or_default()),
        };
        let well = matches!(summary.state.as_str(), "serving" | "idle");
        let unplaced = facts.report.as_ref().is_some_and(|report| report.spec.progress == Progress::Placing);
        if !well && unplaced {
            self.room_says();
        } else if !well {
            self.hint(format!("read what its instances wrote: tutti logs {}", service.name));
        }
        (service.object(), well, text)
    }

    /// The deployment that failed last, for whoever asks only for the service or the version that it was of.
    fn missed_says(&mut self) {
        let snapshot = self.snapshot;
        let Some(missed) = &snapshot.missed else { return };
        let how = if missed.status.phase == Phase::Failed { "failed" } else { "was aborted" };
        self.say(missed.object(), format!("{}, and {how}", asked(&missed.spec)));
        self.failure_says(missed);
        self.hint(format!("see how it went: tutti deployment show {}", missed.name));
    }

    /// Why a deployment did not reach its target, and what its instance wrote last.
    fn failure_says(&mut self, deployment: &Resource<DeploymentSpec>) {
        let status = &deployment.status;
        if let Some(failure) = &status.failure {
            let about =
                failure.instance.as_ref().map_or_else(|| deployment.object(), |id| format!("instance {id}"));
            self.reasons.push(Reason {
                about,
                text: failure.reason.clone(),
                lines: failure.last_lines.clone(),
            });
        }
        if status.phase == Phase::Failed || status.phase == Phase::Failing {
            self.hint("mend what its last lines say, push it as a new version, and deploy that");
        }
    }

    fn deployment(&mut self, deployment: &Resource<DeploymentSpec>) -> Head {
        let (spec, status) = (&deployment.spec, &deployment.status);
        let object = deployment.object();
        self.say(&object, asked(spec));
        self.steps_of(deployment);
        let (well, text) = match status.phase {
            Phase::Done => (true, format!("it is done: {}", or(&status.message, "its weights serve"))),
            Phase::Failed => (false, "it failed, and the weights from before serve".to_owned()),
            Phase::Aborted => (false, "it was aborted, and the weights from before serve".to_owned()),
            Phase::Failing => {
                (false, "its version would not start; the weights from before are being restored".to_owned())
            }
            Phase::Aborting => (false, "the weights from before are being restored".to_owned()),
            phase if spec.intent == Intent::Pause => {
                self.hint(format!("let it go on with: tutti deployment resume {}", deployment.name));
                (
                    true,
                    format!(
                        "it is paused ({phase}), because that was asked for; nothing changes until it is resumed or aborted"
                    ),
                )
            }
            phase => (true, doing(phase).to_owned()),
        };
        let unfinished = !status.phase.is_final();
        if unfinished && !status.message.is_empty() {
            self.say(&object, &status.message);
        }
        self.failure_says(deployment);
        let stuck = if unfinished { self.way_of(deployment) } else { None };
        if unfinished && !status.phase.is_undoing() {
            self.hint(format!(
                "return to the weights from before with: tutti deployment abort {}",
                deployment.name
            ));
        }
        match stuck {
            Some(stuck) => (object, false, stuck.to_owned()),
            None => (object, well, text),
        }
    }

    /// What was decided and done for the step it is at: the lock, the estimate, the nodes with the preload sent to each,
    /// and the table.
    fn steps_of(&mut self, deployment: &Resource<DeploymentSpec>) {
        let status = &deployment.status;
        let of_step = status.history.iter().skip(1).filter(|entry| entry.step == status.step);
        let told: Vec<&str> = of_step
            .filter(|entry| entry.text != entry.phase.as_str())
            .filter(|entry| status.failure.as_ref().is_none_or(|failure| failure.reason != entry.text))
            .map(|entry| entry.text.as_str())
            .take(STEPS)
            .collect();
        for text in told {
            self.say(deployment.object(), text);
        }
    }

    /// What the zone does for an unfinished deployment, and what keeps it from going on by itself.
    fn way_of(&mut self, deployment: &Resource<DeploymentSpec>) -> Option<&'static str> {
        let status = &deployment.status;
        let facts = self.facts()?;
        if status.phase == Phase::Observing {
            if deployment.spec.intent != Intent::Pause && status.message.contains(TOO_FEW) {
                self.hint(format!(
                    "send it requests: a step is judged by at least {} answers, and waits for them rather than pass",
                    tutti_model::limits::JUDGE_ANSWERS
                ));
                self.hint(format!(
                    "or move on without judging: tutti deployment promote {}",
                    deployment.name
                ));
                return Some("its step has had its time, and waits for enough answers to be judged");
            }
            return None;
        }
        self.zone_says(facts.report.as_ref());
        let version = match &deployment.spec.target {
            Target::Version { version, .. } => Some(version),
            Target::Split(_) => None,
        };
        self.unready(facts, |instance| {
            version.is_none_or(|version| instance.spec.version.version == *version)
        });
        let placing =
            matches!(facts.report.as_ref().map(|report| &report.spec.progress), Some(Progress::Placing));
        let reasons = facts.report.as_ref().is_some_and(|report| !report.spec.reasons.is_empty());
        if status.phase == Phase::Placing && placing && reasons {
            self.room_says();
            return Some("it cannot go on: no node can take its instances now");
        }
        let crashing = facts.instances.iter().find(|instance| {
            instance.spec.goal.runs()
                && instance.status.state == InstanceState::Backoff
                && version.is_none_or(|version| instance.spec.version.version == *version)
        })?;
        self.hint(format!("read what it wrote: tutti logs {}", crashing.name));
        Some("its instances start, and one ends again and again; if that goes on, the deployment fails")
    }

    fn version(&mut self, version: &Resource<VersionSpec>) -> Head {
        let object = version.object();
        let spec = &version.spec;
        self.say(&object, format!("runs artifact {} in the isolate {}", spec.artifact.short(), spec.isolate));
        if let Some(preparation) = &version.status.preparation {
            let (ready, nodes) = (preparation.ready, preparation.nodes);
            self.say(&object, format!("is held ready to start on {ready} of {nodes} nodes"));
            for reason in &preparation.reasons {
                self.say("zone", reason);
            }
        }
        let Some(facts) = self.facts() else {
            return (object, false, "its service is gone".to_owned());
        };
        let name = &spec.version.version;
        let share = facts.service.status.share(name);
        let really = serving(facts.table.as_ref().map(|table| &table.spec)).share(name);
        let counted = facts
            .report
            .as_ref()
            .and_then(|report| report.spec.versions.iter().find(|of| of.version == *name));
        if let Some(of) = counted {
            let zone = facts.report.as_ref().map(|report| report.spec.zone.to_string()).unwrap_or_default();
            self.say(
                format!("zone {zone}"),
                format!(
                    "{} of {} wanted instances are ready, {} are starting, {} stand by and {} are draining",
                    of.ready, of.wanted, of.starting, of.standby, of.draining
                ),
            );
        }
        self.unready(facts, |instance| instance.spec.version.version == *name);
        if share == Share::ZERO && really == Share::ZERO {
            self.missed_says();
            if self.snapshot.missed.as_ref().is_none_or(|missed| missed.status.phase != Phase::Failed) {
                self.hint(format!("deploy it with: tutti deploy {} 10%", version.name));
            }
            let text = match counted.is_some_and(|of| of.standby > 0) {
                true => "it has no share of the requests, and stands by for a rollback",
                false => "it has no share of the requests",
            };
            return (object, true, text.to_owned());
        }
        if share == really {
            return (object, true, format!("it serves {share} of the requests"));
        }
        if let Some(deployment) = &facts.deployment {
            self.say(deployment.object(), &deployment.status.message);
        }
        (
            object,
            facts.deployment.is_some(),
            format!("it is to serve {share} of the requests, and serves {really}"),
        )
    }

    fn instance(&mut self, instance: &Resource<InstanceSpec>) -> Head {
        let object = instance.object();
        let (spec, status) = (&instance.spec, &instance.status);
        let goal = match spec.goal {
            Goal::Serve => "run and take requests",
            Goal::Standby { .. } => "stand by for a rollback",
            Goal::Drain => "finish what it serves, and stop",
            Goal::Stop => "stop",
        };
        self.say(&object, format!("runs {} on node {}, and is to {goal}", spec.version, spec.node));
        let why = status.reason.clone().unwrap_or_default();
        if !why.is_empty() || !status.last_lines.is_empty() {
            let text = if why.is_empty() { "its last lines were".to_owned() } else { why };
            self.reasons.push(Reason { about: object.clone(), text, lines: status.last_lines.clone() });
        }
        if status.restarts > 0 {
            self.say(
                &object,
                match status.restarts {
                    1 => "was started again once after it ended by itself".to_owned(),
                    restarts => format!("was started again {restarts} times after it ended by itself"),
                },
            );
        }
        for weaker in &status.weaker {
            self.say(format!("node {}", spec.node), weaker);
        }
        let broken = matches!(status.state, InstanceState::Failed | InstanceState::Backoff);
        let ended = matches!(status.state, InstanceState::Stopped | InstanceState::Draining);
        let well = !broken && (!spec.goal.runs() || !ended);
        let text = match status.state {
            InstanceState::Pending => format!("node {} has not taken it up yet", spec.node),
            InstanceState::Preloading => "its artifact is being pulled, verified and compiled".to_owned(),
            InstanceState::Starting => "it was started, and does not answer its health probe yet".to_owned(),
            state => format!("it {}", state_words(state)),
        };
        if !well {
            self.hint(format!("read what it wrote: tutti logs {}", instance.name));
        }
        self.nodes_unready(&spec.node.to_string());
        (object, well, text)
    }

    fn route(&mut self, route: &Resource<RouteSpec>) -> Head {
        let object = route.object();
        self.say(&object, format!("leads to service {}", route.spec.service));
        let Some(facts) = self.facts() else {
            self.hint(format!("delete it with: tutti route delete {}", route.name));
            return (object, false, "its service is gone, so it leads nowhere".to_owned());
        };
        let there =
            facts.table.as_ref().is_some_and(|table| table.spec.matches.contains(&route.spec.r#match));
        if !there {
            self.say(facts.service.object(), "its routing table does not have this route yet");
            self.ingresses_say();
            return (object, false, "it has not reached the ingress yet".to_owned());
        }
        let (_, well, text) = self.service();
        (object, well, format!("it reaches {}; {text}", facts.service.object()))
    }

    fn zone_says(&mut self, report: Option<&Resource<ReportSpec>>) {
        let Some(report) = report else {
            self.say("zone", "has not reported on this service yet");
            return;
        };
        let zone = format!("zone {}", report.spec.zone);
        match &report.spec.progress {
            Progress::Failed { failure } => {
                let about =
                    failure.instance.as_ref().map_or_else(|| zone.clone(), |id| format!("instance {id}"));
                self.reasons.push(Reason {
                    about,
                    text: failure.reason.clone(),
                    lines: failure.last_lines.clone(),
                });
            }
            Progress::Placing => self.say(&zone, "not every instance has a node"),
            Progress::Preloading => self.say(&zone, "nodes pull, verify and compile the artifact"),
            Progress::Starting => self.say(&zone, "instances start, and are probed until they are ready"),
            Progress::Shifting => {
                self.say(&zone, "the new weights are written, and not every ingress has them yet");
                self.ingresses_say();
            }
            Progress::Settled => {
                self.say(&zone, format!("serves {}, and every ingress has it", report.spec.split))
            }
        }
        if let Some(scaled) = &report.spec.scaled {
            let workers = scaled.workers;
            let noun = if workers == 1 { "worker serves" } else { "workers serve" };
            self.say(&zone, format!("{workers} {noun} it for its load: {}", scaled.why));
        }
        for reason in &report.spec.reasons {
            // A deployment's own message carries the zone's reasons along.
            if !self.reasons.iter().any(|said| said.text.contains(reason.as_str())) {
                self.say(&zone, reason);
            }
        }
    }

    /// Why instances do not run: what keeps them from it, or that they sleep.
    fn unready(&mut self, facts: &ServiceFacts, concerns: impl Fn(&Resource<InstanceSpec>) -> bool) {
        let wanting = facts.instances.iter().filter(|instance| {
            instance.spec.goal.runs() && instance.status.state != InstanceState::Ready && concerns(instance)
        });
        for instance in wanting.take(INSTANCES) {
            let status = &instance.status;
            let why = status.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            self.reasons.push(Reason {
                about: instance.object(),
                text: format!("on node {} it {}{why}", instance.spec.node, state_words(status.state)),
                lines: status.last_lines.clone(),
            });
        }
    }

    fn table_says(&mut self, facts: &ServiceFacts) {
        if let Some(Backend::None { reason }) = facts.table.as_ref().map(|table| &table.spec.backend) {
            self.say("ingress", format!("answers 503: {reason}"));
        }
        let hosts: Vec<String> =
            facts.table.iter().flat_map(|table| &table.spec.matches).map(ToString::to_string).collect();
        if !hosts.is_empty() {
            self.say("ingress", format!("sends it the requests for {}", hosts.join(", ")));
        }
    }

    fn ingresses_say(&mut self) {
        if self.snapshot.zone.ingresses.is_empty() {
            self.say("ingress", "none lives now");
        }
    }

    fn nodes_say(&mut self) {
        if self.snapshot.zone.nodes.is_empty() {
            self.say("zone", "has no node");
        }
        for node in self.snapshot.zone.nodes.iter().take(INSTANCES) {
            let text = match (node.status.ready, node.spec.cordoned) {
                _ if node.silent_since().is_some() => "is silent",
                (false, _) => "is not ready",
                (true, true) if node.spec.draining => "drains: what runs there is to run elsewhere",
                (true, true) => {
                    self.hint(format!("let {0} take instances again: tutti node uncordon {0}", node.name));
                    "is ready, and takes no new instances because it is cordoned"
                }
                (true, false) => continue,
            };
            self.say(node.object(), text);
        }
    }

    /// Which nodes take nothing, and how room is made.
    fn room_says(&mut self) {
        self.nodes_say();
        self.hint("free some room (tutti scale, tutti service delete), or add a node");
        self.hint("or ask for less: lower memory, cpu or min in the manifest, and push a new version");
    }

    fn nodes_unready(&mut self, name: &str) {
        let Some(node) = self.snapshot.zone.nodes.iter().find(|node| node.name == name) else { return };
        if node.silent_since().is_some() {
            self.say(node.object(), "is silent: this is what its agent last reported");
        } else if !node.status.ready {
            self.say(node.object(), "is not ready");
        }
    }
}

/// `1 instance`, `2 instances`.
fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Memory as people read it, with one decimal: a machine's is no round number of any unit.
fn amount(memory: ByteSize) -> String {
    const MIB: u64 = 1 << 20;
    let tenths = memory.0.saturating_mul(10) / MIB;
    let (tenths, unit) = if tenths < 10_240 { (tenths, "MiB") } else { (tenths / 1024, "GiB") };
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// What was asked of a deployment.
fn asked(spec: &DeploymentSpec) -> String {
    match &spec.target {
        Target::Version { version, steps } => {
            let shares: Vec<String> = steps.iter().map(ToString::to_string).collect();
            let mut text =
                format!("was asked to bring {}@{version} to {}", spec.service, shares.join(", then "));
            if steps.len() > 1 {
                text.push_str(&format!(", observing each step for {}", spec.every));
            }
            let conditions: Vec<String> = spec.abort_if.iter().map(ToString::to_string).collect();
            if !conditions.is_empty() {
                text.push_str(&format!(", and to go back if {}", conditions.join(" or ")));
            }
            text
        }
        Target::Split(split) => format!("was asked to return {} to {split}", spec.service),
    }
}

/// What a state of an instance means for a newcomer.
const fn state_words(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Pending => "has not been taken up yet",
        InstanceState::Preloading => "waits for its artifact to be pulled, verified and compiled",
        InstanceState::Starting => "was started, and does not answer its health probe yet",
        InstanceState::Ready => "is ready",
        InstanceState::Asleep => "sleeps",
        InstanceState::Backoff => "ends again and again, and is started anew after a pause",
        InstanceState::Failed => "cannot run",
        InstanceState::Draining => "finishes what it serves",
        InstanceState::Stopped => "has stopped",
    }
}

/// What a phase means for a newcomer.
const fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Placing => "it looks for nodes with room for its instances",
        Phase::Preloading => "its nodes pull, verify and compile the artifact",
        Phase::Starting => "its instances start, and are probed until they are ready",
        Phase::Shifting => "its new weights are on their way to every ingress",
        Phase::Observing => "its step serves, and is being judged",
        Phase::Failing | Phase::Aborting => "the weights from before are being restored",
        Phase::Done => "it is done",
        Phase::Failed => "it failed",
        Phase::Aborted => "it was aborted",
    }
}
