//! What every test of the whole ingress stands on.

use crate::{Ingress, IngressOptions};
use ::http::{Request, Response, StatusCode};
use async_trait::async_trait;
use futures_util::{StreamExt as _, future::BoxFuture};
use http_body_util::BodyExt as _;
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tutti_api::{
    Change, WatchEvent, WatchStream, ZoneApi,
    zone::{HeartbeatAnswer, IngressReport, InstanceReport, NodeHeartbeat},
};
use tutti_base::{Body, Random, SystemClock, Tasks, body};
use tutti_model::{
    InstanceId, Millis, Problem, Resource, Share, Timestamp, Uid,
    instance::InstanceSpec,
    name::NodeName,
    node::{NodeSpec, NodeStatus, RoleAddress},
    table::{Backend, Endpoint, TableSpec, VersionBackend},
};
use tutti_proxy::wire::NodeBook;
use tutti_proxy::{ConnInfo, Hop, HopError, HopTarget, Limits, Pool, PoolOptions, Protocol, Timeouts, serve};

/// Longest wait for anything in these tests.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A zone whose watches say what the test says.
#[derive(Debug, Default)]
pub(super) struct Zone {
    watchers: Mutex<Vec<mpsc::UnboundedSender<WatchEvent<TableSpec>>>>,
    tables: Mutex<Vec<Resource<TableSpec>>>,
    nodes: Mutex<Vec<Resource<NodeSpec>>>,
    node_watchers: Mutex<Vec<mpsc::UnboundedSender<WatchEvent<NodeSpec>>>>,
    revision: AtomicU64,
    pub(super) reports: Mutex<Vec<IngressReport>>,
    pub(super) left: Mutex<Vec<String>>,
    pub(super) watches: AtomicU64,
    /// Whether control is away.
    pub(super) away: std::sync::atomic::AtomicBool,
}

impl Zone {
    /// Puts tables in one transaction; gives its revision.
    pub(super) fn put(&self, tables: Vec<TableSpec>) -> u64 {
        let revision = self.revision.fetch_add(1, Ordering::SeqCst) + 1;
        let mut known = self.tables.lock().unwrap();
        let mut changes = Vec::new();
        for spec in tables {
            let name = spec.service.to_string();
            let mut table = Resource::new(name.clone(), Uid::from_bits(1), Timestamp(0), spec);
            table.generation = revision;
            known.retain(|one| one.name != name);
            known.push(table.clone());
            changes.push(Change::Put(Box::new(table)));
        }
        self.watchers.lock().unwrap().retain(|watcher| {
            watcher.send(WatchEvent::Changes { revision, changes: changes.clone() }).is_ok()
        });
        revision
    }

    /// Says where a node is, or that it is gone.
    pub(super) fn node(&self, name: &str, address: Option<Option<RoleAddress>>) {
        let mut known = self.nodes.lock().unwrap();
        known.retain(|one| one.name != name);
        let change = match address {
            Some(address) => {
                let spec = NodeSpec::new(name.parse().unwrap());
                let mut node = Resource::new(name, Uid::from_bits(1), Timestamp(0), spec);
                node.status.address = address;
                known.push(node.clone());
                Change::Put(Box::new(node))
            }
            None => Change::Delete { name: name.to_owned() },
        };
        let event = WatchEvent::Changes { revision: 1, changes: vec![change] };
        self.node_watchers.lock().unwrap().retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    /// Ends every running watch.
    pub(super) fn cut(&self) {
        self.watchers.lock().unwrap().clear();
        self.node_watchers.lock().unwrap().clear();
    }
}

#[async_trait]
impl ZoneApi for Zone {
    fn watch_tables(&self, _: Option<u64>) -> WatchStream<TableSpec> {
        self.watches.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return futures_util::stream::iter([Err(Problem::unavailable("control is away"))]).boxed();
        }
        let known = self.tables.lock().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(WatchEvent::Init).unwrap();
        for table in known.iter() {
            sender.send(WatchEvent::InitItem(Box::new(table.clone()))).unwrap();
        }
        sender.send(WatchEvent::InitDone { revision: self.revision.load(Ordering::SeqCst) }).unwrap();
        self.watchers.lock().unwrap().push(sender);
        UnboundedReceiverStream::new(receiver).map(Ok).boxed()
    }

    fn watch_instances(&self, _: &NodeName, _: Option<u64>) -> WatchStream<InstanceSpec> {
        futures_util::stream::pending().boxed()
    }

    fn watch_node(&self, _: &NodeName, _: Option<u64>) -> WatchStream<NodeSpec> {
        futures_util::stream::pending().boxed()
    }

    fn watch_nodes(&self, _: Option<u64>) -> WatchStream<NodeSpec> {
        if self.away.load(Ordering::SeqCst) {
            return futures_util::stream::iter([Err(Problem::unavailable("control is away"))]).boxed();
        }
        let known = self.nodes.lock().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(WatchEvent::Init).unwrap();
        for node in known.iter() {
            sender.send(WatchEvent::InitItem(Box::new(node.clone()))).unwrap();
        }
        sender.send(WatchEvent::InitDone { revision: 1 }).unwrap();
        self.node_watchers.lock().unwrap().push(sender);
        UnboundedReceiverStream::new(receiver).map(Ok).boxed()
    }

    async fn register_node(&self, _: &NodeName, _: NodeStatus) -> Result<(), Problem> {
        Ok(())
    }

    async fn heartbeat(&self, _: &NodeName, _: NodeHeartbeat) -> Result<HeartbeatAnswer, Problem> {
        Ok(HeartbeatAnswer::default())
    }

    async fn report_instances(&self, _: &NodeName, _: Vec<InstanceReport>) -> Result<(), Problem> {
        Ok(())
    }

    async fn instance_secrets(
        &self,
        _: &NodeName,
        _: &tutti_model::InstanceId,
    ) -> Result<tutti_base::SecretValues, Problem> {
        Ok(tutti_base::SecretValues::default())
    }

    async fn report_ingress(&self, report: IngressReport) -> Result<(), Problem> {
        self.reports.lock().unwrap().push(report);
        Ok(())
    }

    async fn leave_ingress(&self, ingress: &str) -> Result<(), Problem> {
        self.left.lock().unwrap().push(ingress.to_owned());
        Ok(())
    }
}

type Send = dyn Fn(NodeName, HopTarget, Request<Body>) -> BoxFuture<'static, Result<Response<Body>, HopError>>
    + Sync
    + std::marker::Send;

/// A hop that is a closure.
pub(super) struct Closure(Box<Send>);

impl std::fmt::Debug for Closure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Closure")
    }
}

#[async_trait]
impl Hop for Closure {
    async fn send(
        &self,
        node: &NodeName,
        target: &HopTarget,
        request: Request<Body>,
    ) -> Result<Response<Body>, HopError> {
        (self.0)(node.clone(), target.clone(), request).await
    }
}

/// A hop that does this.
pub(super) fn hop<F, R>(send: F) -> Arc<dyn Hop>
where
    F: Fn(NodeName, HopTarget, Request<Body>) -> R + Sync + std::marker::Send + 'static,
    R: Future<Output = Result<Response<Body>, HopError>> + std::marker::Send + 'static,
{
    Arc::new(Closure(Box::new(move |node, target, request| Box::pin(send(node, target, request)))))
}

/// A hop over a real connection to one server.
pub(super) fn hop_to(address: SocketAddr) -> Arc<dyn Hop> {
    let pool = Pool::new(PoolOptions::default());
    hop(move |_, _, request| {
        let pool = pool.clone();
        async move {
            let protocol = Protocol::of(request.headers());
            Ok(pool.send(address, protocol, request, &Timeouts::default()).await?)
        }
    })
}

/// A server that answers with this.
pub(super) async fn server<S, F>(service: S) -> SocketAddr
where
    S: Fn(Request<Body>, ConnInfo) -> F + Sync + std::marker::Send + 'static,
    F: Future<Output = Response<Body>> + std::marker::Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { serve(listener, service, Limits::default(), &Tasks::new()).await });
    address
}

/// A running ingress.
pub(super) struct World {
    pub(super) zone: Arc<Zone>,
    pub(super) ingress: Arc<Ingress>,
    pub(super) tasks: Tasks,
    pub(super) address: SocketAddr,
    pub(super) pool: Pool,
    pub(super) ended: tokio::task::JoinHandle<()>,
}

impl World {
    pub(super) async fn new(zone: Arc<Zone>, hop: Arc<dyn Hop>, snapshot: Option<PathBuf>) -> World {
        World::of_nodes(zone, hop, Arc::default(), snapshot).await
    }

    /// One whose hop goes by this book.
    pub(super) async fn of_nodes(
        zone: Arc<Zone>,
        hop: Arc<dyn Hop>,
        nodes: Arc<NodeBook>,
        snapshot: Option<PathBuf>,
    ) -> World {
        let options = IngressOptions {
            name: "ingress-1".into(),
            http: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            public: Vec::new(),
            hop,
            nodes,
            zone: Arc::clone(&zone) as Arc<dyn ZoneApi>,
            clock: Arc::new(SystemClock),
            random: Random::seeded(7),
            snapshot,
            limits: Limits::default(),
        };
        let ingress = Arc::new(Ingress::new(options).unwrap());
        let (tasks, address) = (Tasks::new(), ingress.address());
        let ended = tokio::spawn({
            let (ingress, tasks) = (Arc::clone(&ingress), tasks.clone());
            async move { ingress.run(&tasks).await }
        });
        World { zone, ingress, tasks, address, pool: Pool::new(PoolOptions::default()), ended }
    }

    /// An ingress that serves these tables already.
    pub(super) async fn with(tables: Vec<TableSpec>, hop: Arc<dyn Hop>) -> World {
        let zone = Arc::new(Zone::default());
        let revision = zone.put(tables);
        let world = World::new(zone, hop, None).await;
        world.reaches(revision).await;
        world
    }

    pub(super) async fn reaches(&self, revision: u64) {
        let reached = self.ingress.reached_at_least(revision);
        tokio::time::timeout(PATIENCE, reached).await.expect("the revision is reached in time");
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Response<Body> {
        let protocol = Protocol::of(request.headers());
        self.pool.send(self.address, protocol, request, &Timeouts::default()).await.unwrap()
    }
}

pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

pub(super) fn instance(number: u64) -> InstanceId {
    InstanceId::from_bits(number)
}

/// A table of versions: name, weight in millionths, how many instances.
pub(super) fn table(service: &str, matches: &[&str], versions: &[(&str, u32, u64)]) -> TableSpec {
    let backend = versions.iter().enumerate().map(|(at, (version, weight, instances))| VersionBackend {
        version: version.parse().unwrap(),
        weight: Share::from_millionths(*weight),
        concurrency: 100,
        timeout: Millis(500),
        endpoints: (0..*instances)
            .map(|number| Endpoint {
                instance: instance(at as u64 * 100 + number),
                node: "node-1".parse().unwrap(),
            })
            .collect(),
    });
    backed(service, matches, Backend::Versions(backend.collect()))
}

pub(super) fn backed(service: &str, matches: &[&str], backend: Backend) -> TableSpec {
    TableSpec {
        service: service.parse().unwrap(),
        matches: matches.iter().map(|text| text.parse().unwrap()).collect(),
        backend,
    }
}

/// One version that has everything, for the host `web.test`.
pub(super) fn web() -> TableSpec {
    table("example.com:web", &["web.test"], &[("1.0", 1_000_000, 2)])
}

pub(super) fn get(host: &str, path: &str) -> Request<Body> {
    Request::builder().uri(path).header("host", host).body(body::empty()).unwrap()
}

pub(super) fn post(body: Body) -> Request<Body> {
    Request::builder().method("POST").uri("/").header("host", "web.test").body(body).unwrap()
}

pub(super) async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The status and the problem of an answer.
pub(super) async fn problem(response: Response<Body>) -> (StatusCode, serde_json::Value) {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    (status, serde_json::from_str(&text(response).await).unwrap())
}

/// Answers with the request's body.
pub(super) async fn echo(request: Request<Body>, _: ConnInfo) -> Response<Body> {
    Response::new(request.into_body())
}
