//! A rollout as lines that tell it: what the deployment notes and what its instances do, each with its time. Pure.

use crate::{
    text::{count, harmless, moment, offset},
    ui::Tone,
};
use std::collections::BTreeMap;
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
        Telling { began, from: began, last: None, instances: BTreeMap::new() }
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
        let told = new.into_iter().filter(|entry| !is_empty(entry));
        told.map(|entry| self.entry(entry, &deployment.spec)).collect()
    }

    fn entry(&self, entry: &Entry, spec: &DeploymentSpec) -> Line {
        let text = if entry.text == entry.phase.as_str() {
            phase_text(entry.phase, entry.step, spec)
        } else {
            harmless(&entry.text)
        };
        Line { at: self.at(entry.at), word: entry.phase.as_str(), tone: phase_tone(entry.phase), text }
    }

    /// What is new about an instance of the service.
    pub(crate) fn instance(&mut self, instance: &Resource<InstanceSpec>) -> Option<Line> {
        let (id, status) = (&instance.spec.instance, &instance.status);
        if self.instances.insert(id.clone(), status.state) == Some(status.state) || status.since < self.from {
            return None;
        }
        let what = format!("{id} of {} on {}", instance.spec.version.version, instance.spec.node);
        let text = match &status.reason {
            Some(reason) => format!("{what}: {}", harmless(reason)),
            None => what,
        };
        // Before its agent has taken it up there is nothing to tell.
        (status.state != InstanceState::Pending).then(|| Line {
            at: self.at(status.since),
            word: status.state.as_str(),
            tone: state_tone(status.state),
            text,
        })
    }

    fn at(&self, at: Timestamp) -> String {
        offset(at.since(self.began))
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

fn phase_text(phase: Phase, step: usize, spec: &DeploymentSpec) -> String {
    match phase {
        Phase::Placing => match spec.target.steps() {
            0 | 1 => format!("finding nodes for {}", goal(spec, step)),
            steps => format!("step {} of {steps}: finding nodes for {}", step + 1, goal(spec, step)),
        },
        Phase::Preloading => "nodes pull, verify and compile".to_owned(),
        Phase::Starting => "instances start, and are probed until they are ready".to_owned(),
        Phase::Shifting => format!("traffic moves to {}", goal(spec, step)),
        Phase::Observing => format!("{} is observed", goal(spec, step)),
        Phase::Failing | Phase::Aborting => "the weights from before are being restored".to_owned(),
        Phase::Done => format!("{} serves", goal(spec, step)),
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
        Target::Split(split) => split.to_string(),
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
        InstanceState::Stopped => Tone::Dim,
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
    let mut lines = Vec::new();
    if let Some(failure) = why.filter(|failure| !failure.last_lines.is_empty()) {
        let whose = failure.instance.as_ref().map_or_else(|| "an instance".to_owned(), ToString::to_string);
        lines.push(format!("last lines of {whose}:"));
        lines.extend(failure.last_lines.iter().map(|line| format!("  {}", harmless(line))));
    }
    Some((format!("deployment {name} {word}: {}", harmless(&reason)), lines))
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
        format!("; to go back to {split} at once: tutti rollback {}", summary.service)
    });
    Some(format!("{} of {} {stand} by{hint}", count(total, "instance"), versions.join(", ")))
}

/// A history entry in full, for `deployment show`.
pub(crate) fn entry_in_full(entry: &Entry, spec: &DeploymentSpec) -> [String; 3] {
    let text = if entry.text == entry.phase.as_str() {
        phase_text(entry.phase, entry.step, spec)
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
