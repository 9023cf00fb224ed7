//! Instances: one running copy of a version on a node.

use crate::{
    Digest, InstanceId, Kind, Millis, Timestamp, VersionRef,
    manifest::Manifest,
    name::NodeName,
    resource::Object,
    version::{Isolate, VersionSpec},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How long an instance of a [singleton](Manifest::singleton) may run on after its node asked for its lease and was given
/// it: six heartbeats, so that it outlives a few lost ones and a change of control. Its node counts from before it asked.
pub const LEASE: Millis = Millis::seconds(15);

/// How long control waits, beyond [`LEASE`], until it takes an instance that it gives no more leases for ended: for a kill
/// to take effect, and for clocks that run at different speeds.
pub const LEASE_MARGIN: Millis = Millis::seconds(2);

/// Most leases that one heartbeat asks for: each is a read of the store.
pub const LEASES_PER_NODE: usize = 64;

/// What control wants of an instance. Everything an agent needs to run it is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Its id; the object's `name` is this as text.
    pub instance: InstanceId,
    /// What it runs.
    pub version: VersionRef,
    /// The digest of the OCI manifest.
    pub artifact: Digest,
    /// How it is run.
    pub isolate: Isolate,
    /// The version's manifest.
    pub manifest: Manifest,
    /// Where it runs.
    pub node: NodeName,
    /// What it is to do.
    pub goal: Goal,
    /// Why it runs on this node and not on another, in one sentence, from when it was placed; empty for one that an older
    /// release placed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub placed: String,
}

impl InstanceSpec {
    /// What it runs, for when the version's own object is not at hand. The size of the artifact is not known here.
    #[must_use]
    pub fn version_spec(&self) -> VersionSpec {
        VersionSpec {
            version: self.version.clone(),
            artifact: self.artifact.clone(),
            size: 0,
            isolate: self.isolate,
            manifest: self.manifest.clone(),
        }
    }
}

/// What an instance is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "goal")]
pub enum Goal {
    /// Run and take requests.
    Serve,
    /// Run, at weight 0, until then; rollback takes it back at once.
    Standby {
        /// When it is to drain.
        until: Timestamp,
    },
    /// Refuse new requests, finish the running ones, then stop, at the latest after the manifest's `drain`.
    Drain,
    /// Stop now.
    Stop,
}

impl Goal {
    /// Whether the instance is to be up.
    #[must_use]
    pub const fn runs(self) -> bool {
        matches!(self, Goal::Serve | Goal::Standby { .. })
    }
}

/// What an instance is, as its agent reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Where in its life it is.
    #[serde(default)]
    pub state: InstanceState,
    /// The generation that the agent acts on.
    #[serde(default)]
    pub observed_generation: u64,
    /// Since when `state` is what it is.
    #[serde(default)]
    pub since: Timestamp,
    /// How often it was started again after it had ended by itself.
    #[serde(default)]
    pub restarts: u32,
    /// Why it is not ready, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last lines it wrote before it failed, oldest first; at most [`crate::limits::FAILURE_LOG_LINES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
    /// What its isolate cannot enforce on this host, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weaker: Vec<String>,
}

/// Where in its life an instance is.
///
/// ```text
/// pending ─▶ preloading ─▶ starting ─▶ ready ─▶ draining ─▶ stopped
///                │             │         │ ▲
///                │             │         │ └──▶ asleep
///                └──▶ failed ◀─┴─▶ backoff ◀┘   (backoff ─▶ starting)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Its agent has not taken it up yet.
    #[default]
    Pending,
    /// Its artifact is being pulled, verified and compiled.
    Preloading,
    /// It was started and is not ready yet.
    Starting,
    /// It answers its probe.
    Ready,
    /// It was not asked for a while, and does not run: its node starts it for the next request, which waits meanwhile.
    Asleep,
    /// It ended or failed its probe, and is started again after a pause (a crash loop, from the second time on).
    Backoff,
    /// It cannot run, and trying again would not help.
    Failed,
    /// It finishes what it serves.
    Draining,
    /// It is gone.
    Stopped,
}

impl InstanceState {
    /// Every state, in the order of a life.
    pub const ALL: [InstanceState; 9] = [
        InstanceState::Pending,
        InstanceState::Preloading,
        InstanceState::Starting,
        InstanceState::Ready,
        InstanceState::Asleep,
        InstanceState::Backoff,
        InstanceState::Failed,
        InstanceState::Draining,
        InstanceState::Stopped,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            InstanceState::Pending => "pending",
            InstanceState::Preloading => "preloading",
            InstanceState::Starting => "starting",
            InstanceState::Ready => "ready",
            InstanceState::Asleep => "asleep",
            InstanceState::Backoff => "backoff",
            InstanceState::Failed => "failed",
            InstanceState::Draining => "draining",
            InstanceState::Stopped => "stopped",
        }
    }

    /// Whether a request that is sent to it is answered: one that is asleep wakes for it.
    #[must_use]
    pub const fn answers(self) -> bool {
        matches!(self, InstanceState::Ready | InstanceState::Asleep)
    }

    /// Whether a report may move an instance from this state to `next`. A state may always be reported again.
    #[must_use]
    pub const fn may_become(self, next: InstanceState) -> bool {
        use InstanceState as S;
        match (self, next) {
            // Nothing comes back from the dead; a new copy is a new instance.
            (S::Stopped, S::Stopped) => true,
            (S::Stopped, _) => false,
            (_, S::Stopped) => true,
            (S::Draining, S::Draining) => true,
            (S::Draining, _) => false,
            (S::Failed, S::Failed | S::Draining) => true,
            (S::Failed, _) => false,
            // An agent that restarts takes what it finds from the start again.
            _ => true,
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Object for InstanceSpec {
    type Status = InstanceStatus;
    const KIND: Kind = Kind::Instance;
}
