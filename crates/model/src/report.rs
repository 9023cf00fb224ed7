//! Reports: what a zone says of one service. Desired state flows down as an assignment, and this flows back up.

use crate::{
    Kind, ServiceRef, Share, Split, VersionName,
    assignment::Scaled,
    deployment::Failure,
    name::{NodeName, ZoneName},
    resource::Object,
    version::Preparation,
};
use serde::{Deserialize, Serialize};

/// What a zone says of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSpec {
    /// The zone that says it.
    pub zone: ZoneName,
    /// The service.
    pub service: ServiceRef,
    /// The service's round that it acts on.
    pub round: u64,
    /// How far it is with that.
    pub progress: Progress,
    /// The weights that its table holds.
    pub split: Split,
    /// Every version it has instances of, or is to have.
    pub versions: Vec<VersionReport>,
    /// Why it is not further, and what it decided on the way, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The version that its nodes hold ready though nothing runs it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<PreparedReport>,
    /// What it decided for each version whose share the running deployment raises.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deploying: Vec<DeployReport>,
    /// The number of workers that its load asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
}

/// What a zone decided for a version that is being deployed, and how far it is with that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployReport {
    /// The version.
    pub version: VersionName,
    /// Its share.
    pub share: Share,
    /// The workers that serve the service's whole traffic.
    pub whole: u32,
    /// The workers estimated for the share: `max(1, ceil(whole × share))`, more for today's load, at most its `max`.
    pub workers: u32,
    /// The nodes of its instances, in name order; at most [`CANDIDATES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// How many further nodes there are.
    #[serde(default)]
    pub more: u32,
    /// The revision of the table that holds the weights, once it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u64>,
}

/// A node that was found for a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The node.
    pub node: NodeName,
    /// Why it was found, in one sentence; empty if nobody wrote it down.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Whether it holds the version ready; it was asked to either way.
    #[serde(default)]
    pub holds: bool,
}

/// Most nodes of a version that a report names: each becomes two lines of a deployment's history.
pub const CANDIDATES: usize = 8;

/// How far a zone is with holding a version ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedReport {
    /// The version.
    pub version: VersionName,
    /// How far.
    pub preparation: Preparation,
}

/// How far a zone is with an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "at")]
pub enum Progress {
    /// Not every instance has a node.
    Placing,
    /// Nodes pull, verify and compile.
    Preloading,
    /// Instances start, and are probed.
    Starting,
    /// The table is written, and not acknowledged by every living ingress.
    Shifting,
    /// The assigned weights serve, acknowledged.
    Settled,
    /// The assigned weights cannot be reached.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// The instances of one version, by what they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionReport {
    /// The version.
    pub version: VersionName,
    /// How many are to serve.
    pub wanted: u32,
    /// How many are ready to.
    pub ready: u32,
    /// How many are on their way to being ready.
    pub starting: u32,
    /// How many stand by at weight 0.
    pub standby: u32,
    /// How many finish what they serve.
    pub draining: u32,
}

/// Reports have no status: they are one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportStatus {}

impl Object for ReportSpec {
    type Status = ReportStatus;
    const KIND: Kind = Kind::Report;
}

/// The object name of a zone's report on a service.
#[must_use]
pub fn report_name(zone: &ZoneName, service: &ServiceRef) -> String {
    format!("{zone}/{service}")
}
