//! Nodes: machines that run an agent.

use crate::{
    Digest, Kind, Millis, Resource, Timestamp,
    name::NodeName,
    quantity::{Bandwidth, ByteSize, MilliCpu},
    resource::Object,
    scheduling::{LabelKey, LabelValue, Labels, Taint},
    version::{Isolate, VersionSpec},
};
use serde::{Deserialize, Serialize};

mod address;

pub use address::{HostPort, RoleAddress};

/// What was asked of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name; the object's `name` is this as text.
    pub node: NodeName,
    /// Whether it takes no new instances.
    #[serde(default)]
    pub cordoned: bool,
    /// Whether what runs there is to run elsewhere. A node that drains is cordoned too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Labels that operators gave it; one of a key that its agent says too wins.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What keeps instances away that do not tolerate it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Versions that an admin asked it to hold ready, the last asked first; at most [`ASKED_VERSIONS`]. They come before
    /// what the zone chooses by itself in `preload`, which is what the agent follows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<VersionSpec>,
    /// Versions that it is to hold ready to start, though nothing runs them here yet; newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preload: Vec<VersionSpec>,
}

impl NodeSpec {
    /// A node of which nothing is asked yet.
    #[must_use]
    pub const fn new(node: NodeName) -> Self {
        NodeSpec {
            node,
            cordoned: false,
            draining: false,
            labels: Labels::new(),
            taints: Vec::new(),
            asked: Vec::new(),
            preload: Vec::new(),
        }
    }
}

/// Most versions that one node is asked to hold ready beside what the zone chooses; the oldest makes room. Half of all
/// that it holds so, which leaves the other half to what is being pushed.
pub const ASKED_VERSIONS: usize = 8;

/// What a node is, as its agent reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Whether its agent has taken up all it ran before and serves; kept by its lease.
    #[serde(default)]
    pub ready: bool,
    /// When its agent last registered.
    #[serde(default)]
    pub registered_at: Timestamp,
    /// The agent's release.
    #[serde(default)]
    pub release: String,
    /// What it has.
    #[serde(default)]
    pub capacity: Resources,
    /// Labels that its agent says by itself: what the machine is, and what its own settings say.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What its isolates can do here.
    #[serde(default)]
    pub isolates: Vec<Fingerprint>,
    /// Where its proxy is reached; `None` for a node in the same process as its control and ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<RoleAddress>,
    /// What became of the versions that it was to hold ready, in no order; it changes at pushes only. It may still
    /// name some that are not asked for any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
}

/// The key of the label that every node has by itself: its name.
pub const NODE_LABEL: &str = "node";

/// The condition, on a node and on its instances, of whether the node's agent is heard. The zone sets it, when an agent
/// falls silent: what the agent last reported is then no more than that. Absent, it is heard.
pub const HEARD: &str = "Heard";

impl Resource<NodeSpec> {
    /// All labels of this node: those that its agent says, and over them those that operators gave it, and its own name
    /// as `node`, which nobody can take from it.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let mut labels = self.status.labels.clone();
        labels.extend(self.spec.labels.clone());
        if let (Ok(key), Ok(value)) =
            (NODE_LABEL.parse::<LabelKey>(), self.spec.node.as_str().parse::<LabelValue>())
        {
            labels.insert(key, value);
        }
        labels
    }
}

impl<S: Object> Resource<S> {
    /// Since when the agent of this node, or of this instance's node, is silent; `None` while it is heard.
    #[must_use]
    pub fn silent_since(&self) -> Option<Timestamp> {
        self.condition(HEARD).filter(|heard| !heard.met).map(|heard| heard.since)
    }
}

/// What became of one artifact that a node is to hold ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The digest of its OCI manifest.
    pub artifact: Digest,
    /// What became of it.
    pub readiness: Readiness,
}

impl Held {
    /// The artifact, if it is ready to start.
    #[must_use]
    pub const fn ready(&self) -> Option<&Digest> {
        match self.readiness {
            Readiness::Ready { .. } => Some(&self.artifact),
            Readiness::Delayed { .. } | Readiness::Unrunnable { .. } => None,
        }
    }
}

/// Whether an artifact is ready to start on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Readiness {
    /// It starts without being pulled, unpacked or compiled.
    Ready {
        /// What making it so took.
        took: Millis,
    },
    /// It is tried again, and may become ready.
    Delayed {
        /// What went wrong, in one sentence of at most [`READINESS_REASON_CHARS`].
        reason: String,
    },
    /// It cannot be run, however often it is tried.
    Unrunnable {
        /// Why, in one sentence of at most [`READINESS_REASON_CHARS`].
        reason: String,
    },
}

/// Longest reason of a [`Readiness`]: it names what a component exports or lacks, and many must fit into one object.
pub const READINESS_REASON_CHARS: usize = 500;

/// An amount of what instances use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Cpu.
    #[serde(default)]
    pub cpu: MilliCpu,
    /// Memory.
    #[serde(default)]
    pub memory: ByteSize,
    /// Bandwidth; none where it is not known.
    #[serde(default, skip_serializing_if = "Bandwidth::is_none")]
    pub bandwidth: Bandwidth,
    /// Room on the disk that holds its data; none where it is not known.
    #[serde(default, skip_serializing_if = "ByteSize::is_none")]
    pub disk: ByteSize,
}

/// What one isolate can do on a host, found by really doing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Which isolate.
    pub isolate: Isolate,
    /// Whether instances can be run at all.
    pub usable: bool,
    /// Why not, or what is weaker than it should be, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Object for NodeSpec {
    type Status = NodeStatus;
    const KIND: Kind = Kind::Node;
}
