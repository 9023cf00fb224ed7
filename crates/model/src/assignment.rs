//! Assignments: a zone's part of one service, handed down from the global tier. The zone works from this copy alone.

use crate::{
    DeploymentId, Kind, ServiceRef, Split, Timestamp, resource::Object, route::RouteMatch, service::Upstream,
    version::VersionSpec,
};
use serde::{Deserialize, Serialize};

/// What the zone is to make so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentSpec {
    /// The service; the object's `name` is this as text.
    pub service: ServiceRef,
    /// The number of this hand-down, raised with every change of it; a zone refuses one that is not above what it has.
    pub handed_down: u64,
    /// The service's `round` that this belongs to.
    pub round: u64,
    /// The requests the service takes.
    pub matches: Vec<RouteMatch>,
    /// How its versions are to share the traffic.
    pub split: Split,
    /// Whether to make everything ready for `split` but leave the weights as they are.
    #[serde(default)]
    pub hold: bool,
    /// Everything about each version with a share now, or before the deployment that runs.
    pub versions: Vec<VersionSpec>,
    /// A version that was pushed and not deployed: to be held ready where it would be placed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preload: Option<VersionSpec>,
    /// Plain addresses that serve it, instead of versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
    /// How many workers serve it at its whole traffic.
    pub workers: u32,
    /// Whether the zone may have more of them serve by load; it may not where somebody has set their number.
    #[serde(default)]
    pub scales: bool,
    /// The deployment this hand-down belongs to, for reports and reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// The split before that deployment: a version whose share is below what it was there only gives to the others,
    /// and is not what the deployment is judged by.
    #[serde(default)]
    pub from: Split,
    /// Whether the zone is to remove all it has of the service.
    #[serde(default)]
    pub removed: bool,
}

/// The zone's own notes on an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AssignmentStatus {
    /// How many workers the zone has it served by, where load says another number than was handed down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
}

/// How many workers serve a service's whole traffic by its load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaled {
    /// How many.
    pub workers: u32,
    /// When that was decided.
    pub at: Timestamp,
    /// Why, in one sentence.
    pub why: String,
}

impl Object for AssignmentSpec {
    type Status = AssignmentStatus;
    const KIND: Kind = Kind::Assignment;
}
