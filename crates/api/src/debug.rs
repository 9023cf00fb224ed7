//! What roles say of themselves to whoever looks for why nothing moves: a control how its loops fare, an agent what it
//! runs, an ingress what it routes by, a DNS server what it answers by.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use tutti_model::{
    InstanceId, Millis, Resource, Timestamp, VersionRef,
    instance::{Goal, InstanceState},
    name::NodeName,
    node::RoleAddress,
    table::TableSpec,
    version::Isolate,
};

/// The loops of the control that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconcilers {
    /// The control that answers.
    pub control: NodeName,
    /// Its time, which the moments below are to be compared with.
    pub now: Timestamp,
    /// Since when it leads; absent while it does not: then its loops rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_since: Option<Timestamp>,
    /// The control that leads, as the store says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeName>,
    /// Where that one answers, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_address: Option<String>,
    /// Its loops, by name.
    pub loops: Vec<ReconcilerLoop>,
}

/// One loop, since its control has started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcilerLoop {
    /// Its name.
    pub name: String,
    /// Since when the run that is under way runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since: Option<Timestamp>,
    /// When its last whole run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// How long that took.
    pub took: Millis,
    /// The longest that one took.
    pub longest: Millis,
    /// How many runs there were, leaving out those that found nothing to do.
    pub runs: u64,
    /// How often something could not be done. It is tried again.
    pub errors: u64,
    /// The last of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LoopError>,
    /// Objects that are to be looked at as soon as can be.
    pub due: usize,
    /// Objects that are to be looked at later.
    pub later: usize,
}

/// What could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopError {
    /// When.
    pub at: Timestamp,
    /// With what, in words.
    pub object: String,
    /// Why, in one sentence.
    pub text: String,
}

/// Where an agent, an ingress and a DNS server answer on their own sockets: a `GET` is answered with an [`Inspection`].
pub const INSPECT: &str = "/v1/inspect";

/// What a role does, as it knows it itself: also while control is away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Inspection {
    /// An agent.
    Agent(AgentInspection),
    /// An ingress.
    Ingress(IngressInspection),
    /// A DNS server.
    Dns(DnsInspection),
}

/// What an agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInspection {
    /// Its node.
    pub node: NodeName,
    /// Its release.
    pub release: String,
    /// Its time, which the moments below are to be compared with.
    pub now: Timestamp,
    /// Where it looks for control.
    pub control: String,
    /// Whether control has this node as ready.
    pub registered: bool,
    /// Why control refused this node, once it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Instances that it was told to run, by id.
    pub instances: Vec<InspectedInstance>,
}

/// One instance, as its agent knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectedInstance {
    /// Its id.
    pub instance: InstanceId,
    /// What it runs.
    pub version: VersionRef,
    /// How it is run.
    pub isolate: Isolate,
    /// What it is to do.
    pub goal: Goal,
    /// Where in its life it is.
    pub state: InstanceState,
    /// Since when.
    pub since: Timestamp,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it runs now.
    pub runs: bool,
    /// Requests inside it.
    pub requests: u32,
    /// Whether control has not heard of its state yet.
    pub unsaid: bool,
}

/// What an ingress routes by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IngressInspection {
    /// What this run of it is called.
    pub name: String,
    /// Its release.
    pub release: String,
    /// Where it listens.
    pub http: String,
    /// Where it looks for control.
    pub control: String,
    /// The revision up to which control's tables are applied; 0 while it serves by those of its folder.
    pub reached: u64,
    /// Whether control has told it its nodes since it started.
    pub nodes_known: bool,
    /// Its tables, by service.
    pub tables: Vec<Resource<TableSpec>>,
    /// Nodes that it may send to, by name.
    pub nodes: Vec<InspectedNode>,
}

/// One node, as an ingress knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectedNode {
    /// Its name.
    pub node: NodeName,
    /// Where it is reached.
    pub address: RoleAddress,
    /// Why nothing is sent there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
}

/// What a DNS server answers by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsInspection {
    /// What it is called.
    pub name: NodeName,
    /// Its release.
    pub release: String,
    /// Where it listens.
    pub dns: String,
    /// Where it looks for control.
    pub control: String,
    /// Whether control has told it hosts and ingresses since it started; else it answers by those of its folder.
    pub told: bool,
    /// The names that it answers for, with all below.
    pub zones: Vec<String>,
    /// Hosts below them that services answer to.
    pub hosts: Vec<String>,
    /// Where they lead.
    pub addresses: Vec<IpAddr>,
    /// Questions that it was asked since it started, over UDP and TCP.
    pub questions: u64,
}
