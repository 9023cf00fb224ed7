//! Claims: somebody says that a domain is theirs, and has not proved it yet.
//!
//! A claim says nothing of whether the domain is registered: anyone may claim anything, and only who can set a record
//! in its DNS learns more.

use crate::{DomainName, Kind, Millis, Timestamp, resource::Object, user::UserName};
use serde::{Deserialize, Serialize};

/// The label below which the record of a proof stands, so that it disturbs none of the domain's own.
pub const CHALLENGE_LABEL: &str = "_tutti-challenge";
/// How a proof's text begins.
pub const PROOF_PREFIX: &str = "tutti-verify=";
/// How long a claim can be proved: the time that changes to a company's DNS take, and then some.
pub const CLAIM_LIFE: Millis = Millis::seconds(30 * 24 * 3600);

/// What is claimed, by whom, and what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSpec {
    /// The domain.
    pub domain: DomainName,
    /// The domain that it is to be an alias of; without it, it becomes a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<DomainName>,
    /// The user who claims it; `None` for a token that is nobody's, such as an admin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// What the name of the record must be.
    pub record: String,
    /// What the record must say. Random for each claim, so that one's record proves no other's claim.
    pub text: String,
    /// When it can no longer be proved.
    pub expires_at: Timestamp,
}

/// Nothing is known of a claim before it is proved, and then it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClaimStatus {}

impl Object for ClaimSpec {
    type Status = ClaimStatus;
    const KIND: Kind = Kind::Claim;
}

/// The name of the record that proves a domain.
#[must_use]
pub fn record(domain: &DomainName) -> String {
    format!("{CHALLENGE_LABEL}.{domain}")
}

/// A reserved other name of a domain, so that it is nobody else's; the list stands with the domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasSpec {
    /// The domain whose alias it is; the object's `name` is the alias.
    pub domain: DomainName,
}

/// Nothing is known of an alias beyond its spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AliasStatus {}

impl Object for AliasSpec {
    type Status = AliasStatus;
    const KIND: Kind = Kind::Alias;
}
