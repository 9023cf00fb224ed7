//! Tables: how an ingress routes one service. Weights and endpoints are one object, so that no reader ever sees the
//! weights of one moment with the endpoints of another.

use crate::{
    InstanceId, Kind, Millis, ServiceRef, Share, VersionName, name::NodeName, resource::Object,
    route::RouteMatch, service::Upstream,
};
use serde::{Deserialize, Serialize};

/// How requests for one service are served now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// The service; the object's `name` is this as text.
    pub service: ServiceRef,
    /// The requests it takes: its own hosts, its routes, and its gRPC path.
    pub matches: Vec<RouteMatch>,
    /// What serves them.
    pub backend: Backend,
}

/// What serves a service's requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Nothing can, for this reason.
    None {
        /// One sentence for the caller.
        reason: String,
    },
    /// Instances of its versions; the weights add up to the whole.
    Versions(Vec<VersionBackend>),
    /// Plain addresses, in turn.
    Upstreams(Vec<Upstream>),
}

/// One version's part of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionBackend {
    /// The version.
    pub version: VersionName,
    /// Its share of the requests, above zero.
    pub weight: Share,
    /// Requests that one of its instances serves at once.
    pub concurrency: u32,
    /// Longest time to the first byte of an answer.
    pub timeout: Millis,
    /// Where it is served; never empty.
    pub endpoints: Vec<Endpoint>,
}

/// One instance that takes requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// The instance.
    pub instance: InstanceId,
    /// The node whose proxy leads to it.
    pub node: NodeName,
}

/// Tables have no status of their own: who has reached which revision stands with the ingresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableStatus {}

impl Object for TableSpec {
    type Status = TableStatus;
    const KIND: Kind = Kind::Table;
}

impl TableSpec {
    /// The version backends, where the service is served by versions.
    #[must_use]
    pub fn versions(&self) -> &[VersionBackend] {
        match &self.backend {
            Backend::Versions(versions) => versions,
            Backend::None { .. } | Backend::Upstreams(_) => &[],
        }
    }
}
