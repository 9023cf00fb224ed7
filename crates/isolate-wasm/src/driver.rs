//! The driver: preloads, starts, and says what this host can do.

use crate::{
    WasmOptions,
    component::Kind,
    engine,
    handler::try_out,
    instance::{Instance, RunningInstance},
    loader::{Loader, engine_error},
    log::Log,
    state::MemoryGauge,
    ticker::Ticker,
    tls::Tls,
};
use async_trait::async_trait;
use std::{fmt, io, path::Path, sync::Arc};
use tokio::sync::OnceCell;
use tutti_base::Clock;
use tutti_isolate::{Artifact, Driver, DriverError, HandleError, Recovery, Running, StartSpec};
use tutti_logs::Writer;
use tutti_model::{manifest::NO_SINGLETON, node::Fingerprint, quantity::ByteSize, version::Isolate};
use wasmtime::{
    Engine, Store,
    component::{Component, Linker},
};

/// Runs the components of a node. It lives in the agent, and its instances go with it.
pub struct WasmDriver {
    engine: Engine,
    loader: Loader,
    ticker: Arc<Ticker>,
    memory: Arc<MemoryGauge>,
    tls: Arc<Tls>,
    clock: Arc<dyn Clock>,
    /// What is weaker here than it should be.
    notes: Vec<String>,
    fingerprint: OnceCell<Fingerprint>,
}

impl fmt::Debug for WasmDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmDriver").finish_non_exhaustive()
    }
}

impl WasmDriver {
    /// Makes the engine and opens the cache.
    ///
    /// # Errors
    /// `Host` if the address space or the cache's folder is not to be had, or others could write to that folder.
    pub fn new(options: WasmOptions) -> Result<WasmDriver, DriverError> {
        let (engine, requests) =
            engine::make(options.requests).map_err(|error| engine_error("make the wasm engine", &error))?;
        let notes = (requests < options.requests).then(|| {
            format!("guests work on at most {requests} requests at once: there is no address space for more")
        });
        let ticker = Ticker::start(engine.weak()).map_err(|source| DriverError::Host {
            what: "start the wasm engine's clock".to_owned(),
            source,
        })?;
        let loader = Loader::new(engine.clone(), &options)?;
        Ok(WasmDriver {
            engine,
            loader,
            ticker: Arc::new(ticker),
            memory: MemoryGauge::node(options.memory),
            tls: Tls::new(options.roots),
            clock: options.clock,
            notes: notes.into_iter().collect(),
            fingerprint: OnceCell::new(),
        })
    }

    async fn probe(&self) -> Fingerprint {
        let result = match self.loader.try_out(PROBE).await {
            Ok(component) => call_probe(&self.engine, &component).await.map_err(|error| format!("{error:#}")),
            Err(error) => Err(error),
        };
        let fault = match result {
            Ok(PROBE_ANSWER) => None,
            Ok(other) => Some(format!("a component that answers {PROBE_ANSWER} answered {other}")),
            Err(error) => Some(format!("a small component could not be run: {error}")),
        };
        let usable = fault.is_none();
        Fingerprint {
            isolate: Isolate::Wasm,
            usable,
            notes: self.notes.iter().cloned().chain(fault).collect(),
        }
    }
}

/// The smallest component that shows that code can be compiled, mapped and run here.
const PROBE: &str = r#"(component
    (core module $m (memory 1) (func (export "f") (result i32) i32.const 42))
    (core instance $i (instantiate $m))
    (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;
const PROBE_ANSWER: u32 = 42;

async fn call_probe(engine: &Engine, component: &Component) -> wasmtime::Result<u32> {
    let mut store = Store::new(engine, ());
    // It runs no loop, so it needs no interruption.
    store.set_epoch_deadline(u64::MAX / 2);
    let instance = Linker::new(engine).instantiate_async(&mut store, component).await?;
    let function = instance.get_typed_func::<(), (u32,)>(&mut store, "f")?;
    Ok(function.call_async(&mut store, ()).await?.0)
}

#[async_trait]
impl Driver for WasmDriver {
    fn isolate(&self) -> Isolate {
        Isolate::Wasm
    }

    async fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.get_or_init(|| self.probe()).await.clone()
    }

    async fn preload(&self, artifact: &Artifact) -> Result<(), DriverError> {
        self.loader.load(artifact, None).await.map(|_| ())
    }

    async fn start(&self, spec: &StartSpec) -> Result<Arc<dyn Running>, DriverError> {
        if spec.until.is_some() {
            return Err(DriverError::Unrunnable(format!("{} is a singleton: {NO_SINGLETON}", spec.version)));
        }
        let runnable = self.loader.load(&spec.artifact, Some(spec.version.service.service.as_str())).await?;
        if runnable.initial_memory > spec.manifest.memory.0 {
            return Err(DriverError::Unrunnable(format!(
                "{} needs {} of memory to begin with, and its manifest allows {}: raise \"memory\"",
                spec.version,
                ByteSize(runnable.initial_memory),
                spec.manifest.memory
            )));
        }
        if spec.manifest.state && matches!(runnable.kind, Kind::Http(_)) {
            return Err(DriverError::Unrunnable(format!(
                "{} asks for state, and only a component that serves gRPC can keep it: leave \"state\" out",
                spec.version
            )));
        }
        let (folder, id) = (spec.logs.clone(), spec.instance.clone());
        let writer = blocking(&spec.logs, "open the log folder", move || Writer::open(&folder, id)).await?;
        let log = Log::start(writer, Arc::clone(&self.clock));
        let instance = Instance::new(spec, runnable, log, Arc::clone(&self.ticker), &self.memory, &self.tls);
        match try_out(&instance).await {
            // A node that is busy now says nothing about the component.
            Ok(()) | Err(HandleError::Full(_)) => {
                instance.runnable.rest();
                Ok(Arc::new(RunningInstance::new(instance, spec.manifest.state)))
            }
            Err(failure) => {
                instance.log_failure(&failure);
                Err(DriverError::Unrunnable(format!("{} cannot be instantiated: {failure}", spec.version)))
            }
        }
    }

    fn recovery(&self) -> Recovery {
        Recovery::Gone
    }

    async fn recover(&self, _spec: &StartSpec) -> Result<Option<Arc<dyn Running>>, DriverError> {
        Ok(None)
    }

    async fn remove(&self, spec: &StartSpec) -> Result<(), DriverError> {
        let folder = spec.folder.clone();
        blocking(&spec.folder, "remove the folder", move || match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, DriverError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| DriverError::Host { what: format!("{what} {}", path.display()), source })
}
