//! What a zone's control offers to its agents and ingresses: the one pattern, desired state down by watch and status up
//! by report. In one process it is a call; between machines it is the same over the wire, and neither side knows.

use crate::watch::WatchStream;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Debug};
use tutti_base::SecretValues;
use tutti_model::{
    InstanceId, Problem,
    ingress::IngressSpec,
    instance::{InstanceSpec, InstanceStatus},
    name::NodeName,
    node::{NodeSpec, NodeStatus, Resources},
    quantity::{ByteSize, MilliCpu},
    stats::ServiceStats,
    table::TableSpec,
};

/// Largest body of a report, in bytes. That of an ingress holds its figures by service and version: a histogram takes
/// about 4 KiB when every bucket is filled and some hundred bytes when few are, so that this is thousands of versions.
pub const REPORT_BYTES: usize = 8 * 1024 * 1024;

/// An artifact's manifest or layer, being read.
pub struct Blob {
    /// How many bytes it has.
    pub size: u64,
    /// The bytes in order. It ends early only with a problem.
    pub pieces: BoxStream<'static, Result<Bytes, Problem>>,
}

impl Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("size", &self.size).finish_non_exhaustive()
    }
}

/// What an agent says of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Which instance.
    pub instance: InstanceId,
    /// What it is now.
    pub status: InstanceStatus,
}

/// A node's sign of life, at least every three seconds. Not stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeHeartbeat {
    /// What its instances use now, together.
    pub used: Resources,
    /// Requests that its instances serve now, by instance.
    pub running: Vec<(InstanceId, u32)>,
    /// What it measured, every ten seconds; absent in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<NodeFigures>,
    /// The instances of singletons that it asks leases for; at most
    /// [`LEASES_PER_NODE`](tutti_model::instance::LEASES_PER_NODE).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<InstanceId>,
}

/// What control answers a sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// Those of the instances asked for that may run for one more [`LEASE`](tutti_model::instance::LEASE), counted from
    /// before the heartbeat was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<InstanceId>,
}

/// What a machine uses as a whole, and each instance on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeFigures {
    /// Cpu, of all its processes.
    pub cpu: MilliCpu,
    /// Memory that is in use.
    pub memory: ByteSize,
    /// What is in use of the disk that holds its data.
    pub disk: ByteSize,
    /// Bytes a second that came over its network interfaces.
    pub received: u64,
    /// Bytes a second that went.
    pub sent: u64,
    /// What each instance uses; at most [`MEASURED_INSTANCES`], in the order of their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceFigures>,
}

/// What one instance uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFigures {
    /// Which.
    pub instance: InstanceId,
    /// Cpu.
    pub cpu: MilliCpu,
    /// Memory.
    pub memory: ByteSize,
    /// Requests that it serves now.
    pub running: u32,
}

/// Most instances that a node tells single figures of: at a hundred bytes each they are a small part of a report.
pub const MEASURED_INSTANCES: usize = 1000;

/// What an ingress says each second. The figures are cumulative since it started; `ingress` is new for every start, so
/// that a lost or repeated report changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressReport {
    /// Names this run of this ingress.
    pub ingress: String,
    /// What it is.
    pub spec: IngressSpec,
    /// The store revision up to which it has applied every table.
    pub reached: u64,
    /// Its figures, by service and version; those without a request yet may be left out.
    pub stats: Vec<ServiceStats>,
}

/// What a DNS server says every three seconds. Not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsReport {
    /// Its name: that of its machine.
    pub server: NodeName,
    /// Its release.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
}

/// What nodes and ingresses told one control lately, for the others: who leads decides by all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// The last sign of life of each node.
    pub nodes: Vec<(NodeName, NodeHeartbeat)>,
    /// The last report of each ingress.
    pub ingresses: Vec<IngressReport>,
    /// The last report of each DNS server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<DnsReport>,
    /// The release of the control that tells.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
}

/// The zone's interface for agents and ingresses.
#[async_trait]
pub trait ZoneApi: Send + Sync + Debug + 'static {
    /// Every table, and its changes, after `revision` or from the beginning.
    fn watch_tables(&self, after: Option<u64>) -> WatchStream<TableSpec>;

    /// Every instance of one node, and its changes.
    fn watch_instances(&self, node: &NodeName, after: Option<u64>) -> WatchStream<InstanceSpec>;

    /// One node's own object, and its changes.
    fn watch_node(&self, node: &NodeName, after: Option<u64>) -> WatchStream<NodeSpec>;

    /// Every node, and its changes: where an ingress finds them.
    fn watch_nodes(&self, after: Option<u64>) -> WatchStream<NodeSpec>;

    /// Makes the node known, or says anew what it is. A node whose status is not `ready` gets nothing new to run.
    async fn register_node(&self, node: &NodeName, status: NodeStatus) -> Result<(), Problem>;

    /// Says that the node lives, and asks leases for its singletons. What is not in the answer has none.
    async fn heartbeat(&self, node: &NodeName, heartbeat: NodeHeartbeat) -> Result<HeartbeatAnswer, Problem>;

    /// Says what instances of this node are now; all of them in one transaction. Reports on instances that control no
    /// longer knows are dropped in silence.
    async fn report_instances(&self, node: &NodeName, reports: Vec<InstanceReport>) -> Result<(), Problem>;

    /// The values of the secrets that an instance's version names, by environment variable, as they are now. A node is
    /// given them for its own instances only, and before it starts one.
    ///
    /// # Errors
    /// `not_found` for an instance or a secret that is not there, `forbidden` for another node's instance,
    /// `unavailable` without the key that they are sealed under.
    async fn instance_secrets(&self, node: &NodeName, instance: &InstanceId)
    -> Result<SecretValues, Problem>;

    /// Says that the ingress lives, what it has reached and what it measured. Called each second, and at once after a
    /// table was applied.
    async fn report_ingress(&self, report: IngressReport) -> Result<(), Problem>;

    /// Says that the ingress ends in order, so that nobody waits for it.
    async fn leave_ingress(&self, ingress: &str) -> Result<(), Problem>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::{Join, Renew};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    /// The same from a role of a later release.
    fn later(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let new = ("not_known_yet".to_owned(), json!([1]));
                Value::Object(
                    fields.into_iter().map(|(key, value)| (key, later(value))).chain([new]).collect(),
                )
            }
            Value::Array(items) => items.into_iter().map(later).collect(),
            plain => plain,
        }
    }

    fn decodes<T: DeserializeOwned + Serialize + PartialEq + Debug>(message: Value) {
        let known: T = serde_json::from_value(message.clone()).unwrap();
        assert_eq!(serde_json::from_value::<T>(later(message)).unwrap(), known);
    }

    /// Objects that roles watch are tested where their stored forms are kept.
    #[test]
    fn what_roles_say_to_one_of_an_older_release_is_understood() {
        let instance = "i-0123456789";
        let measured = json!({
            "cpu": 1, "memory": 1, "disk": 1, "received": 1, "sent": 1,
            "instances": [{ "instance": instance, "cpu": 1, "memory": 1, "running": 1 }],
        });
        let heartbeat = json!({ "used": {}, "running": [[instance, 1]], "measured": measured });
        let report = json!({ "ingress": "a", "spec": { "http": "" }, "reached": 1, "stats": [] });
        decodes::<InstanceReport>(json!({ "instance": instance, "status": { "state": "ready" } }));
        decodes::<NodeHeartbeat>(heartbeat.clone());
        decodes::<IngressReport>(report.clone());
        decodes::<DnsReport>(json!({ "server": "a" }));
        let dns = json!([{ "server": "a", "release": "1" }]);
        decodes::<Figures>(json!({ "nodes": [["a", heartbeat]], "ingresses": [report], "dns": dns }));
        decodes::<Join>(json!({ "member": "a", "roles": ["agent"], "request": "" }));
        decodes::<Renew>(json!({ "request": "" }));
    }
}
