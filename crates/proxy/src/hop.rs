//! The hop from an ingress to the node that runs an instance. In one process it is a call.

use async_trait::async_trait;
use http::{Request, Response};
use std::fmt::Debug;
use tutti_base::Body;
use tutti_model::{InstanceId, ServiceRef, VersionName, name::NodeName};

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HopTarget {
    /// The service.
    pub service: ServiceRef,
    /// The version that was picked.
    pub version: VersionName,
    /// The instance that was picked. The node's proxy may use another of the same version if this one is full.
    pub instance: InstanceId,
}

/// Why a hop gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HopError {
    /// The node does not (or no longer) serve this, and the request reached no instance: it may go elsewhere. The body
    /// is as it was. Over the wire this is 421.
    #[error("{reason}")]
    Misdirected {
        /// Why, in one sentence.
        reason: String,
        /// The untouched request.
        request: Box<Request<Body>>,
    },
    /// Every instance is busy and the queue is full or too slow; the request reached no instance.
    #[error("{reason}")]
    Overloaded {
        /// Why, in one sentence.
        reason: String,
        /// The untouched request.
        request: Box<Request<Body>>,
    },
    /// What runs the instance had no room left, which showed only when the request had gone in: it cannot go elsewhere.
    #[error("{0}")]
    Full(String),
    /// The instance was reached and failed.
    #[error("{0}")]
    Failed(String),
    /// The instance gave no answer in time.
    #[error("no answer within {0}")]
    Timeout(tutti_model::Millis),
}

/// The way to nodes.
#[async_trait]
pub trait Hop: Send + Sync + Debug + 'static {
    /// Sends one request to an instance behind a node's proxy. Dropping the future ends the request there.
    async fn send(
        &self,
        node: &NodeName,
        target: &HopTarget,
        request: Request<Body>,
    ) -> Result<Response<Body>, HopError>;

    /// The nodes that it has connections to, or tries to, in the order of their names. A hop in one process has none.
    fn links(&self) -> Vec<NodeLink> {
        Vec::new()
    }
}

/// The way to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLink {
    /// The node.
    pub node: NodeName,
    /// Connections that are open.
    pub connections: usize,
    /// Why nothing is sent there now.
    pub out: Option<String>,
}
