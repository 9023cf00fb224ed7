//! The contract of every driver.

use async_trait::async_trait;
use std::{fmt::Debug, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::sync::watch;
use tutti_base::{Body, SecretValues, Uptime};
use tutti_model::{
    Digest, InstanceId, Millis, Problem, VersionRef, manifest::Manifest, node::Fingerprint, version::Isolate,
};

/// An artifact on this machine's disk, every byte checked against its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The digest of its OCI manifest.
    pub digest: Digest,
    /// Its layers, in order. A component and a program archive have exactly one.
    pub layers: Vec<Layer>,
}

/// One layer of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its media type, such as `application/wasm`.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes.
    pub size: u64,
    /// Where they are; read-only.
    pub path: PathBuf,
}

/// Where an agent gets artifacts from: the registry in the same process, or one that it pulls from.
#[async_trait]
pub trait Artifacts: Send + Sync + Debug {
    /// Brings the artifact to this machine, if it is not there, and checks it.
    ///
    /// # Errors
    /// `not_found` if the registry has none, `unavailable` if it does not answer, `invalid` for wrong bytes.
    async fn fetch(&self, digest: &Digest) -> Result<Artifact, Problem>;
}

/// What a driver is given to start an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct StartSpec {
    /// The instance.
    pub instance: InstanceId,
    /// What it runs.
    pub version: VersionRef,
    /// The artifact, preloaded before.
    pub artifact: Artifact,
    /// The version's manifest.
    pub manifest: Manifest,
    /// The secrets that it is to have in its environment. Only a start needs them: a driver keeps them nowhere but in
    /// what it starts.
    pub secrets: SecretValues,
    /// For an instance of a singleton: when it is to be killed, whatever becomes of its agent, unless it is
    /// [extended](Running::extend) before. A driver that cannot promise that refuses to start it.
    pub until: Option<Uptime>,
    /// Where the instance may keep files of its own; the driver makes and removes it.
    pub folder: PathBuf,
    /// Where its log segments go (see the crate `tutti-logs`).
    pub logs: PathBuf,
}

/// What became of running instances when their agent was killed and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// They ran on, undisturbed.
    Undisturbed,
    /// They went with the agent and are to be started again.
    Gone,
}

/// How an instance is reached.
#[derive(Clone)]
pub enum Target {
    /// Over HTTP at this address, without TLS.
    Address(SocketAddr),
    /// By a call.
    Handler(Arc<dyn Handler>),
}

impl Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Address(address) => write!(f, "Address({address})"),
            Target::Handler(_) => f.write_str("Handler"),
        }
    }
}

/// Serves one request inside an isolate.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Answers one request. Dropping the future ends the request in the isolate.
    async fn handle(&self, request: http::Request<Body>) -> Result<http::Response<Body>, HandleError>;
}

/// Why a handler gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// The guest ended abnormally.
    #[error("the service failed: {0}")]
    Trap(String),
    /// The guest used more time than it may.
    #[error("the service exceeded its time limit")]
    Time,
    /// The guest used more memory than it may.
    #[error("the service exceeded its memory limit")]
    Memory,
    /// The isolate has no room for another request now.
    #[error("the isolate is full: {0}")]
    Full(String),
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// In words: `exited with code 1`, `killed by signal 9 (SIGKILL): out of memory`.
    pub text: String,
}

/// What an instance uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of memory.
    pub memory: u64,
    /// Cpu time since its start, in microseconds.
    pub cpu_micros: u64,
}

/// Why a driver could not do something.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The artifact or the manifest cannot be run, and trying again would not help.
    #[error("{0}")]
    Unrunnable(String),
    /// The host refused; trying again may help.
    #[error("{what}")]
    Host {
        /// What was being done, with the object's name.
        what: String,
        /// What the host said.
        #[source]
        source: std::io::Error,
    },
}

impl DriverError {
    /// The whole chain of causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        match self {
            DriverError::Unrunnable(text) => text.clone(),
            DriverError::Host { what, source } => format!("{what}: {source}"),
        }
    }
}

/// A running instance. Dropping the handle leaves the instance running where the driver's recovery is
/// [`Recovery::Undisturbed`].
#[async_trait]
pub trait Running: Send + Sync + Debug {
    /// How it is reached.
    fn target(&self) -> Target;

    /// Becomes `Some` when it has ended, however it did.
    fn exit(&self) -> watch::Receiver<Option<Exit>>;

    /// Ends it: asks, waits up to `grace`, then forces. Returns once it is gone; at once if it already is.
    async fn stop(&self, grace: Millis) -> Exit;

    /// Moves on the end of one that was started with [`StartSpec::until`]; it is never brought nearer. If it cannot be told,
    /// it ends when it was to before.
    async fn extend(&self, until: Uptime);

    /// What it uses now.
    async fn usage(&self) -> Usage;

    /// What this host could not enforce for it, one sentence each.
    fn weaker(&self) -> Vec<String>;
}

/// Runs the instances of one isolate.
#[async_trait]
pub trait Driver: Send + Sync + Debug {
    /// Which isolate this is.
    fn isolate(&self) -> Isolate;

    /// What this host can do, found by really doing it.
    async fn fingerprint(&self) -> Fingerprint;

    /// Makes an artifact ready to start at once: checked, unpacked, compiled. Idempotent.
    async fn preload(&self, artifact: &Artifact) -> Result<(), DriverError>;

    /// Starts an instance of a preloaded artifact. It is not ready yet when this returns, only running.
    async fn start(&self, spec: &StartSpec) -> Result<Arc<dyn Running>, DriverError>;

    /// What a killed agent finds of its instances.
    fn recovery(&self) -> Recovery;

    /// Takes an instance up again that an earlier agent had started; `None` if it is gone without a trace. One that
    /// ended meanwhile is given with its exit.
    async fn recover(&self, spec: &StartSpec) -> Result<Option<Arc<dyn Running>>, DriverError>;

    /// Removes all that was kept for an instance that has ended.
    async fn remove(&self, spec: &StartSpec) -> Result<(), DriverError>;
}
