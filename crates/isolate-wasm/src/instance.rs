//! A running instance: a component that takes requests, until it is stopped.

use crate::{
    component::{Kind, Runnable},
    denied::Denials,
    grpc::{Calls, Front, Kept, codec},
    guest::{Guest, Meter, Work},
    handler::Requests,
    lane::Share,
    log::{Log, Pipe},
    outgoing::{Outgoing, Policy},
    state::{self, Held, MemoryGauge, State},
    ticker::Ticker,
    tls::Tls,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tutti_base::Uptime;
use tutti_isolate::{Exit, HandleError, Handler, Running, StartSpec, Target, Usage};
use tutti_model::{InstanceId, Millis, log::Output};
use wasmtime::Store;
use wasmtime_wasi::WasiCtx;

/// How long ending the guests of a stopped instance may take: each ends at its next turn.
const FORCE: Duration = Duration::from_secs(1);
/// Most random bytes that a guest gets at once.
const RANDOM_BYTES: u64 = 1 << 20;

/// What the requests of an instance share.
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) runnable: Arc<Runnable>,
    /// Longest time to the head of an answer, most cpu time of a request, and longest time that a guest may go on after
    /// its answer.
    pub(crate) timeout: Duration,
    /// Longest message of a gRPC call, in bytes.
    pub(crate) message_bytes: usize,
    /// Most memory of one request, in bytes.
    memory: u64,
    memory_held: Arc<MemoryGauge>,
    log: Arc<Log>,
    outgoing: Arc<Policy>,
    environment: Vec<(String, String)>,
    ticker: Arc<Ticker>,
    share: Arc<Share>,
    requests: TaskTracker,
    stop: CancellationToken,
    finishing: Arc<Semaphore>,
    exit: watch::Sender<Option<Exit>>,
}

impl Instance {
    pub(crate) fn new(
        spec: &StartSpec,
        runnable: Arc<Runnable>,
        log: Log,
        ticker: Arc<Ticker>,
        memory: &Arc<MemoryGauge>,
        tls: &Arc<Tls>,
    ) -> Self {
        let manifest = &spec.manifest;
        let mut environment: Vec<_> =
            manifest.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        environment
            .extend(spec.secrets.reveal().map(|(variable, value)| (variable.to_owned(), value.to_owned())));
        environment.push(("TUTTI_SERVICE".to_owned(), spec.version.service.to_string()));
        environment.push(("TUTTI_VERSION".to_owned(), spec.version.version.to_string()));
        environment.push(("TUTTI_INSTANCE".to_owned(), spec.instance.to_string()));
        let finishing =
            usize::try_from(manifest.concurrency).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let log = Arc::new(log);
        Instance {
            id: spec.instance.clone(),
            runnable,
            timeout: manifest.timeout.duration(),
            message_bytes: usize::try_from(manifest.grpc.max_message.0).unwrap_or(usize::MAX),
            memory: manifest.memory.0,
            memory_held: MemoryGauge::instance(memory, manifest.memory.0),
            outgoing: Policy::new(&manifest.outgoing, Denials::new(Arc::clone(&log)), Arc::clone(tls)),
            log,
            environment,
            ticker,
            share: Arc::default(),
            requests: TaskTracker::new(),
            stop: CancellationToken::new(),
            finishing: Arc::new(Semaphore::new(finishing)),
            exit: watch::Sender::new(None),
        }
    }

    /// Counts a request in, unless the instance is being stopped.
    pub(crate) fn admit(&self) -> Result<TaskTrackerToken, HandleError> {
        let token = self.requests.token();
        if self.requests.is_closed() {
            Err(HandleError::Full(format!("instance {} is stopping", self.id)))
        } else {
            Ok(token)
        }
    }

    /// The store of one request, and its output.
    pub(crate) fn store(&self, meter: &Arc<Meter>) -> (Store<State>, Outputs) {
        let pipe = |output| Pipe::new(Arc::clone(&self.log), output);
        let outputs = Outputs { stdout: pipe(Output::Stdout), stderr: pipe(Output::Stderr) };
        let gauge = Arc::clone(&self.memory_held);
        self.runnable.used();
        let engine = self.runnable.instance_pre().engine();
        // A reply is copied as values.
        let copied = match self.runnable.kind {
            Kind::Http(_) => 0,
            Kind::Grpc(_) => codec::value_bytes(self.message_bytes),
        };
        let store = state::store(
            engine,
            self.wasi(&outputs),
            Outgoing(Arc::clone(&self.outgoing)),
            (self.memory, copied),
            gauge,
            Arc::clone(meter),
        );
        (store, outputs)
    }

    /// What a guest may reach of the system: its environment and its log.
    fn wasi(&self, outputs: &Outputs) -> WasiCtx {
        let mut wasi = WasiCtx::builder();
        wasi.envs(&self.environment)
            .stdout(outputs.stdout.clone())
            .stderr(outputs.stderr.clone())
            .max_random_size(RANDOM_BYTES)
            // There are no sockets even to be refused at.
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false);
        wasi.build()
    }

    /// Counts memory that the host holds for a request; `None` if the instance, or the node, has had its share.
    pub(crate) fn hold(&self, bytes: usize) -> Option<Held> {
        Held::take(&self.memory_held, u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    pub(crate) fn guest<T: Send + 'static>(&self, work: Work<T>, meter: Arc<Meter>) -> Guest<T> {
        Guest::new(work, meter, Arc::clone(&self.ticker), Arc::clone(&self.share), self.stop.clone())
    }

    /// Resolves when the instance's requests are to be cut off.
    pub(crate) fn stopped(&self) -> &CancellationToken {
        &self.stop
    }

    /// A place for a guest that goes on after its answer. There are as many as requests at once, so that a service
    /// cannot take the whole pool by answering quickly and never ending.
    pub(crate) fn place_to_finish(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.finishing).try_acquire_owned().ok()
    }

    /// Adds a line of Tutti's own to the instance's log.
    pub(crate) fn note(&self, line: &str) {
        self.log.note(line);
    }

    pub(crate) fn log_failure(&self, failure: &HandleError) {
        self.log.note(&format!("request failed: {failure}"));
    }
}

/// Where one request's guest writes.
pub(crate) struct Outputs {
    stdout: Pipe,
    stderr: Pipe,
}

impl Outputs {
    /// The guest has ended: what it left unfinished is a line too.
    pub(crate) async fn finish(&self) {
        self.stdout.finish().await;
        self.stderr.finish().await;
    }
}

/// The handle that the agent holds.
pub(crate) struct RunningInstance {
    instance: Arc<Instance>,
    handler: Arc<dyn Handler>,
}

impl RunningInstance {
    /// Opens an instance for requests. With `state`, calls share one instance of the component.
    pub(crate) fn new(instance: Instance, state: bool) -> Self {
        let instance = Arc::new(instance);
        let own = Arc::clone(&instance);
        let handler: Arc<dyn Handler> = match &instance.runnable.kind {
            Kind::Http(pre) => Arc::new(Requests { pre: pre.clone(), instance: own }),
            Kind::Grpc(service) => {
                let kept = state.then(|| Kept::start(Arc::clone(&own), Arc::clone(service)));
                Arc::new(Front::new(Calls { service: Arc::clone(service), instance: own, kept }))
            }
        };
        RunningInstance { instance, handler }
    }
}

impl fmt::Debug for RunningInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningInstance")
            .field("id", &self.instance.id)
            .field("requests", &self.instance.requests.len())
            .finish()
    }
}

#[async_trait::async_trait]
impl Running for RunningInstance {
    fn target(&self) -> Target {
        Target::Handler(Arc::clone(&self.handler))
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.instance.exit.subscribe()
    }

    async fn stop(&self, grace: Millis) -> Exit {
        let instance = &self.instance;
        if let Some(exit) = instance.exit.borrow().clone() {
            return exit;
        }
        instance.requests.close();
        let drained = tokio::time::timeout(grace.duration(), instance.requests.wait()).await.is_ok();
        let cut_off = if drained { 0 } else { instance.requests.len() };
        instance.stop.cancel();
        // A guest whose client does not read is not polled, so it stays; but it will never run again.
        let _ = tokio::time::timeout(FORCE, instance.requests.wait()).await;
        instance.share.away.close();
        let _ = tokio::time::timeout(FORCE, instance.share.away.wait()).await;
        let text = match cut_off {
            0 => "stopped".to_owned(),
            1 => "stopped; 1 request was cut off".to_owned(),
            many => format!("stopped; {many} requests were cut off"),
        };
        let exit = Exit { code: Some(0), signal: None, text };
        let first = instance.exit.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| exit.clone());
            first
        });
        if first {
            instance.log.note(&exit.text);
        }
        instance.log.flush().await;
        instance.exit.borrow().clone().unwrap_or(exit)
    }

    /// None is ever started with an end: see the driver.
    async fn extend(&self, _: Uptime) {}

    /// Its memory is what its requests hold at this moment, and its code, which it shares with its siblings.
    async fn usage(&self) -> Usage {
        Usage {
            memory: self.instance.memory_held.bytes().saturating_add(self.instance.runnable.code),
            cpu_micros: self.instance.share.cpu_micros(),
        }
    }

    fn weaker(&self) -> Vec<String> {
        Vec::new()
    }
}
