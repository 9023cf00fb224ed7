//! The cluster: its root authority, the authority of each zone, its members, and what admits new ones.

use crate::{
    Digest, Kind, Timestamp,
    member::{MachineRole, Membership},
    name::NodeName,
    node::HostPort,
    resource::Object,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The name of the one object that says which cluster this is.
pub const CLUSTER: &str = "cluster";
/// The name of the one authority of a zone.
pub const AUTHORITY: &str = "members";

/// What is kept of an authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAuthority {
    /// Its certificate, DER in base64.
    pub certificate: String,
    /// Its private key, sealed. The API never shows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sealed_key: String,
}

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// What tells it from every other, as it stands in certificates: 1 to 63 of a-z, 0-9 and hyphens.
    pub id: String,
    /// Its root.
    pub root: KeptAuthority,
}

/// Nothing more is known of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterStatus {}

impl Object for ClusterSpec {
    type Status = ClusterStatus;
    const KIND: Kind = Kind::Cluster;
}

/// The authority of a zone: vouches for its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthoritySpec {
    /// It, below the cluster's root.
    pub issuer: KeptAuthority,
}

/// Nothing more is known of an authority.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuthorityStatus {}

impl Object for AuthoritySpec {
    type Status = AuthorityStatus;
    const KIND: Kind = Kind::Authority;
}

/// A machine of the cluster. The object's name is its.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSpec {
    /// What it runs.
    pub roles: BTreeSet<MachineRole>,
    /// The digest of its public key: who proves to have it is this member.
    pub key: Digest,
    /// Where its control is reached, if it runs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<HostPort>,
    /// The token that admitted it, as its hash: whoever lost the answer may ask again with it. `None` for who has the
    /// store itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_by: Option<Digest>,
}

/// What is known of a member.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Until when its last certificate is good.
    #[serde(default)]
    pub certified_until: Timestamp,
    /// Its release, as it said when it last asked for a certificate.
    #[serde(default)]
    pub release: String,
}

impl Object for MemberSpec {
    type Status = MemberStatus;
    const KIND: Kind = Kind::Member;
}

impl MemberSpec {
    /// How the member of this name is known to others.
    #[must_use]
    pub fn membership(&self, name: NodeName) -> Membership {
        Membership { name, roles: self.roles.clone() }
    }
}

/// What admits one machine, once. The object's name is the hash of the secret, in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenSpec {
    /// Which roles it may be given, at most.
    pub roles: BTreeSet<MachineRole>,
    /// Its name; `None` leaves the choice to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<NodeName>,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// Nothing is kept of a token's use: it goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JoinTokenStatus {}

impl Object for JoinTokenSpec {
    type Status = JoinTokenStatus;
    const KIND: Kind = Kind::JoinToken;
}
