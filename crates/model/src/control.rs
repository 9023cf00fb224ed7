//! What controls of a zone tell each other through the store: which of them reconciles, and which nodes are heard.
//! Both objects are bound to leases and go with them, so that nobody has to be believed for longer than that.

use crate::{Kind, name::NodeName, resource::Object};
use serde::{Deserialize, Serialize};

/// The name of the one object that says who leads.
pub const LEADER: &str = "reconcilers";

/// The control whose reconcilers run. Every write of theirs compares this object's revision, so that one that has been
/// followed by another can write nothing any more, however late it notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderSpec {
    /// Its name.
    pub control: NodeName,
}

/// Nothing more is known of a leader than that it is one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeaderStatus {}

impl Object for LeaderSpec {
    type Status = LeaderStatus;
    const KIND: Kind = Kind::Leader;
}

/// A node that is heard. The object's name is the node's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceSpec {
    /// The node.
    pub node: NodeName,
}

/// Nothing more is known of a presence than that it is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PresenceStatus {}

impl Object for PresenceSpec {
    type Status = PresenceStatus;
    const KIND: Kind = Kind::Presence;
}
