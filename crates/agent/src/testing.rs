//! What the tests of this crate stand on: a zone that is fed and heard by the test, a clock on tokio's paused time, a
//! registry that has everything, and an agent on the mock driver.

use crate::{Agent, AgentOptions, Shutdown};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tutti_api::{
    Change, WatchEvent, WatchStream, ZoneApi,
    zone::{HeartbeatAnswer, IngressReport, InstanceReport, NodeHeartbeat},
};
use tutti_base::{Body, Clock, Random, SecretValues, Tasks, Uptime, body, sha256};
use tutti_isolate::{Artifact, Artifacts, Driver, Recovery, mock::MockDriver};
use tutti_model::{
    Digest, InstanceId, Millis, Problem, Resource, Timestamp, VersionRef,
    instance::{Goal, InstanceSpec, InstanceState, InstanceStatus},
    manifest::Manifest,
    name::NodeName,
    node::{NodeSpec, NodeStatus, Resources},
    quantity::{Bandwidth, ByteSize, MilliCpu},
    scheduling::Labels,
    table::TableSpec,
    version::Isolate,
};
use tutti_proxy::{HopError, HopTarget};
use tutti_seal::{Keyring, SealingKey};

/// Longest wait of a test for something that should come, in virtual time where that is paused.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tokio's time, which tests pause.
#[derive(Debug)]
struct TokioClock(tokio::time::Instant);

pub(crate) fn tokio_clock() -> Arc<dyn Clock> {
    Arc::new(TokioClock(tokio::time::Instant::now()))
}

#[async_trait]
impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let since = u64::try_from(self.0.elapsed().as_millis()).unwrap();
        Timestamp(1_700_000_000_000 + since)
    }

    fn uptime(&self) -> Uptime {
        Uptime(Millis(u64::try_from(self.0.elapsed().as_millis()).unwrap()))
    }

    async fn sleep_until(&self, when: Timestamp) {
        tokio::time::sleep(when.since(self.now()).duration()).await;
    }
}

/// A registry that has everything, unless told otherwise.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) fault: Mutex<Option<Problem>>,
    pub(crate) fetched: Mutex<Vec<Digest>>,
}

#[async_trait]
impl Artifacts for Registry {
    async fn fetch(&self, digest: &Digest) -> Result<Artifact, Problem> {
        if let Some(problem) = self.fault.lock().unwrap().clone() {
            return Err(problem);
        }
        self.fetched.lock().unwrap().push(digest.clone());
        Ok(Artifact { digest: digest.clone(), layers: Vec::new() })
    }
}

/// What the zone has heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) history: BTreeMap<InstanceId, Vec<InstanceStatus>>,
    pub(crate) reports: Vec<Vec<InstanceReport>>,
    pub(crate) registered: Vec<NodeStatus>,
    /// Whether another agent has this node's name.
    pub(crate) taken: bool,
    pub(crate) heartbeats: Vec<NodeHeartbeat>,
    pub(crate) refuse_reports: u32,
    pub(crate) forget_node: bool,
    /// Every report on this instance is refused for what it says.
    pub(crate) poison: Option<InstanceId>,
    instances: Vec<mpsc::UnboundedSender<Result<WatchEvent<InstanceSpec>, Problem>>>,
    node: Vec<mpsc::UnboundedSender<Result<WatchEvent<NodeSpec>, Problem>>>,
    wanted: BTreeMap<String, Resource<InstanceSpec>>,
    pub(crate) away: bool,
    /// What is said to who asks for an instance's secrets.
    pub(crate) secrets: SecretValues,
    pub(crate) refuse_secrets: Option<Problem>,
    /// Singletons' instances that get no lease.
    pub(crate) refuse_leases: Vec<InstanceId>,
}

impl Heard {
    pub(crate) fn last(&self, id: &InstanceId) -> InstanceStatus {
        self.history.get(id).and_then(|statuses| statuses.last().cloned()).unwrap_or_default()
    }

    pub(crate) fn watches_node(&self) -> bool {
        !self.node.is_empty()
    }

    pub(crate) fn states(&self, id: &InstanceId) -> Vec<InstanceState> {
        let mut states: Vec<_> =
            self.history.get(id).into_iter().flatten().map(|status| status.state).collect();
        states.dedup();
        states
    }
}

/// A zone whose desired state the test writes and whose reports it reads.
#[derive(Debug, Default)]
pub(crate) struct FakeZone {
    heard: Mutex<Heard>,
    changed: Notify,
}

impl FakeZone {
    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    pub(crate) fn put(&self, instance: Resource<InstanceSpec>) {
        let mut heard = self.heard();
        heard.wanted.insert(instance.name.clone(), instance.clone());
        let changes = vec![Change::Put(Box::new(instance))];
        heard
            .instances
            .retain(|to| to.send(Ok(WatchEvent::Changes { revision: 1, changes: changes.clone() })).is_ok());
    }

    /// As a watch that is behind would say it: without being what control wants.
    pub(crate) fn say(&self, event: WatchEvent<InstanceSpec>) {
        self.heard().instances.retain(|to| to.send(Ok(event.clone())).is_ok());
    }

    pub(crate) fn delete(&self, id: &InstanceId) {
        let mut heard = self.heard();
        heard.wanted.remove(id.as_str());
        let changes = vec![Change::Delete { name: id.to_string() }];
        heard
            .instances
            .retain(|to| to.send(Ok(WatchEvent::Changes { revision: 1, changes: changes.clone() })).is_ok());
    }

    /// Ends every watch with a problem; each then begins anew.
    pub(crate) fn break_watches(&self) {
        for to in std::mem::take(&mut self.heard().instances) {
            let _ = to.send(Err(Problem::unavailable("on purpose")));
        }
    }

    pub(crate) fn preload(&self, spec: NodeSpec) {
        let name = spec.node.to_string();
        let node = Resource::new(name, Random::seeded(1).uid(), Timestamp(0), spec);
        let event = WatchEvent::Changes { revision: 1, changes: vec![Change::Put(Box::new(node))] };
        self.heard().node.retain(|to| to.send(Ok(event.clone())).is_ok());
    }

    /// Waits until what was heard is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Heard) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if is_so(&self.heard()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain until {what}; heard: {:#?}", self.heard().history);
        }
    }

    pub(crate) async fn until_state(&self, id: &InstanceId, state: InstanceState) -> InstanceStatus {
        self.until(&format!("{id} is {state}"), |heard| heard.last(id).state == state).await;
        self.heard().last(id)
    }
}

#[async_trait]
impl ZoneApi for FakeZone {
    fn watch_tables(&self, _: Option<u64>) -> WatchStream<TableSpec> {
        stream::pending().boxed()
    }

    fn watch_instances(&self, _: &NodeName, after: Option<u64>) -> WatchStream<InstanceSpec> {
        assert_eq!(after, None);
        let mut heard = self.heard();
        if heard.away {
            return stream::pending().boxed();
        }
        let (to, from) = mpsc::unbounded_channel();
        to.send(Ok(WatchEvent::Init)).unwrap();
        for instance in heard.wanted.values() {
            to.send(Ok(WatchEvent::InitItem(Box::new(instance.clone())))).unwrap();
        }
        to.send(Ok(WatchEvent::InitDone { revision: 1 })).unwrap();
        heard.instances.push(to);
        UnboundedReceiverStream::new(from).boxed()
    }

    fn watch_node(&self, _: &NodeName, _: Option<u64>) -> WatchStream<NodeSpec> {
        let (to, from) = mpsc::unbounded_channel();
        self.heard().node.push(to);
        self.changed.notify_waiters();
        UnboundedReceiverStream::new(from).boxed()
    }

    fn watch_nodes(&self, _: Option<u64>) -> WatchStream<NodeSpec> {
        stream::pending().boxed()
    }

    async fn register_node(&self, _: &NodeName, status: NodeStatus) -> Result<(), Problem> {
        let mut heard = self.heard();
        if heard.away {
            return Err(Problem::unavailable("control is away"));
        }
        if heard.taken {
            return Err(Problem::new(tutti_model::ErrorCode::AlreadyExists, "the name is taken"));
        }
        heard.registered.push(status);
        drop(heard);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn heartbeat(&self, node: &NodeName, heartbeat: NodeHeartbeat) -> Result<HeartbeatAnswer, Problem> {
        let mut heard = self.heard();
        if heard.away {
            return Err(Problem::unavailable("control is away"));
        }
        if std::mem::take(&mut heard.forget_node) {
            return Err(Problem::not_found("node", node));
        }
        let is_refused = |id: &InstanceId| heard.refuse_leases.contains(id);
        let leases = heartbeat.leases.iter().filter(|id| !is_refused(id)).cloned().collect();
        heard.heartbeats.push(heartbeat);
        drop(heard);
        self.changed.notify_waiters();
        Ok(HeartbeatAnswer { leases })
    }

    async fn instance_secrets(&self, _: &NodeName, _: &InstanceId) -> Result<SecretValues, Problem> {
        let heard = self.heard();
        if heard.away {
            return Err(Problem::unavailable("control is away"));
        }
        heard.refuse_secrets.clone().map_or_else(|| Ok(heard.secrets.clone()), Err)
    }

    async fn report_instances(&self, _: &NodeName, reports: Vec<InstanceReport>) -> Result<(), Problem> {
        let mut heard = self.heard();
        if heard.away {
            return Err(Problem::unavailable("control is away"));
        }
        if heard.refuse_reports > 0 {
            heard.refuse_reports -= 1;
            drop(heard);
            self.changed.notify_waiters();
            return Err(Problem::unavailable("on purpose"));
        }
        if reports.iter().any(|report| heard.poison.as_ref() == Some(&report.instance)) {
            return Err(Problem::conflict("on purpose"));
        }
        for report in &reports {
            let before = heard.last(&report.instance).state;
            assert!(before.may_become(report.status.state), "{before} became {}", report.status.state);
            heard.history.entry(report.instance.clone()).or_default().push(report.status.clone());
        }
        heard.reports.push(reports);
        drop(heard);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn report_ingress(&self, _: IngressReport) -> Result<(), Problem> {
        Ok(())
    }

    async fn leave_ingress(&self, _: &str) -> Result<(), Problem> {
        Ok(())
    }
}

pub(crate) fn node_name() -> NodeName {
    "n1".parse().unwrap()
}

pub(crate) fn version(text: &str) -> VersionRef {
    text.parse().unwrap()
}

pub(crate) fn id(number: u64) -> InstanceId {
    InstanceId::from_bits(number)
}

/// What the node has.
pub(crate) const CAPACITY: Resources =
    Resources { cpu: MilliCpu(4000), memory: ByteSize(4 << 30), bandwidth: Bandwidth(0), disk: ByteSize(0) };

/// Instance `number` of `example.com:web@1.0` as a process, generation 1, to serve.
pub(crate) fn instance(number: u64) -> Resource<InstanceSpec> {
    let spec = InstanceSpec {
        instance: id(number),
        version: version("example.com:web@1.0"),
        artifact: sha256::digest(b"web 1.0"),
        isolate: Isolate::Process,
        manifest: Manifest::default(),
        node: node_name(),
        goal: Goal::Serve,
        placed: String::new(),
    };
    Resource::new(id(number).to_string(), Random::seeded(number).uid(), Timestamp(0), spec)
}

/// The node's key, the same for every agent of a test.
pub(crate) fn keyring() -> Keyring {
    Keyring::of(SealingKey::new(&zeroize::Zeroizing::new([1; tutti_seal::key::KEY_BYTES])).unwrap())
}

/// The same instance in its next generation, with another goal.
pub(crate) fn then(instance: &Resource<InstanceSpec>, goal: Goal) -> Resource<InstanceSpec> {
    let mut next = instance.clone();
    next.generation += 1;
    next.spec.goal = goal;
    next
}

/// One agent on mock drivers, with the zone and everything else it was given.
pub(crate) struct Bench {
    pub(crate) zone: Arc<FakeZone>,
    pub(crate) process: MockDriver,
    pub(crate) wasm: MockDriver,
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) agent: Agent,
    pub(crate) tasks: Tasks,
    pub(crate) folder: std::path::PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Bench {
    /// A running agent on a folder of its own.
    pub(crate) fn new() -> Self {
        Bench::with(Vec::new())
    }

    /// The same on other drivers than the mock ones.
    pub(crate) fn with(drivers: Vec<Arc<dyn Driver>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = tokio_clock();
        let process = MockDriver::new(Isolate::Process, Recovery::Undisturbed, Arc::clone(&clock));
        let wasm = MockDriver::new(Isolate::Wasm, Recovery::Gone, Arc::clone(&clock));
        let path = folder.path().to_owned();
        let mut bench = Bench::on(&path, clock, process, wasm, Arc::default(), Arc::default(), drivers);
        bench._folder = Some(folder);
        bench
    }

    fn on(
        folder: &Path,
        clock: Arc<dyn Clock>,
        process: MockDriver,
        wasm: MockDriver,
        zone: Arc<FakeZone>,
        registry: Arc<Registry>,
        mut drivers: Vec<Arc<dyn Driver>>,
    ) -> Self {
        if drivers.is_empty() {
            drivers = vec![Arc::new(process.clone()), Arc::new(wasm.clone())];
        }
        let agent = Agent::new(AgentOptions {
            node: node_name(),
            zone: Arc::clone(&zone) as Arc<dyn ZoneApi>,
            drivers,
            artifacts: Arc::clone(&registry) as Arc<dyn Artifacts>,
            folder: folder.to_owned(),
            clock: Arc::clone(&clock),
            random: Random::seeded(1),
            keyring: keyring(),
            release: "test".into(),
            capacity: Some(CAPACITY),
            labels: Labels::new(),
            address: None,
        })
        .unwrap();
        let tasks = Tasks::new();
        agent.run(tasks.clone()).unwrap();
        Bench { zone, process, wasm, registry, clock, agent, tasks, folder: folder.to_owned(), _folder: None }
    }

    /// Ends the agent as a kill would, and starts another on the same folder and host.
    pub(crate) async fn restart(mut self, between: impl FnOnce(&Bench)) -> Self {
        self.agent.shutdown(Shutdown::Leave).await;
        assert!(self.tasks.drain(Duration::from_secs(5)).await);
        self.zone.heard().instances.clear();
        self.wasm.lose_all();
        between(&self);
        let mut next = Bench::on(
            &self.folder,
            Arc::clone(&self.clock),
            self.process.clone(),
            self.wasm.clone(),
            Arc::clone(&self.zone),
            Arc::clone(&self.registry),
            Vec::new(),
        );
        next._folder = self._folder.take();
        next
    }

    /// Has instance `number` wanted and waits until it is ready.
    pub(crate) async fn ready(&self, number: u64) -> Resource<InstanceSpec> {
        let wanted = instance(number);
        self.zone.put(wanted.clone());
        self.zone.until_state(&id(number), InstanceState::Ready).await;
        wanted
    }

    /// Waits until instance `number` takes requests, or sleeps and waits for them.
    pub(crate) async fn ready_to_wake(&self, number: u64) {
        let directory = self.agent.directory();
        eventually("requests are taken", || directory.find(&target(number)).is_some()).await;
    }

    /// Sends a request for instance `number` of `example.com:web@1.0`.
    pub(crate) async fn send(&self, number: u64) -> Result<Response<Body>, HopError> {
        self.send_request(number, Request::get("http://web.example.com/").body(body::empty()).unwrap()).await
    }

    pub(crate) async fn send_request(
        &self,
        number: u64,
        request: Request<Body>,
    ) -> Result<Response<Body>, HopError> {
        self.agent.node_proxy().send(&node_name(), &target(number), request).await
    }

    /// Whether a ledger entry of instance `number` is on disk.
    pub(crate) fn in_ledger(&self, number: u64) -> bool {
        self.folder.join("ledger").join(format!("{}.json", id(number))).exists()
    }
}

pub(crate) fn target(number: u64) -> HopTarget {
    let version = version("example.com:web@1.0");
    HopTarget { service: version.service, version: version.version, instance: id(number) }
}

/// Waits for something without a notification of its own, in virtual time or for a bounded number of real moments.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Millis(5).duration()).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "waited in vain until {what}");
}
