//! Moves a deployment through its states.
//!
//! One call is one look: from the deployment, its service and what the zones report, to what both are next. Whoever
//! executes the plan writes deployment and service in one transaction that compares both, so that a deployment is
//! resumed by anyone after a crash at any point, and never moves twice on one look.

use crate::judge::{Verdict, judge};
use tutti_model::{
    Resource, Split, Timestamp,
    deployment::{DeploymentSpec, DeploymentStatus, Failure, Intent, Phase, Target},
    report::{Candidate, DeployReport, Progress, ReportSpec},
    service::{ServiceSpec, ServiceStatus},
    stats::VersionStats,
};

/// What is known when a deployment is looked at.
#[derive(Debug, Clone, Copy)]
pub struct RolloutView<'a> {
    /// Now.
    pub now: Timestamp,
    /// The deployment.
    pub deployment: &'a Resource<DeploymentSpec>,
    /// Its service.
    pub service: &'a Resource<ServiceSpec>,
    /// What each zone that serves it says; one entry a zone, `None` for a zone that has not said anything.
    pub reports: &'a [Option<ReportSpec>],
    /// What the deployment's version answered since the step's weights serve.
    pub since_step: &'a VersionStats,
}

/// What is to be written, and when to look again at the latest.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutPlan {
    /// The deployment's status.
    pub deployment: DeploymentStatus,
    /// The service's status.
    pub service: ServiceStatus,
    /// When time alone may change something.
    pub wake: Option<Timestamp>,
}

/// Looks at an unfinished deployment and says what is next.
#[must_use]
pub fn advance(view: RolloutView<'_>) -> RolloutPlan {
    let mut rollout = Rollout {
        view,
        next: view.deployment.status.clone(),
        service: view.service.status.clone(),
        wake: None,
    };
    rollout.step();
    RolloutPlan { deployment: rollout.next, service: rollout.service, wake: rollout.wake }
}

/// How far all zones together are: as far as the one that is furthest behind.
enum Together<'a> {
    /// Some zone has not taken up this round yet.
    Unheard,
    /// Some zone cannot reach it.
    Failed(&'a Failure),
    /// The phase of the zone furthest behind, and what it waits for.
    At(Phase, &'a [String]),
    /// All serve the weights, acknowledged.
    Settled,
}

struct Rollout<'a> {
    view: RolloutView<'a>,
    next: DeploymentStatus,
    service: ServiceStatus,
    wake: Option<Timestamp>,
}

impl Rollout<'_> {
    fn step(&mut self) {
        let spec = &self.view.deployment.spec;
        if self.next.phase.is_final() {
            return;
        }
        if spec.intent == Intent::Abort && !self.next.phase.is_undoing() {
            self.undo(
                Phase::Aborting,
                Failure { reason: "aborted on request".into(), instance: None, last_lines: Vec::new() },
            );
            return;
        }
        match self.next.phase {
            Phase::Placing | Phase::Preloading | Phase::Starting | Phase::Shifting => self.approach(),
            Phase::Observing => self.observe(),
            Phase::Failing => self.restore(Phase::Failed),
            Phase::Aborting => self.restore(Phase::Aborted),
            Phase::Done | Phase::Failed | Phase::Aborted => {}
        }
    }

    /// On the way to the step's weights.
    fn approach(&mut self) {
        let split = self.view.deployment.spec.target.split(&self.next.from, self.next.step);
        // A pause before the weights shift keeps them where they are; what is being made ready goes on.
        let shifted = self.next.phase == Phase::Shifting;
        let hold = self.view.deployment.spec.intent == Intent::Pause && !shifted;
        if self.ask(split, hold) {
            self.say(format!("waiting for the zone to take up {}", self.aim()));
            return;
        }
        match self.together() {
            Together::Unheard => self.say(format!("waiting for the zone to take up {}", self.aim())),
            Together::Failed(failure) => {
                let failure = failure.clone();
                self.undo(Phase::Failing, failure);
            }
            Together::At(phase, reasons) => {
                let waits = reasons.join("; ");
                self.walk();
                self.enter(phase);
                let text = match phase {
                    Phase::Placing => "finding nodes",
                    Phase::Preloading => "nodes pull, verify and compile",
                    Phase::Starting => "instances start",
                    _ => "waiting for every ingress to acknowledge the weights",
                };
                let text = if waits.is_empty() { text.to_owned() } else { format!("{text}: {waits}") };
                self.say(if hold { self.paused(&text) } else { text });
            }
            Together::Settled => {
                self.walk();
                self.arrive();
            }
        }
    }

    /// Notes what the zones have decided and done for the step since the last look, once each: the estimate, the nodes
    /// found with the preload sent to each, who holds it, and the table.
    fn walk(&mut self) {
        let reports = self.view.reports.iter().flatten();
        let lines: Vec<String> = reports.flat_map(|report| &report.deploying).flat_map(walked).collect();
        for line in lines {
            let step = self.next.step;
            let told = self.next.history.iter().any(|entry| entry.step == step && entry.text == line);
            if !told {
                self.next.note(self.view.now, line);
            }
        }
    }

    /// The step's weights serve, acknowledged.
    fn arrive(&mut self) {
        let now = self.view.now;
        if self.is_last_step() {
            if self.next.from != self.service.split {
                self.service.previous = Some(self.next.from.clone());
            }
            let text = format!("serves {}", self.service.split);
            self.finish(Phase::Done, text);
            return;
        }
        self.next.observed_since = Some(now);
        self.enter(Phase::Observing);
        self.next.note(now, format!("{} serves; observing", self.aim()));
        self.observe();
    }

    /// Judges the step, and goes on when its time is over.
    fn observe(&mut self) {
        let spec = &self.view.deployment.spec;
        // It served and has failed since: it lost its weight, so neither time nor answers will ever judge it.
        if let Together::Failed(failure) = self.together() {
            let failure = failure.clone();
            self.undo(Phase::Failing, failure);
            return;
        }
        let since = self.next.observed_since.unwrap_or(self.view.now);
        let over = since.plus(spec.every);
        if spec.intent == Intent::Pause {
            let text = self.paused(&format!("{} serves", self.aim()));
            self.say(text);
            return;
        }
        if usize::try_from(spec.promoted).is_ok_and(|promoted| promoted > self.next.step) {
            self.next_step("promoted on request");
            return;
        }
        let (verdict, aim) = (judge(&spec.abort_if, self.view.since_step), self.aim());
        match verdict {
            Verdict::Bad { reason } => {
                self.undo(Phase::Aborting, Failure { reason, instance: None, last_lines: Vec::new() });
            }
            _ if self.view.now < over => {
                self.wake = Some(over);
                let conditions: Vec<String> = spec.abort_if.iter().map(ToString::to_string).collect();
                let judged = if conditions.is_empty() {
                    String::new()
                } else {
                    format!("; aborts if {}", conditions.join(" or "))
                };
                self.say(format!("observing {aim} for {}{judged}", spec.every));
            }
            Verdict::TooFew { answers } => self.say(format!(
                "{aim} has had its {}, but only {answers} of the {} answers needed to judge it",
                spec.every,
                tutti_model::limits::JUDGE_ANSWERS
            )),
            Verdict::Good => self.next_step(&format!("{aim} was good for {}", spec.every)),
        }
    }

    fn next_step(&mut self, why: &str) {
        self.next.note(self.view.now, why.to_owned());
        let last = self.view.deployment.spec.target.steps().saturating_sub(1);
        let promoted = usize::try_from(self.view.deployment.spec.promoted).unwrap_or(usize::MAX);
        self.next.step = (self.next.step + 1).max(promoted).min(last);
        self.next.observed_since = None;
        self.enter(Phase::Placing);
        let split = self.view.deployment.spec.target.split(&self.next.from, self.next.step);
        self.ask(split, false);
        self.say(format!("waiting for the zone to take up {}", self.aim()));
    }

    /// Gives the weights from before back.
    fn undo(&mut self, phase: Phase, failure: Failure) {
        self.enter(phase);
        self.next.note(self.view.now, failure.reason.clone());
        self.next.failure = Some(failure);
        let from = self.next.from.clone();
        self.ask(from, false);
        self.say("the weights from before are being restored".to_owned());
    }

    /// On the way back to the weights from before.
    fn restore(&mut self, end: Phase) {
        let why = self.next.failure.as_ref().map_or_else(String::new, |failure| failure.reason.clone());
        match self.together() {
            Together::Unheard => {}
            Together::At(_, reasons) => {
                let waits =
                    if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
                self.say(format!("the weights from before are being restored{waits}"));
            }
            Together::Settled => self.finish(end, why),
            // What served before no longer can; to hold the lock would only keep the user from deploying what does.
            Together::Failed(failure) => {
                let text = format!("{why}; and what served before has failed too: {}", failure.reason);
                self.finish(end, text);
            }
        }
    }

    fn finish(&mut self, end: Phase, text: String) {
        self.enter(end);
        self.next.finished_at = Some(self.view.now);
        self.service.deployment = None;
        self.service.hold = false;
        self.next.note(self.view.now, format!("released the lock on {}", self.view.deployment.spec.service));
        self.say(text);
    }

    /// Asks the zones for this split, if they were not asked yet.
    fn ask(&mut self, split: Split, hold: bool) -> bool {
        let new = self.service.split != split || self.service.hold != hold;
        if new {
            self.service.split = split;
            self.service.hold = hold;
            self.service.round += 1;
        }
        new
    }

    fn enter(&mut self, phase: Phase) {
        if self.next.phase != phase {
            self.next.phase = phase;
            self.next.note(self.view.now, format!("{phase}"));
        }
    }

    fn say(&mut self, text: String) {
        self.next.message = text;
    }

    fn paused(&self, text: &str) -> String {
        format!(
            "paused on request at step {} of {}: {text}",
            self.next.step + 1,
            self.view.deployment.spec.target.steps()
        )
    }

    /// What the step leads to, for people.
    fn aim(&self) -> String {
        match &self.view.deployment.spec.target {
            Target::Version { version, .. } => format!("{version} at {}", self.service.split.share(version)),
            Target::Split(split) => split.to_string(),
        }
    }

    fn is_last_step(&self) -> bool {
        self.next.step + 1 >= self.view.deployment.spec.target.steps()
    }

    fn together(&self) -> Together<'_> {
        let mut behind: Option<(u8, Phase, &[String])> = None;
        for report in self.view.reports {
            let Some(report) = report.as_ref().filter(|report| report.round == self.service.round) else {
                return Together::Unheard;
            };
            let (rank, phase) = match &report.progress {
                Progress::Failed { failure } => return Together::Failed(failure),
                Progress::Placing => (0, Phase::Placing),
                Progress::Preloading => (1, Phase::Preloading),
                Progress::Starting => (2, Phase::Starting),
                Progress::Shifting => (3, Phase::Shifting),
                Progress::Settled => continue,
            };
            if behind.is_none_or(|(least, ..)| rank < least) {
                behind = Some((rank, phase, &report.reasons));
            }
        }
        match behind {
            Some((_, phase, reasons)) => Together::At(phase, reasons),
            None => Together::Settled,
        }
    }
}

/// The steps that a zone has taken for a version, a line each.
fn walked(report: &DeployReport) -> Vec<String> {
    let DeployReport { version, share, whole, workers, candidates, more, table } = report;
    let formula = share.workers(*whole);
    let noun = if *workers == 1 { "worker" } else { "workers" };
    let mut estimate = format!("estimated {workers} {noun}: max(1, ceil({whole} × {share})) = {formula}");
    if *workers > formula {
        estimate.push_str(&format!(", and {} more for today's load", workers.saturating_sub(formula)));
    } else if *workers < formula {
        estimate.push_str(&format!(", and its manifest allows {workers}"));
    }
    let mut lines = vec![estimate];
    for Candidate { node, why, .. } in candidates {
        lines.push(match why.is_empty() {
            true => format!("candidate node {node}: sent it the preload of {version}"),
            false => format!("candidate node {node} ({why}): sent it the preload of {version}"),
        });
    }
    if *more > 0 {
        lines.push(format!("{more} more candidate nodes were sent the preload of {version}"));
    }
    let holding = candidates.iter().filter(|candidate| candidate.holds);
    lines.extend(holding.map(|candidate| format!("node {} holds {version} ready", candidate.node)));
    lines.extend(
        table.map(|revision| format!("wrote the table at revision {revision}: {version} gets {share}")),
    );
    lines
}

#[cfg(test)]
mod tests;
