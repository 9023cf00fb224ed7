//! Node pools: machines that an operator's commands make when nothing fits, and remove when nothing needs them. What is to
//! be made or removed is decided in `tutti-plan`; the commands themselves are never here, but in the settings of control.

use crate::{
    Kind, Millis, Problem, Timestamp,
    name::{NodeName, is_dns_label, plain_name, text_type},
    node::Resources,
    resource::Object,
    scheduling::{Labels, Taint},
    version::Isolate,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Most machines of one pool: all of them stand in one object.
pub const POOL_MACHINES: u32 = 100;
/// Most pools of a zone: each is looked at with every waiting instance.
pub const POOLS: usize = 16;
/// Longest name of a pool: its machines have it and a suffix, within a node's 63.
const POOL_NAME_BYTES: usize = 50;
/// The key of the label that the nodes of a pool have by themselves: the pool's name.
pub const POOL_LABEL: &str = "pool";
/// How long a machine is idle before it is removed, where nobody says.
pub const POOL_IDLE: Millis = Millis::seconds(600);

/// The name of a pool: a DNS label of at most 50 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(String);
plain_name!(PoolName);

impl FromStr for PoolName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if is_dns_label(text) && text.len() <= POOL_NAME_BYTES {
            return Ok(PoolName(text.to_owned()));
        }
        Err(Problem::invalid(format!(
            "pool \"{text}\" is not 1 to {POOL_NAME_BYTES} of a-z, 0-9 and inner hyphens"
        )))
    }
}

/// What was asked of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Its name; the object's `name` is this as text.
    pub pool: PoolName,
    /// Fewest machines, kept though nothing needs them.
    pub min: u32,
    /// Most machines, with those that are being made or removed.
    pub max: u32,
    /// What one of its machines has, which is what it is made for before it is there.
    pub offers: Resources,
    /// The isolates that its machines can run.
    pub isolates: Vec<Isolate>,
    /// Labels of its nodes, beside `pool`.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Taints of its nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// How long a machine must not have been needed before it is removed.
    pub idle: Millis,
}

/// The machines of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolStatus {
    /// In the order in which they were asked for.
    #[serde(default)]
    pub machines: Vec<PoolMachine>,
}

impl Object for PoolSpec {
    type Status = PoolStatus;
    const KIND: Kind = Kind::Pool;
}

/// One machine of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMachine {
    /// Its name, and its node's.
    pub name: NodeName,
    /// How far it is.
    pub state: MachineState,
    /// Since when.
    pub since: Timestamp,
    /// Why it is so, in one sentence.
    pub why: String,
    /// Whether somebody drained its node by hand: then it goes, though something may need it again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    /// Since when nothing needs it; `None` while something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// What went wrong with it last, until it goes well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<MachineFailure>,
}

/// How far a machine of a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Its make command is to run, or runs.
    Making,
    /// It was made, and its agent has not been heard yet.
    Joining,
    /// Its node takes instances.
    Joined,
    /// What it runs goes elsewhere.
    Draining,
    /// Its remove command is to run, or runs.
    Removing,
}

impl MachineState {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            MachineState::Making => "making",
            MachineState::Joining => "joining",
            MachineState::Joined => "joined",
            MachineState::Draining => "draining",
            MachineState::Removing => "removing",
        }
    }

    /// Whether it is on its way to be a node.
    #[must_use]
    pub const fn is_coming(self) -> bool {
        matches!(self, MachineState::Making | MachineState::Joining)
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong with a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFailure {
    /// How often in a row.
    pub attempts: u32,
    /// What was wrong last, of at most [`FAILURE_CHARS`].
    pub reason: String,
    /// When it is tried again.
    pub again_at: Timestamp,
}

/// Longest reason of a [`MachineFailure`]: a pool's worth of them must fit one object.
pub const FAILURE_CHARS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn a_pool_of_the_most_machines_fits_one_object() {
        let machine = PoolMachine {
            name: "m".repeat(63).parse().unwrap(),
            state: MachineState::Making,
            since: Timestamp(u64::MAX),
            why: "w".repeat(FAILURE_CHARS),
            by_hand: true,
            idle_since: Some(Timestamp(u64::MAX)),
            failure: Some(MachineFailure {
                attempts: u32::MAX,
                reason: "\"".repeat(FAILURE_CHARS),
                again_at: Timestamp(u64::MAX),
            }),
        };
        let most = usize::try_from(POOL_MACHINES).unwrap();
        let status = PoolStatus { machines: vec![machine; most] };
        // The other half is for what was asked: at most 64 labels and taints.
        assert!(serde_json::to_vec(&status).unwrap().len() < limits::STORE_VALUE_BYTES * 3 / 4);
    }

    #[test]
    fn a_pools_name_leaves_room_for_its_machines() {
        assert!("burst".parse::<PoolName>().is_ok());
        assert!("b".repeat(51).parse::<PoolName>().is_err());
        assert!("Burst".parse::<PoolName>().is_err());
    }
}
