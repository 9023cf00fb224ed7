//! Nodes: machines that run an agent.

use crate::{
    Kind, Timestamp,
    name::NodeName,
    quantity::{ByteSize, MilliCpu},
    resource::Object,
    version::{Isolate, VersionSpec},
};
use serde::{Deserialize, Serialize};

/// What was asked of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Its name; the object's `name` is this as text.
    pub node: NodeName,
    /// Whether it takes no new instances.
    #[serde(default)]
    pub cordoned: bool,
    /// Versions that it is to hold ready to start, though nothing runs them here yet; newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preload: Vec<VersionSpec>,
}

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
    /// What its isolates can do here.
    #[serde(default)]
    pub isolates: Vec<Fingerprint>,
}

/// An amount of what instances use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Cpu.
    #[serde(default)]
    pub cpu: MilliCpu,
    /// Memory.
    #[serde(default)]
    pub memory: ByteSize,
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
