//! Domains: a tenant's namespace and unit of isolation.

use crate::{DomainName, Kind, resource::Object};
use serde::{Deserialize, Serialize};

/// What was asked of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainSpec {
    /// Other names its services answer under.
    #[serde(default)]
    pub aliases: Vec<DomainName>,
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
    /// By `tutti dev`, which trusts its user.
    Vouched,
    /// By a DNS record that was looked up.
    Verified,
}

impl Object for DomainSpec {
    type Status = DomainStatus;
    const KIND: Kind = Kind::Domain;
}
