//! Node pools on the wire.

use serde::{Deserialize, Serialize};
use tutti_model::{
    Millis,
    pool::POOL_IDLE,
    quantity::{Bandwidth, ByteSize, MilliCpu},
    scheduling::{Labels, Taint},
    version::Isolate,
};
use utoipa::ToSchema;

/// `PUT /v1/pools/{name}`: the whole of what is asked of a pool. Its commands are in control's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPool {
    /// Fewest machines, kept though nothing needs them.
    #[serde(default)]
    pub min: u32,
    /// Most machines, with those that are being made or removed.
    pub max: u32,
    /// Cpu of one of its machines, such as `2`.
    #[schema(value_type = String)]
    pub cpu: MilliCpu,
    /// Memory of one of its machines, such as `4Gi`.
    #[schema(value_type = String)]
    pub memory: ByteSize,
    /// Bandwidth of one of its machines, such as `1Gbit`; not known without it.
    #[serde(default, skip_serializing_if = "Bandwidth::is_none")]
    #[schema(value_type = Option<String>)]
    pub bandwidth: Bandwidth,
    /// Disk of one of its machines, such as `50Gi`; not known without it.
    #[serde(default, skip_serializing_if = "ByteSize::is_none")]
    #[schema(value_type = Option<String>)]
    pub disk: ByteSize,
    /// What its machines can run; everything without it.
    #[serde(default = "every_isolate")]
    #[schema(value_type = Vec<String>)]
    pub isolates: Vec<Isolate>,
    /// Labels of its nodes, beside `pool`.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    /// Taints of its nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub taints: Vec<Taint>,
    /// How long a machine must not have been needed before it is removed.
    #[serde(default = "usual_idle")]
    #[schema(value_type = String)]
    pub idle: Millis,
}

/// What a machine can run where nobody says.
#[must_use]
pub fn every_isolate() -> Vec<Isolate> {
    Isolate::ALL.into()
}

const fn usual_idle() -> Millis {
    POOL_IDLE
}
