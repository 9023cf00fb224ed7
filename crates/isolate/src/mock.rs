//! A driver with knobs: it runs nothing, and does whatever a test of an agent needs an isolate to do.
//!
//! Cloning shares the instances, so that a test may drop its agent, start another on a clone, and see what
//! [`Driver::recover`] gives it. Time is the clock's that it is made with.

use crate::contract::{
    Artifact, Driver, DriverError, Exit, HandleError, Handler, Recovery, Running, StartSpec, Target, Usage,
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::watch;
use tutti_base::{Body, Clock, Uptime, body};
use tutti_model::{Digest, InstanceId, Millis, Timestamp, VersionRef, node::Fingerprint, version::Isolate};

/// What the next instances do.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// Preloading fails with this.
    pub preload_error: Option<String>,
    /// Starting fails with this, as what trying again would not help.
    pub unrunnable: Option<String>,
    /// Starting fails with this, as what the host refused.
    pub host_error: Option<String>,
    /// Until then after its start, an instance answers 503.
    pub ready_after: Millis,
    /// It ends by itself so long after its start, with `exit_code`.
    pub exit_after: Option<Millis>,
    /// The code it then ends with.
    pub exit_code: i32,
    /// The so-many-th start of an instance (from 1) ends at once, with `exit_code`.
    pub crash_on_start: Option<u32>,
    /// How long it takes to end once asked; forced at the end of the grace if that is shorter.
    pub stop_takes: Millis,
    /// The status of its answers once it is ready.
    pub status: u16,
    /// The body of its answers.
    pub answer: String,
    /// What it is said not to enforce.
    pub weaker: Vec<String>,
}

impl Default for Knobs {
    /// Ready at once, answers `hello`, runs until stopped, ends at once when asked.
    fn default() -> Self {
        Knobs {
            preload_error: None,
            unrunnable: None,
            host_error: None,
            ready_after: Millis(0),
            exit_after: None,
            exit_code: 1,
            crash_on_start: None,
            stop_takes: Millis(0),
            status: 200,
            answer: "hello".into(),
            weaker: Vec::new(),
        }
    }
}

/// The driver. See the module.
#[derive(Debug, Clone)]
pub struct MockDriver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    isolate: Isolate,
    recovery: Recovery,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    knobs: Knobs,
    by_version: BTreeMap<VersionRef, Knobs>,
    preloaded: BTreeSet<Digest>,
    preloads: u64,
    starts: BTreeMap<InstanceId, u32>,
    secrets: BTreeMap<InstanceId, tutti_base::SecretValues>,
    instances: BTreeMap<InstanceId, Arc<MockInstance>>,
}

impl MockDriver {
    /// A driver whose instances do as [`Knobs::default`] says.
    #[must_use]
    pub fn new(isolate: Isolate, recovery: Recovery, clock: Arc<dyn Clock>) -> Self {
        MockDriver(Arc::new(Shared { isolate, recovery, clock, inner: Mutex::default() }))
    }

    /// Turns the knobs for instances that are started from now on.
    pub fn turn(&self, turn: impl FnOnce(&mut Knobs)) {
        turn(&mut self.inner().knobs);
    }

    /// The same for the instances of one version only, which then no longer follow the others.
    pub fn turn_for(&self, version: &VersionRef, turn: impl FnOnce(&mut Knobs)) {
        let mut inner = self.inner();
        let knobs = inner.knobs.clone();
        turn(inner.by_version.entry(version.clone()).or_insert(knobs));
    }

    /// How often an instance was started.
    #[must_use]
    pub fn starts(&self, instance: &InstanceId) -> u32 {
        self.inner().starts.get(instance).copied().unwrap_or(0)
    }

    /// The secrets that an instance was started with last.
    #[must_use]
    pub fn secrets(&self, instance: &InstanceId) -> tutti_base::SecretValues {
        self.inner().secrets.get(instance).cloned().unwrap_or_default()
    }

    /// How often anything was preloaded that was not already.
    #[must_use]
    pub fn preloads(&self) -> u64 {
        self.inner().preloads
    }

    /// The instances that run now.
    #[must_use]
    pub fn running(&self) -> Vec<InstanceId> {
        let inner = self.inner();
        inner
            .instances
            .iter()
            .filter(|(_, one)| one.exit.borrow().is_none())
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Ends an instance as if by itself; `false` if it does not run.
    pub fn crash(&self, instance: &InstanceId, code: i32) -> bool {
        let found = self.inner().instances.get(instance).cloned();
        found.is_some_and(|one| one.end(exited(code)))
    }

    /// Forgets all instances, as a killed agent's process does with those that live in it.
    pub fn lose_all(&self) {
        self.inner().instances.clear();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exit with a code.
fn exited(code: i32) -> Exit {
    Exit { code: Some(code), signal: None, text: format!("exited with code {code}") }
}

#[async_trait]
impl Driver for MockDriver {
    fn isolate(&self) -> Isolate {
        self.0.isolate
    }

    async fn fingerprint(&self) -> Fingerprint {
        Fingerprint { isolate: self.0.isolate, usable: true, notes: vec!["nothing is really run".into()] }
    }

    async fn preload(&self, artifact: &Artifact) -> Result<(), DriverError> {
        let mut inner = self.inner();
        if let Some(text) = &inner.knobs.preload_error {
            return Err(DriverError::Unrunnable(text.clone()));
        }
        if inner.preloaded.insert(artifact.digest.clone()) {
            inner.preloads += 1;
        }
        Ok(())
    }

    async fn start(&self, spec: &StartSpec) -> Result<Arc<dyn Running>, DriverError> {
        let mut inner = self.inner();
        let knobs = inner.by_version.get(&spec.version).unwrap_or(&inner.knobs).clone();
        if !inner.preloaded.contains(&spec.artifact.digest) {
            return Err(DriverError::Unrunnable(format!("{} was not preloaded", spec.artifact.digest)));
        }
        if let Some(text) = knobs.unrunnable {
            return Err(DriverError::Unrunnable(text));
        }
        if let Some(what) = knobs.host_error {
            return Err(DriverError::Host { what, source: std::io::Error::other("the mock was told to") });
        }
        if inner.instances.get(&spec.instance).is_some_and(|one| one.exit.borrow().is_none()) {
            let source = std::io::ErrorKind::AlreadyExists.into();
            return Err(DriverError::Host {
                what: format!("instance {} already runs", spec.instance),
                source,
            });
        }
        inner.secrets.insert(spec.instance.clone(), spec.secrets.clone());
        let starts = inner.starts.entry(spec.instance.clone()).or_insert(0);
        *starts = starts.saturating_add(1);
        let crash = knobs.crash_on_start == Some(*starts);
        let instance = Arc::new(MockInstance {
            id: spec.instance.clone(),
            version: spec.version.clone(),
            ready_at: self.0.clock.now().plus(knobs.ready_after),
            clock: Arc::clone(&self.0.clock),
            exit: watch::Sender::new(None),
            requests: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            until: watch::Sender::new(spec.until),
            knobs,
        });
        tokio::spawn(lapse(Arc::downgrade(&instance), instance.until.subscribe(), Arc::clone(&self.0.clock)));
        if crash {
            instance.end(exited(instance.knobs.exit_code));
        } else if let Some(after) = instance.knobs.exit_after {
            let (instance, clock) = (Arc::downgrade(&instance), Arc::clone(&self.0.clock));
            tokio::spawn(async move {
                clock.sleep(after).await;
                if let Some(instance) = instance.upgrade() {
                    instance.end(exited(instance.knobs.exit_code));
                }
            });
        }
        inner.instances.insert(spec.instance.clone(), Arc::clone(&instance));
        Ok(Arc::new(MockRunning(instance)))
    }

    fn recovery(&self) -> Recovery {
        self.0.recovery
    }

    async fn recover(&self, spec: &StartSpec) -> Result<Option<Arc<dyn Running>>, DriverError> {
        if self.0.recovery == Recovery::Gone {
            return Ok(None);
        }
        let found = self.inner().instances.get(&spec.instance).cloned();
        Ok(found.map(|instance| Arc::new(MockRunning(instance)) as Arc<dyn Running>))
    }

    async fn remove(&self, spec: &StartSpec) -> Result<(), DriverError> {
        self.inner().instances.remove(&spec.instance);
        Ok(())
    }
}

#[derive(Debug)]
struct MockInstance {
    id: InstanceId,
    version: VersionRef,
    ready_at: Timestamp,
    clock: Arc<dyn Clock>,
    exit: watch::Sender<Option<Exit>>,
    requests: AtomicU64,
    stopping: AtomicBool,
    until: watch::Sender<Option<Uptime>>,
    knobs: Knobs,
}

/// Ends an instance when its lease has run out, as a shim does.
async fn lapse(
    instance: Weak<MockInstance>,
    mut until: watch::Receiver<Option<Uptime>>,
    clock: Arc<dyn Clock>,
) {
    loop {
        let Some(end) = *until.borrow_and_update() else { return };
        let left = end.since(clock.uptime());
        if left == Millis(0) {
            if let Some(instance) = instance.upgrade() {
                instance.end(Exit { code: None, signal: Some(9), text: "its lease ran out".into() });
            }
            return;
        }
        tokio::select! {
            () = clock.sleep(left) => {}
            changed = until.changed() => if changed.is_err() { return },
        }
    }
}

impl MockInstance {
    /// Ends it; `false` if it had ended.
    fn end(&self, exit: Exit) -> bool {
        self.exit.send_if_modified(|now| {
            let ends = now.is_none();
            if ends {
                *now = Some(exit);
            }
            ends
        })
    }
}

#[derive(Debug)]
struct MockRunning(Arc<MockInstance>);

#[async_trait]
impl Running for MockRunning {
    fn target(&self) -> Target {
        Target::Handler(Arc::clone(&self.0) as Arc<dyn Handler>)
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.0.exit.subscribe()
    }

    async fn stop(&self, grace: Millis) -> Exit {
        let instance = &self.0;
        let mut exit = instance.exit.subscribe();
        if !instance.stopping.swap(true, Ordering::SeqCst) {
            let (takes, forced) = (instance.knobs.stop_takes, instance.knobs.stop_takes > grace);
            instance.clock.sleep(if forced { grace } else { takes }).await;
            instance.end(if forced {
                Exit {
                    code: None,
                    signal: Some(9),
                    text: "killed by signal 9 (SIGKILL): did not stop in time".into(),
                }
            } else {
                exited(0)
            });
        }
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_else(|| exited(0)),
            Err(_) => exited(0),
        }
    }

    async fn extend(&self, until: Uptime) {
        self.0.until.send_modify(|end| *end = (*end).map(|end| end.max(until)));
    }

    async fn usage(&self) -> Usage {
        let requests = self.0.requests.load(Ordering::Relaxed);
        Usage { memory: 1 << 20, cpu_micros: 1 + requests.saturating_mul(10) }
    }

    fn weaker(&self) -> Vec<String> {
        self.0.knobs.weaker.clone()
    }
}

#[async_trait]
impl Handler for MockInstance {
    async fn handle(&self, _request: http::Request<Body>) -> Result<http::Response<Body>, HandleError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.exit.borrow().is_some() {
            return Err(HandleError::Trap("the instance has ended".into()));
        }
        let ready = self.clock.now() >= self.ready_at;
        http::Response::builder()
            .status(if ready { self.knobs.status } else { 503 })
            .header("tutti-service", self.version.service.to_string())
            .header("tutti-version", self.version.version.as_str())
            .header("tutti-instance", self.id.as_str())
            .body(body::full(self.knobs.answer.clone()))
            .map_err(|error| HandleError::Trap(error.to_string()))
    }
}
