//! The way in: serves the HTTP port, finds the service of each request by host and path, the version by weight and the
//! instance by load, and sends the request there.
//!
//! It reads routing tables from the zone's control by watch, keeps the last ones in a file, and serves from what it
//! last knew for as long as control is away. It decides nothing: weights and endpoints come from the tables. Forwarding
//! itself is `tutti-proxy`'s.
//!
//! - [`table`]: tables, as requests find them; [`balance`]: one service's versions and instances; [`request`]: what
//!   happens to one request; [`watch`]: how tables come in; [`nodes`]: where nodes are
//!   reached; [`report`]: what is said to control; [`stats`]: what is
//!   counted; [`metrics`]: the same, for Prometheus.

mod balance;
mod identity;
mod inspect;
mod metrics;
mod nodes;
mod report;
mod request;
mod snapshot;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod turn;
mod watch;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch::Sender},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tutti_api::ZoneApi;
use tutti_base::{Clock, Random, Tasks};
use tutti_model::{Problem, Timestamp, stats::ServiceStats};
use tutti_proxy::{
    ConnInfo, Hop, Limits, Pool, PoolOptions, resolve::Resolver, serve_tracked, wire::NodeBook,
};

/// How long leaving may take; after it control learns from the ended lease.
const LEAVE: Duration = Duration::from_secs(2);

/// What an ingress is made of.
#[derive(Debug)]
pub struct IngressOptions {
    /// Names this run of this ingress: no other that lives may have it. New for every start, unless whoever had it is
    /// known to be dead.
    pub name: String,
    /// The bound HTTP port.
    pub http: TcpListener,
    /// The addresses by which clients reach it, where they are others than it listens on.
    pub public: Vec<IpAddr>,
    /// The way to nodes.
    pub hop: Arc<dyn Hop>,
    /// Where nodes in other processes are reached, for `hop`: kept up to date from here.
    pub nodes: Arc<NodeBook>,
    /// The zone's control.
    pub zone: Arc<dyn ZoneApi>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for request ids.
    pub random: Random,
    /// Where the last tables are kept for a start without control; without it there are none.
    pub snapshot: Option<PathBuf>,
    /// What clients may make it hold, and how long running requests may take at the end.
    pub limits: Limits,
}

/// An ingress.
#[derive(Debug)]
pub struct Ingress {
    edge: Arc<Edge>,
    http: std::sync::Mutex<Option<TcpListener>>,
    address: SocketAddr,
    limits: Limits,
}

/// What every request and every background task of an ingress shares.
#[derive(Debug)]
struct Edge {
    name: String,
    address: String,
    public: Vec<IpAddr>,
    tables: table::Tables,
    hop: Arc<dyn Hop>,
    nodes: Arc<NodeBook>,
    zone: Arc<dyn ZoneApi>,
    clock: Arc<dyn Clock>,
    pool: Pool,
    resolver: Resolver,
    identities: identity::Identities,
    own: stats::Own,
    /// When the tables were last known to be control's newest.
    confirmed: Confirmed,
    /// Clients' connections.
    connections: TaskTracker,
    /// The store revision up to which every table is applied.
    reached: Sender<u64>,
    /// Told when a table was found to be behind what is.
    resync: Notify,
    /// Whether control has said where nodes are since this start.
    nodes_known: Sender<bool>,
    /// Told when what is kept for a start without control has changed.
    dirty: Notify,
    snapshot: Option<PathBuf>,
}

/// When the tables were last known to be control's newest: when one came, and whenever control took a report while they
/// are followed. Those of the file are as old as it is.
#[derive(Debug, Default)]
struct Confirmed {
    /// Milliseconds; 0 for never.
    at: AtomicU64,
    /// Whether the watch of tables is open and has told all there are.
    followed: AtomicBool,
}

impl Confirmed {
    fn at(&self, at: Timestamp) {
        self.at.store(at.0, Ordering::Relaxed);
    }

    /// Tables are followed from now on, or no longer.
    fn follow(&self, followed: bool) {
        self.followed.store(followed, Ordering::Relaxed);
    }

    /// Control lives: what it had told would have come.
    fn heard(&self, now: Timestamp) {
        if self.followed.load(Ordering::Relaxed) {
            self.at(now);
        }
    }

    fn last(&self) -> Option<Timestamp> {
        Some(Timestamp(self.at.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }
}

impl Ingress {
    /// An ingress that has read its last tables but does not serve yet. Must be called inside a runtime.
    ///
    /// # Errors
    /// `internal` if the listener has no address. Unreadable last tables are only logged: control has better ones.
    pub fn new(options: IngressOptions) -> Result<Self, Problem> {
        let address = options
            .http
            .local_addr()
            .map_err(|error| Problem::internal(format!("the ingress's listener has no address: {error}")))?;
        let edge = Edge {
            name: options.name,
            address: address.to_string(),
            public: options.public,
            tables: table::Tables::default(),
            hop: options.hop,
            nodes: options.nodes,
            zone: options.zone,
            clock: options.clock,
            pool: Pool::new(PoolOptions::default()),
            resolver: Resolver::new(),
            identities: identity::Identities::new(&options.random),
            own: stats::Own::default(),
            confirmed: Confirmed::default(),
            connections: TaskTracker::new(),
            reached: Sender::new(0),
            resync: Notify::new(),
            nodes_known: Sender::new(false),
            dirty: Notify::new(),
            snapshot: options.snapshot,
        };
        if let Some(path) = &edge.snapshot {
            match snapshot::read(path) {
                Ok((last, at)) => {
                    edge.confirmed.at(at);
                    edge.tables.replace(last.tables);
                    edge.nodes.replace(last.nodes);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the last tables cannot be read; waiting for control")
                }
            }
        }
        let http = std::sync::Mutex::new(Some(options.http));
        Ok(Ingress { edge: Arc::new(edge), http, address, limits: options.limits })
    }

    /// Where it listens for HTTP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has tables to serve by: control's, or those it kept when it ended last.
    #[must_use]
    pub fn has_tables(&self) -> bool {
        self.edge.tables.are_known()
    }

    /// The store revision up to which it has applied every table; 0 before the first.
    #[must_use]
    pub fn reached(&self) -> u64 {
        *self.edge.reached.borrow()
    }

    /// Waits until every table up to this store revision is applied, however long that takes.
    pub async fn reached_at_least(&self, revision: u64) {
        // It fails only when nobody can reach anything any more, and `self` could.
        let _ = self.edge.reached.subscribe().wait_for(|reached| *reached >= revision).await;
    }

    /// Its figures, cumulative since it started, by service and version.
    #[must_use]
    pub fn stats(&self) -> Vec<ServiceStats> {
        self.edge.tables.stats()
    }

    /// The same and its own state, in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        metrics::text(&self.edge)
    }

    /// Serves until `tasks` is to stop and running requests have ended, then leaves. Tables are followed and reported
    /// until then, since control waits for what an ingress with requests has reached. Serves once; a second call
    /// returns at once.
    pub async fn run(&self, tasks: &Tasks) {
        let Some(listener) = self.http.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
        else {
            return;
        };
        let ended = CancellationToken::new();
        tasks.spawn("ingress tables", watch::follow(Arc::clone(&self.edge), ended.clone()));
        tasks.spawn("ingress nodes", nodes::follow(Arc::clone(&self.edge), ended.clone()));
        tasks.spawn("ingress report", report::report(Arc::clone(&self.edge), ended.clone()));
        let edge = Arc::clone(&self.edge);
        let service = move |request, info: ConnInfo| request::handle(Arc::clone(&edge), request, info);
        serve_tracked(listener, service, self.limits, self.edge.connections.clone(), tasks).await;
        ended.cancel();
        match tokio::time::timeout(LEAVE, self.edge.zone.leave_ingress(&self.edge.name)).await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => tracing::warn!(%problem, "control was not told that this ingress ends"),
            Err(_) => tracing::warn!("control did not answer when told that this ingress ends"),
        }
    }
}
