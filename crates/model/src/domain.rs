//! Domains: a tenant's namespace and unit of isolation, with its members and other names.

mod members;

pub use members::no_invitation;

use crate::{DomainName, Kind, Uid, resource::Object, token::Role, user::UserName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What was asked of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DomainSpec {
    /// Other names its services answer under.
    #[serde(default)]
    pub aliases: Vec<DomainName>,
    /// Who belongs to it, in name order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// One user's place in a domain. A user of the same name made later is another one, and has none of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: UserName,
    /// What they may do here.
    pub role: MemberRole,
    /// Whether they have accepted.
    pub state: MemberState,
}

/// Whether a member has accepted the invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Invited. The name is not looked up: whether there is such a user is not told.
    Pending,
    /// Accepted, by the user with this life.
    Confirmed(Uid),
}

/// What a member may do in a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Everything, members and aliases included.
    Owner,
    /// Push, deploy and operate.
    Deployer,
    /// Read.
    Viewer,
}

impl MemberRole {
    /// Every role, from the strongest.
    pub const ALL: [MemberRole; 3] = [MemberRole::Owner, MemberRole::Deployer, MemberRole::Viewer];
}

impl From<MemberRole> for Role {
    fn from(role: MemberRole) -> Role {
        match role {
            MemberRole::Owner => Role::Owner,
            MemberRole::Deployer => Role::Deployer,
            MemberRole::Viewer => Role::Viewer,
        }
    }
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Role::from(*self).fmt(f)
    }
}

impl FromStr for MemberRole {
    type Err = crate::Problem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        MemberRole::ALL.into_iter().find(|role| Role::from(*role).as_str() == text).ok_or_else(|| {
            crate::Problem::invalid(format!("role \"{text}\" is not one of owner, deployer, viewer"))
        })
    }
}

/// What is known of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DomainStatus {
    /// How its ownership was established; a domain serves only once it is.
    #[serde(default)]
    pub ownership: Ownership,
}

/// How the ownership of a domain was established.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    /// Not yet.
    #[default]
    Unverified,
    /// By an admin, who needs to prove nothing where the settings say so, as in `tutti dev`.
    Vouched,
    /// By a DNS record that was looked up.
    Verified,
}

impl Object for DomainSpec {
    type Status = DomainStatus;
    const KIND: Kind = Kind::Domain;
}
