//! Quotas: the most that a domain may have. Set by admins; how use is counted is `tutti-plan`'s business, and that it is
//! compared in the transaction that raises it is control's.

use crate::{
    DomainName, Kind,
    quantity::{ByteSize, MilliCpu},
    resource::Object,
};
use serde::{Deserialize, Serialize};

/// The most that one domain may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaSpec {
    /// The domain; the object's `name` is this as text.
    pub domain: DomainName,
    /// What is limited.
    pub limits: Limits,
}

/// Nothing is kept of what is used: it is counted when it is to rise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QuotaStatus {}

impl Object for QuotaSpec {
    type Status = QuotaStatus;
    const KIND: Kind = Kind::Quota;
}

/// What is limited; what is absent is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Most instances that services ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Most cpu of these together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
    /// Most memory of these together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Most versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<u32>,
}

/// What is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Instances that services ask for.
    pub instances: u32,
    /// Cpu of these together.
    pub cpu: MilliCpu,
    /// Memory of these together.
    pub memory: ByteSize,
    /// Versions.
    pub versions: u32,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub const fn and(self, other: Usage) -> Usage {
        Usage {
            instances: self.instances.saturating_add(other.instances),
            cpu: MilliCpu(self.cpu.0.saturating_add(other.cpu.0)),
            memory: ByteSize(self.memory.0.saturating_add(other.memory.0)),
            versions: self.versions.saturating_add(other.versions),
        }
    }
}
