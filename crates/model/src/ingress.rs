//! Ingresses: who must have seen a table before an instance may drain.

use crate::{Kind, resource::Object};
use serde::{Deserialize, Serialize};

/// A living ingress. The object is bound to the ingress's lease and goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IngressSpec {
    /// Where it listens for HTTP.
    pub http: String,
    /// Its release; empty for one that says none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
}

/// What an ingress reports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IngressStatus {
    /// The store revision up to which it has applied every table.
    #[serde(default)]
    pub reached: u64,
}

impl Object for IngressSpec {
    type Status = IngressStatus;
    const KIND: Kind = Kind::Ingress;
}
