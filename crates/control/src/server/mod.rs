//! The API over HTTP: who calls, whether they may, and what is answered.
//!
//! Every operation of [`tutti_api::operations::OPERATIONS`] has one handler in [`dispatch`]'s table and goes the same
//! way: request id, bearer ([`identity`]), the object's domain ([`subject`]), the right, a remembered answer
//! ([`replay`]), the handler, one line of audit. Handlers change objects and nothing else: what follows from a change
//! is the reconcilers' business, and how bytes of artifacts are stored the registry's.

pub(crate) mod audit;
mod audits;
mod call;
mod claims;
mod debug;
mod defaults;
mod deployments;
mod dispatch;
mod dns;
mod domains;
mod events;
mod explain;
mod facts;
mod grpc;
mod identity;
mod joins;
mod lists;
mod logs;
mod machines;
mod members;
mod metrics;
mod names;
mod newest;
mod nodes;
mod pools;
mod preload;
mod quotas;
mod registry;
mod replay;
mod reply;
mod routes;
mod secrets;
mod serve;
mod services;
mod status;
mod streams;
mod subject;
mod system;
mod tokens;
mod users;
mod versions;
mod watches;
mod zone;

#[cfg(test)]
mod tests;

use crate::{Objects, cluster::Cluster, observed::Observed, reconcile::loops::Loops};
use async_trait::async_trait;
use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tutti_api::{ZoneApi, dns::TxtLookup, logs::LogSource, zone::Blob};
use tutti_base::Tasks;
use tutti_model::{Digest, Problem, ServiceRef, Timestamp, name::NodeName};
use tutti_pki::MemberTable;
use tutti_seal::Keyring;

pub use defaults::{ensure_admin_token, ensure_defaults, is_admin_token, make_admin_token};
pub use serve::{serve, serve_socket, serve_tls};

/// Which artifacts have been pushed.
#[async_trait]
pub trait ArtifactIndex: Send + Sync + Debug + 'static {
    /// Whether the OCI manifest `artifact` was pushed to the repository of `service`. It asks for the repository too,
    /// so that knowing a digest is not enough to run another domain's bytes.
    async fn exists(&self, service: &ServiceRef, artifact: &Digest) -> Result<bool, Problem>;
}

/// Where the bytes of artifacts are read from, whatever repository they were pushed to: for agents, which fetch what
/// they were told to run.
#[async_trait]
pub trait BlobSource: Send + Sync + Debug + 'static {
    /// A manifest or layer; `None` if it is not there.
    async fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Problem>;
}

/// What the API needs.
pub struct ServerOptions {
    /// What this control is called.
    pub control: NodeName,
    /// The objects.
    pub objects: Objects,
    /// The zone's interface, for agents and ingresses that are not in this process.
    pub zone: Arc<dyn ZoneApi>,
    /// What nodes and ingresses told this control, and others told it of theirs.
    pub observed: Observed,
    /// How the loops of this control fare.
    pub loops: Loops,
    /// The artifacts that agents fetch.
    pub blobs: Arc<dyn BlobSource>,
    /// What secrets are sealed with.
    pub keyring: Keyring,
    /// Where log lines are read from.
    pub logs: Arc<dyn LogSource>,
    /// The routes below `/v2`. They are called only once the caller's right is checked.
    pub registry: axum::Router,
    /// What `/metrics` answers beside what control knows itself: families of other roles of this process and of its
    /// store, without the closing line.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// What else of this control is not as it should be, one sentence each, for `/v1/status`.
    pub troubles: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Which artifacts there are.
    pub artifacts: Arc<dyn ArtifactIndex>,
    /// The release, as `/v1/release` answers it.
    pub release: String,
    /// Whether a domain that an admin creates needs no proof, as in dev.
    pub vouch: bool,
    /// Where proofs of ownership are looked up.
    pub txt: Arc<dyn TxtLookup>,
    /// Who is a member, and so may act for its own node or ingress; `None` where there are no members, as in dev.
    pub members: Option<Arc<MemberTable>>,
    /// The cluster, which vouches for members; `None` where there is none, as in dev.
    pub cluster: Option<Cluster>,
    /// Suffixes under which every service answers by itself, as `LABEL.DOMAIN.SUFFIX`; `localhost` in dev.
    pub host_suffixes: Vec<String>,
    /// Where the watch over tokens runs, and whose end ends watches and followed logs.
    pub tasks: Tasks,
}

impl Debug for ServerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerOptions").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// What every handler may use.
struct App {
    control: NodeName,
    objects: Objects,
    zone: Arc<dyn ZoneApi>,
    observed: Observed,
    loops: Loops,
    blobs: Arc<dyn BlobSource>,
    keyring: Keyring,
    logs: Arc<dyn LogSource>,
    registry: axum::Router,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    troubles: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    artifacts: Arc<dyn ArtifactIndex>,
    release: String,
    vouch: bool,
    txt: Arc<dyn TxtLookup>,
    /// Proofs that are being looked up.
    lookups: Semaphore,
    cluster: Option<Cluster>,
    host_suffixes: Vec<String>,
    identity: identity::Identity,
    /// The services of gRPC that need no token.
    grpc: grpc::Services,
    streams: streams::Streams,
    /// Watches and blobs of nodes and ingresses.
    node_streams: streams::Streams,
    /// Requests under way, those that wait for their turn or body included.
    under_way: streams::Streams,
    replays: replay::Replays,
    /// Requests that are being done, each with its body in memory.
    requests: Semaphore,
    /// Those of nodes and ingresses.
    node_requests: Semaphore,
    /// The OpenAPI document: anyone may ask for it, and it never changes.
    openapi: OnceLock<serde_json::Value>,
    stopping: CancellationToken,
    /// When it began to answer.
    started: Timestamp,
    /// Figures are gathered for one asker at a time.
    gathering: tokio::sync::Mutex<()>,
}

/// The whole API. It must be called inside a runtime: the watch over tokens starts at once.
pub fn router(options: ServerOptions) -> axum::Router {
    let started = options.objects.clock().now();
    let identity = identity::Identity::start(&options.objects, options.members, &options.tasks);
    dispatch::router(Arc::new(App {
        control: options.control,
        objects: options.objects,
        zone: options.zone,
        observed: options.observed,
        loops: options.loops,
        blobs: options.blobs,
        keyring: options.keyring,
        logs: options.logs,
        registry: options.registry,
        metrics: options.metrics,
        troubles: options.troubles,
        artifacts: options.artifacts,
        release: options.release,
        vouch: options.vouch,
        txt: options.txt,
        lookups: Semaphore::new(claims::LOOKUPS),
        cluster: options.cluster,
        host_suffixes: options.host_suffixes,
        identity,
        grpc: grpc::Services::new(),
        streams: streams::Streams::open_answers(),
        node_streams: streams::Streams::of_nodes(),
        under_way: streams::Streams::requests(),
        replays: replay::Replays::default(),
        requests: Semaphore::new(dispatch::REQUESTS),
        node_requests: Semaphore::new(dispatch::NODE_REQUESTS),
        openapi: OnceLock::new(),
        stopping: options.tasks.stopping(),
        started,
        gathering: tokio::sync::Mutex::default(),
    }))
}
