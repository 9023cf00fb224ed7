//! API tokens: a bearer's rights. The secret itself is never stored.

use crate::{DomainName, Kind, Timestamp, Uid, resource::Object, user::UserName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What a token may do. Roles of the platform have no domain; roles of a domain have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, everywhere.
    Admin,
    /// Everything in its domain.
    Owner,
    /// Push, deploy and operate in its domain.
    Deployer,
    /// Read in its domain.
    Viewer,
}

impl Role {
    /// Every role, from the strongest, which is also their order.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Owner, Role::Deployer, Role::Viewer];

    /// The weaker of two.
    #[must_use]
    pub fn weaker(self, other: Role) -> Role {
        self.max(other)
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Owner => "owner",
            Role::Deployer => "deployer",
            Role::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = crate::Problem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            crate::Problem::invalid(format!("role \"{text}\" is not one of admin, owner, deployer, viewer"))
        })
    }
}

/// What a token grants: everything (an admin's); one role in one domain, whoever holds it (a service's); or what its
/// user may at that moment, which `domain` and `role` narrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSpec {
    /// Whose it is; `None` for an admin's and a service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// What it may do; with a user, at most that.
    pub role: Role,
    /// Where; `None` for [`Role::Admin`], and with a user for all of their domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainName>,
    /// The life of its user, or else of its domain: another one of the same name has nothing from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<Uid>,
    /// When it stops working; `None` never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// SHA-256 of the secret, in hex. The API never shows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// Nothing is kept of a token's use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenStatus {}

impl Object for TokenSpec {
    type Status = TokenStatus;
    const KIND: Kind = Kind::Token;
}
