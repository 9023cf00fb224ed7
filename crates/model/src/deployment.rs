//! Deployments: one rollout of one version to a share of the traffic, as a state machine with a history.
//!
//! ```text
//! placing ─▶ preloading ─▶ starting ─▶ shifting ─▶ observing ─▶ done
//!    ▲  │         │            │           ▲  │         │
//!    │  └─────────┴────────────┴──▶ failing│  └◀────────┤ next step, from placing on
//!    └─────────────────────────────────────┼────────────┘
//!  any of these ──abort or verdict──▶ aborting ─▶ aborted        failing ─▶ failed
//! ```
//!
//! An unfinished deployment is its service's lock. It ends when the last weights are acknowledged by every living
//! ingress, not when the old instances are gone.

use crate::{
    DeploymentId, InstanceId, Kind, Millis, Problem, ServiceRef, Share, Split, Timestamp, VersionName,
    limits, resource::Object,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// What was asked of a deployment. `intent` and `promoted` are the only fields that change after its creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    /// Its id; the object's `name` is this as text.
    pub deployment: DeploymentId,
    /// The service it changes.
    pub service: ServiceRef,
    /// Where it leads.
    pub target: Target,
    /// How long each step but the last is observed; zero with a single step.
    pub every: Millis,
    /// What ends it early.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abort_if: Vec<AbortIf>,
    /// What the user wants of it now.
    pub intent: Intent,
    /// The step up to which it goes on without waiting or judging.
    #[serde(default)]
    pub promoted: u32,
}

/// Where a deployment leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One version, through these shares in turn; at least one, at most [`limits::DEPLOYMENT_STEPS`].
    Version {
        /// The version.
        version: VersionName,
        /// Its share at each step.
        steps: Vec<Share>,
    },
    /// These weights, at once: a rollback.
    Split(Split),
}

impl Target {
    /// How many steps there are.
    #[must_use]
    pub fn steps(&self) -> usize {
        match self {
            Target::Version { steps, .. } => steps.len(),
            Target::Split(_) => 1,
        }
    }

    /// The split that step `index` leads to, from the split the deployment started with.
    #[must_use]
    pub fn split(&self, from: &Split, index: usize) -> Split {
        match self {
            Target::Version { version, steps } => {
                let share = steps.get(index).or(steps.last()).copied().unwrap_or(Share::WHOLE);
                from.with(version, share)
            }
            Target::Split(split) => split.clone(),
        }
    }
}

/// What the user wants of a deployment now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Go on.
    #[default]
    Proceed,
    /// Stay at the weights of now.
    Pause,
    /// Return to the weights from before.
    Abort,
}

/// How far a deployment is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeploymentStatus {
    /// Where in its life it is.
    #[serde(default)]
    pub phase: Phase,
    /// Which step it is at, from 0.
    #[serde(default)]
    pub step: usize,
    /// The split before it began.
    #[serde(default)]
    pub from: Split,
    /// When the step's weights were acknowledged, from which on it is observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_since: Option<Timestamp>,
    /// What it does or waits for now, in one sentence.
    #[serde(default)]
    pub message: String,
    /// Why it failed or was aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What happened, oldest first; at most [`HISTORY_ENTRIES`], the oldest after the first are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Entry>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

/// Most entries in a deployment's history: every phase of every step, and room for pauses.
pub const HISTORY_ENTRIES: usize = 256;

impl DeploymentStatus {
    /// Notes what happened.
    pub fn note(&mut self, at: Timestamp, text: impl Into<String>) {
        if self.history.len() >= HISTORY_ENTRIES {
            self.history.remove(1);
        }
        self.history.push(Entry { at, phase: self.phase, step: self.step, text: text.into() });
    }
}

/// One line of a deployment's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// The phase it was in, or entered.
    pub phase: Phase,
    /// The step it was at.
    pub step: usize,
    /// What happened, in one sentence.
    pub text: String,
}

/// Why a deployment did not reach its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One sentence.
    pub reason: String,
    /// The instance that would not start, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The last lines that instance wrote, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// Where in its life a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nodes are being found for the instances that the step needs.
    #[default]
    Placing,
    /// Nodes pull, verify and compile the artifact.
    Preloading,
    /// Instances start, and are probed until they are ready.
    Starting,
    /// The weights are written, and every living ingress is to acknowledge them.
    Shifting,
    /// The step's weights serve, and are judged.
    Observing,
    /// The weights from before are being restored because the version would not start.
    Failing,
    /// The weights from before are being restored on request, or because the step was judged bad.
    Aborting,
    /// The target is reached.
    Done,
    /// The weights from before are back, because the version would not start.
    Failed,
    /// The weights from before are back, on request or by judgement.
    Aborted,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 10] = [
        Phase::Placing,
        Phase::Preloading,
        Phase::Starting,
        Phase::Shifting,
        Phase::Observing,
        Phase::Failing,
        Phase::Aborting,
        Phase::Done,
        Phase::Failed,
        Phase::Aborted,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Placing => "placing",
            Phase::Preloading => "preloading",
            Phase::Starting => "starting",
            Phase::Shifting => "shifting",
            Phase::Observing => "observing",
            Phase::Failing => "failing",
            Phase::Aborting => "aborting",
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Aborted => "aborted",
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Phase::Done | Phase::Failed | Phase::Aborted)
    }

    /// Whether the weights from before are on their way back.
    #[must_use]
    pub const fn is_undoing(self) -> bool {
        matches!(self, Phase::Failing | Phase::Aborting)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Object for DeploymentSpec {
    type Status = DeploymentStatus;
    const KIND: Kind = Kind::Deployment;
}

/// A condition that ends a deployment early, such as `error_rate>1%` or `p99>500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortIf {
    /// The share of failed answers is above this.
    ErrorRate(Share),
    /// The latency that this many thousandths of the answers do not exceed is above this span.
    Latency {
        /// 500 for p50, 990 for p99, 999 for p99.9.
        per_mille: u64,
        /// The highest allowed.
        above: Millis,
    },
}

const QUANTILES: [(&str, u64); 5] = [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990), ("p99.9", 999)];

impl fmt::Display for AbortIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AbortIf::ErrorRate(share) => write!(f, "error_rate>{share}"),
            AbortIf::Latency { per_mille, above } => {
                let name =
                    QUANTILES.iter().find(|(_, value)| value == per_mille).map_or("p?", |(name, _)| *name);
                write!(f, "{name}>{above}")
            }
        }
    }
}

impl FromStr for AbortIf {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let text = text.trim();
        let Some((metric, bound)) = text.split_once('>') else {
            return Err(Problem::invalid(format!(
                "condition \"{text}\" is not METRIC>BOUND, such as error_rate>1% or p99>500ms"
            )));
        };
        let (metric, bound) = (metric.trim(), bound.trim());
        if metric == "error_rate" {
            return Ok(AbortIf::ErrorRate(bound.parse()?));
        }
        if let Some((_, per_mille)) = QUANTILES.iter().find(|(name, _)| *name == metric) {
            return Ok(AbortIf::Latency { per_mille: *per_mille, above: bound.parse()? });
        }
        let names = ["error_rate", "p50", "p90", "p95", "p99", "p99.9"];
        let problem = Problem::invalid(format!("condition \"{text}\" has the unknown metric \"{metric}\""));
        Err(match crate::nearest::nearest(metric, names) {
            Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
            None => problem.hint(format!("known metrics: {}", names.join(", "))),
        })
    }
}

impl Serialize for AbortIf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AbortIf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Checks the shares of a deployment's steps.
///
/// # Errors
/// `invalid` with none, with a zero share, or if they do not rise; `quota_exceeded` with too many.
pub fn check_steps(steps: &[Share]) -> Result<(), Problem> {
    if steps.is_empty() {
        return Err(Problem::invalid("a deployment needs a share, such as 10%"));
    }
    if steps.len() > limits::DEPLOYMENT_STEPS {
        return Err(Problem::new(
            crate::ErrorCode::QuotaExceeded,
            format!("{} steps are more than {}", steps.len(), limits::DEPLOYMENT_STEPS),
        ));
    }
    if steps.contains(&Share::ZERO) {
        return Err(Problem::invalid("a share of 0% deploys nothing")
            .hint("to take a version out, deploy another to 100%"));
    }
    match steps.windows(2).find(|pair| matches!(pair, [a, b] if b <= a)) {
        Some([a, b]) => Err(Problem::invalid(format!("steps must rise: {b} comes after {a}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_read_back_or_say_what_is_wrong() {
        for text in ["error_rate>1%", "p99>500ms", "p99.9>2s", "p50>10ms"] {
            assert_eq!(text.parse::<AbortIf>().unwrap().to_string(), text);
        }
        assert_eq!(
            "eror_rate>1%".parse::<AbortIf>().unwrap_err().hint.unwrap(),
            "did you mean \"error_rate\"?"
        );
        for text in ["", "p99", "p99<5ms", "p99>", "error_rate>1", "p98>1s"] {
            assert!(text.parse::<AbortIf>().is_err(), "{text}");
        }
    }

    #[test]
    fn steps_must_rise_from_above_zero() {
        let steps = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Share>>();
        assert!(check_steps(&steps(&["1%", "10%", "100%"])).is_ok());
        assert!(check_steps(&steps(&["10%"])).is_ok());
        for bad in [&[][..], &["0%"], &["10%", "10%"], &["50%", "10%"]] {
            assert!(check_steps(&steps(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn history_is_bounded_and_keeps_its_beginning() {
        let mut status = DeploymentStatus::default();
        for index in 0..(HISTORY_ENTRIES as u64 + 10) {
            status.note(Timestamp(index), format!("entry {index}"));
        }
        assert_eq!(status.history.len(), HISTORY_ENTRIES);
        assert_eq!(status.history[0].text, "entry 0");
    }
}
