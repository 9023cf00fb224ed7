//! A rollout as lines that tell it: what the deployment notes and what its instances do, each with its time. Pure.

use crate::{
    text::{self, count, harmless, moment, offset},
    ui::Tone,
};
use std::collections::{BTreeMap, BTreeSet};
use tutti_api::wire::ServiceSummary;
use tutti_model::{
    InstanceId, Resource, Share, Split, Timestamp, VersionName,
    deployment::{DeploymentSpec, Entry, Phase, Target},
    instance::{InstanceSpec, InstanceState},
};

/// What has been told of one rollout.
#[derive(Debug)]
pub(crate) struct Telling {
    began: Timestamp,
    /// What instances did before is not told.
    from: Timestamp,
    last: Option<Entry>,
    instances: BTreeMap<InstanceId, InstanceState>,
    /// Reasons that were told: what follows from one does not tell it again.
    reasons: BTreeSet<String>,
    /// The latest moment told. Deployment and instances are watched apart, and a list of moments reads forwards only.
    latest: Timestamp,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// When, from the start.
    pub(crate) at: String,
    /// In one word.
    pub(crate) word: &'static str,
    /// How that is.
    pub(crate) tone: Tone,
    /// In one sentence.
    pub(crate) text: String,
}

impl Telling {
    /// Nothing told yet.
    pub(crate) fn new(deployment: &Resource<DeploymentSpec>) -> Self {
        let began = deployment.created_at;
        Telling {
            began,
            from: began,
            last: None,
            instances: BTreeMap::new(),
            reasons: BTreeSet::new(),
            latest: began,
        }
    }

    /// What came before is not told.
    pub(crate) fn from_now(deployment: &Resource<DeploymentSpec>) -> Self {
        let last = deployment.status.history.last().cloned();
        let from = last.as_ref().map_or(deployment.created_at, |last| last.at);
        Telling { from, last, ..Telling::new(deployment) }
    }

    /// What is new about the deployment.
    pub(crate) fn deployment(&mut self, deployment: &Resource<DeploymentSpec>) -> Vec<Line> {
        let history = &deployment.status.history;
        // Found by content, since the oldest entries may have been dropped.
        let told = self.last.as_ref().and_then(|last| history.iter().rposition(|entry| entry == last));
        let new: Vec<&Entry> = history.iter().skip(told.map_or(0, |index| index + 1)).collect();
        if let Some(last) = new.last() {
            self.last = Some((*last).clone());
        }
        let told: Vec<&Entry> = new.into_iter().filter(|entry| !is_empty(entry)).collect();
        told.into_iter().filter_map(|entry| self.entry(entry, deployment)).collect()
    }

    fn entry(&mut self, entry: &Entry, deployment: &Resource<DeploymentSpec>) -> Option<Line> {
        if self.reasons.iter().any(|reason| entry.text.ends_with(reason.as_str())) {
            return None;
        }
        let text = if entry.text == entry.phase.as_str() {
            phase_text(entry.phase, entry.step, deployment)
        } else {
            harmless(&entry.text)
        };
        let (at, word) = (self.at(entry.at), entry.phase.as_str());
        Some(Line { at, word, tone: phase_tone(entry.phase), text })
    }

    /// What is new about an instance of the service.
    pub(crate) fn instance(&mut self, instance: &Resource<InstanceSpec>) -> Option<Line> {
        let (id, status) = (&instance.spec.instance, &instance.status);
        let same = self.instances.insert(id.clone(), status.state) == Some(status.state);
        // What keeps an instance from being ready may become known only after a while.
        let news = status.reason.as_ref().is_some_and(|reason| !self.reasons.contains(reason));
        if (same && !news) || status.since < self.from {
            return None;
        }
        let what = format!("{id} of {} on {}", instance.spec.version.version, instance.spec.node);
        let text = match &status.reason {
            Some(reason) if self.reasons.insert(reason.clone()) => format!("{what}: {}", harmless(reason)),
            Some(_) | None => what,
        };
        // Before its agent has taken it up there is nothing to tell.
        (status.state != InstanceState::Pending).then(|| Line {
            at: self.at(status.since),
            word: status.state.as_str(),
            tone: state_tone(status.state),
            text,
        })
    }

    fn at(&mut self, at: Timestamp) -> String {
        self.latest = self.latest.max(at);
        offset(self.latest.since(self.began))
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>7}  {:<10}  {}", self.at, self.word, self.text)
    }
}

/// Whether an entry says nothing that the next one doesn't: what is observed always follows that it is.
fn is_empty(entry: &Entry) -> bool {
    entry.phase == Phase::Observing && entry.text == Phase::Observing.as_str()
}

fn phase_text(phase: Phase, step: usize, deployment: &Resource<DeploymentSpec>) -> String {
    let spec = &deployment.spec;
    match phase {
        Phase::Placing => match spec.target.steps() {
            0 | 1 => format!("finding nodes for {}", goal(spec, step)),
            steps => format!("step {} of {steps}: finding nodes for {}", step + 1, goal(spec, step)),
        },
        Phase::Preloading => "nodes pull, verify and compile".to_owned(),
        Phase::Starting => "instances start, and are probed until they are ready".to_owned(),
        Phase::Shifting => format!("traffic moves to {}", reached(deployment, step)),
        Phase::Observing => format!("{} is observed", reached(deployment, step)),
        Phase::Failing | Phase::Aborting => "the weights from before are being restored".to_owned(),
        Phase::Done => format!("{} serves", reached(deployment, step)),
        Phase::Failed | Phase::Aborted => "the weights from before are back".to_owned(),
    }
}

/// What a step leads to: `1.1 at 10%`.
pub(crate) fn goal(spec: &DeploymentSpec, step: usize) -> String {
    match &spec.target {
        Target::Version { version, steps } => {
            let share = steps.get(step).or(steps.last()).copied().unwrap_or(Share::WHOLE);
            format!("{version} at {share}")
        }
        Target::Split(split) => text::split(split),
    }
}

/// What a step leads to really: where nothing else serves that could have the rest, a version gets the whole.
fn reached(deployment: &Resource<DeploymentSpec>, step: usize) -> String {
    match &deployment.spec.target {
        Target::Version { version, .. }
            if deployment.status.from.iter().all(|(before, _)| before == version) =>
        {
            format!("{version} at {}", Share::WHOLE)
        }
        Target::Version { .. } | Target::Split(_) => goal(&deployment.spec, step),
    }
}

/// How a phase looks.
pub(crate) const fn phase_tone(phase: Phase) -> Tone {
    match phase {
        Phase::Done => Tone::Good,
        Phase::Failing | Phase::Failed | Phase::Aborting | Phase::Aborted => Tone::Bad,
        Phase::Placing | Phase::Preloading | Phase::Starting | Phase::Shifting | Phase::Observing => {
            Tone::Busy
        }
    }
}

/// How an instance's state looks.
pub(crate) const fn state_tone(state: InstanceState) -> Tone {
    match state {
        InstanceState::Ready => Tone::Good,
        InstanceState::Backoff | InstanceState::Failed => Tone::Bad,
        InstanceState::Stopped | InstanceState::Asleep => Tone::Dim,
        InstanceState::Pending
        | InstanceState::Preloading
        | InstanceState::Starting
        | InstanceState::Draining => Tone::Busy,
    }
}

/// Why a rollout ended otherwise than it should have: one sentence, and the lines that go with it. `None` if it did
/// as it should.
pub(crate) fn failure(deployment: &Resource<DeploymentSpec>) -> Option<(String, Vec<String>)> {
    let (phase, name) = (deployment.status.phase, &deployment.name);
    if !matches!(phase, Phase::Failed | Phase::Aborted) {
        return None;
    }
    let why = deployment.status.failure.as_ref();
    let reason = why.map_or_else(|| deployment.status.message.clone(), |failure| failure.reason.clone());
    let word = if phase == Phase::Failed { "failed" } else { "was aborted" };
    // What was aborted says so itself.
    let reason = reason.strip_prefix("aborted ").unwrap_or(&reason);
    let mut lines = Vec::new();
    if let Some(failure) = why.filter(|failure| !failure.last_lines.is_empty()) {
        let whose = failure.instance.as_ref().map_or_else(|| "an instance".to_owned(), ToString::to_string);
        lines.push(format!("last lines of {whose}:"));
        lines.extend(failure.last_lines.iter().map(|line| format!("  {}", harmless(line))));
    }
    let mark = if reason == "on request" { "" } else { ":" };
    Some((format!("deployment {name} {word}{mark} {}", harmless(reason)), lines))
}

/// What stands by after a rollout, and how it is taken back, where that is what a rollback would do.
pub(crate) fn afterwards(summary: &ServiceSummary, previous: Option<&Split>) -> Option<String> {
    let standing: Vec<(&VersionName, u32)> = summary
        .versions
        .iter()
        .filter(|report| report.standby > 0)
        .map(|report| (&report.version, report.standby))
        .collect();
    let (_, first) = standing.first()?;
    let total = standing.iter().map(|(_, count)| *count).fold(0, u32::saturating_add).max(*first);
    let versions: Vec<String> = standing.iter().map(|(version, _)| version.to_string()).collect();
    let stand = if total == 1 { "stands" } else { "stand" };
    let back =
        previous.filter(|split| standing.iter().any(|(version, _)| split.share(version) > Share::ZERO));
    let hint = back.map_or_else(String::new, |split| {
        let (split, service) = (text::split(split), text::service(&summary.service));
        format!("\ngo back to {split} at once with: tutti rollback {service}")
    });
    Some(format!("{} of {} {stand} by{hint}", count(total, "instance"), versions.join(", ")))
}

/// A history entry in full, for `deployment show`.
pub(crate) fn entry_in_full(entry: &Entry, deployment: &Resource<DeploymentSpec>) -> [String; 3] {
    let text = if entry.text == entry.phase.as_str() {
        phase_text(entry.phase, entry.step, deployment)
    } else {
        harmless(&entry.text)
    };
    [moment(entry.at), entry.phase.to_string(), text]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fixtures;
    use tutti_model::deployment::HISTORY_ENTRIES;

    #[test]
    fn tells_each_thing_once() {
        let mut deployment = fixtures::deployment();
        let mut telling = Telling::new(&deployment);
        let mut told: Vec<String> = Vec::new();
        let mut tell = |lines: Vec<Line>| told.extend(lines.iter().map(ToString::to_string));
        deployment.status.note(deployment.created_at, "placing");
        tell(telling.deployment(&deployment));
        tell(telling.deployment(&deployment));
        deployment.status.phase = Phase::Shifting;
        deployment.status.note(Timestamp(deployment.created_at.0 + 420), "shifting");
        tell(telling.deployment(&deployment));
        let mut instance = fixtures::instance();
        instance.status.since = Timestamp(deployment.created_at.0 + 300);
        tell(telling.instance(&instance).into_iter().collect());
        tell(telling.instance(&instance).into_iter().collect());
        deployment.status.phase = Phase::Done;
        deployment.status.note(Timestamp(deployment.created_at.0 + 12_500), "done");
        tell(telling.deployment(&deployment));
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_reason_is_told_once_and_time_never_goes_back() {
        let mut deployment = fixtures::deployment();
        let mut telling = Telling::new(&deployment);
        let began = deployment.created_at;
        let mut instance = fixtures::instance();
        instance.status.state = InstanceState::Failed;
        instance.status.reason = Some("exited with code 7".to_owned());
        instance.status.since = Timestamp(began.0 + 300);
        let failed = telling.instance(&instance).unwrap();
        assert!(failed.text.ends_with(": exited with code 7") && failed.at == "+0.30s", "{failed}");
        deployment.status.phase = Phase::Failing;
        deployment.status.note(Timestamp(began.0 + 290), "failing");
        deployment.status.note(Timestamp(began.0 + 290), "instance i-1 of 1.1 failed: exited with code 7");
        let lines = telling.deployment(&deployment);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines.first().unwrap().at, "+0.30s");
        instance.status.state = InstanceState::Stopped;
        assert!(!telling.instance(&instance).unwrap().text.contains("exited"));
    }

    #[test]
    fn goes_on_after_the_history_has_lost_its_beginning() {
        let mut deployment = fixtures::deployment();
        let mut telling = Telling::new(&deployment);
        let mut told = 0;
        for index in 0..HISTORY_ENTRIES + 50 {
            deployment
                .status
                .note(Timestamp(deployment.created_at.0 + index as u64), format!("entry {index}"));
            told += telling.deployment(&deployment).len();
        }
        assert_eq!(told, HISTORY_ENTRIES + 50);
    }
}
