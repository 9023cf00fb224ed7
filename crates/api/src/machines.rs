//! Machines as an operator sees them: what each runs, of which release, when it was last heard, and what it measured.
//!
//! It is put together when it is asked for, from objects and from what the answering control was told; nothing of it is
//! stored. Clusters call them members; a node or ingress beside `tutti dev` is a machine too.

use crate::zone::NodeFigures;
use serde::{Deserialize, Serialize};
use tutti_model::{Timestamp, member::MachineRole, name::NodeName};

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name: that of its node and member.
    pub name: NodeName,
    /// What it runs.
    pub roles: Vec<RoleContact>,
    /// Whether its control leads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leads: bool,
    /// Where it is reached: its node, else its control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Until when its certificate is good; absent where it has none, or one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified_until: Option<Timestamp>,
    /// When its node last measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<Timestamp>,
    /// What it measured. Lists leave out what each instance uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<NodeFigures>,
}

/// One role of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleContact {
    /// Which.
    pub role: MachineRole,
    /// The release that runs, as it last said; that of its last certificate where it says none itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
    /// When the answering control, or one that tells it, last heard it; absent if it never did since it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
}

/// `GET /v1/machines`: a page of them, in name order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machines {
    /// The control's time: ages are shown by it.
    pub now: Timestamp,
    /// The machines.
    pub items: Vec<Machine>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
