//! From an artifact to something that runs: in memory, else from the cache, else compiled, once however many ask.

use crate::{
    WasmOptions,
    compiled::{self, Cache},
    compiler::{Compiler, Stop},
    component::{self, Runnable},
    state::State,
};
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tutti_base::sha256;
use tutti_isolate::{Artifact, DriverError, Layer};
use tutti_model::{Digest, Millis};
use wasmtime::{
    Engine,
    component::{Component, Linker},
};

/// Components kept ready in memory although nothing runs them; most of each is pages of its file. An instance holds
/// its own on top.
const READY: usize = 64;
/// Turns for loading. Two components share one with a chance of one in 64 and then wait for each other.
const TURNS: usize = 64;

pub(crate) struct Loader {
    shared: Arc<Shared>,
    /// Whoever loads a component holds the turn of its digest, so that the next finds it ready.
    turns: Vec<Arc<AsyncMutex<()>>>,
    compiling: Arc<Semaphore>,
    /// What still compiles when this is dropped is killed.
    _stop: Stop,
}

struct Shared {
    engine: Engine,
    linker: Linker<State>,
    cache: Cache,
    compiler: Compiler,
    /// The most recently used last.
    ready: Mutex<Vec<(Digest, Arc<Runnable>)>>,
    #[cfg(test)]
    compiled: std::sync::atomic::AtomicUsize,
}

impl Loader {
    pub(crate) fn new(engine: Engine, options: &WasmOptions) -> Result<Loader, DriverError> {
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
            .map_err(|error| engine_error("link what guests may call", &error))?;
        let cache = Cache::open(options.cache.clone(), options.cache_bytes, &engine).map_err(|source| {
            DriverError::Host {
                what: format!("the cache of compiled components, {}", options.cache.display()),
                source,
            }
        })?;
        let (program, words) = (options.compiler.clone(), options.compiler_args.clone());
        let (compiler, stop) = Compiler::new(program, words, options.compile_limits, &engine)
            .map_err(|source| DriverError::Host { what: "make a pipe for the compiler".to_owned(), source })?;
        let shared = Shared {
            engine,
            linker,
            cache,
            compiler,
            ready: Mutex::default(),
            #[cfg(test)]
            compiled: std::sync::atomic::AtomicUsize::new(0),
        };
        Ok(Loader {
            shared: Arc::new(shared),
            turns: (0..TURNS).map(|_| Arc::default()).collect(),
            compiling: Arc::new(Semaphore::new(options.compilers.max(1))),
            _stop: stop,
        })
    }

    /// Makes an artifact's component ready, or finds it so. Who is dropped while waiting loses nothing: the work goes
    /// on and the next finds its result.
    pub(crate) async fn load(&self, artifact: &Artifact) -> Result<Arc<Runnable>, DriverError> {
        let layer = component::layer(artifact)?;
        if let Some(runnable) = self.shared.find(&layer.digest) {
            return Ok(runnable);
        }
        let turn = self.turn(&layer.digest).lock_owned().await;
        if let Some(runnable) = self.shared.find(&layer.digest) {
            return Ok(runnable);
        }
        let shared = Arc::clone(&self.shared);
        let digest = layer.digest.clone();
        if let Some(cached) = blocking(move || shared.load_cached(&digest)).await? {
            return Ok(cached);
        }
        let permit = Arc::clone(&self.compiling).acquire_owned().await;
        let shared = Arc::clone(&self.shared);
        let layer = layer.clone();
        blocking(move || {
            let compiled = shared.compile(&layer);
            drop((turn, permit));
            compiled
        })
        .await?
    }

    fn turn(&self, digest: &Digest) -> Arc<AsyncMutex<()>> {
        let first = digest.hex().get(..2).and_then(|hex| usize::from_str_radix(hex, 16).ok()).unwrap_or(0);
        self.turns.get(first % TURNS).cloned().unwrap_or_default()
    }

    /// Compiles and loads a component that is not kept, and shows whether that works here.
    pub(crate) async fn try_out(&self, component: &'static str) -> Result<Component, String> {
        let shared = Arc::clone(&self.shared);
        let tried = blocking(move || {
            let code = shared.compiler.compile(component.as_bytes()).map_err(|error| error.to_string())?;
            compiled::load(&shared.engine, &code)
        });
        tried.await.map_err(|error| error.chain())?
    }

    #[cfg(test)]
    pub(crate) fn compiled(&self) -> usize {
        self.shared.compiled.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Shared {
    fn find(&self, digest: &Digest) -> Option<Arc<Runnable>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ready.iter().position(|(found, _)| found == digest)?;
        let found = ready.remove(at);
        let runnable = Arc::clone(&found.1);
        ready.push(found);
        Some(runnable)
    }

    fn keep_ready(&self, digest: &Digest, runnable: &Arc<Runnable>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.len() >= READY {
            ready.remove(0);
        }
        ready.push((digest.clone(), Arc::clone(runnable)));
    }

    /// What the cache has was checked when it was compiled; if it cannot be linked now it is as if it were not there.
    fn load_cached(&self, digest: &Digest) -> Option<Arc<Runnable>> {
        let component = self.cache.load(&self.engine, digest)?;
        let runnable = Arc::new(component::link(&self.engine, &self.linker, &component).ok()?);
        self.keep_ready(digest, &runnable);
        Some(runnable)
    }

    fn compile(&self, layer: &Layer) -> Result<Arc<Runnable>, DriverError> {
        let named =
            |why: String| DriverError::Unrunnable(format!("component {}: {why}", layer.digest.short()));
        let bytes = read(&layer.path)?;
        // What is kept under a digest is trusted for ever after, so this is checked again, whoever checked it before.
        if sha256::digest(&bytes) != layer.digest {
            let source = io::Error::new(io::ErrorKind::InvalidData, "its bytes are not those of its digest");
            return Err(DriverError::Host {
                what: format!("read the component {}", layer.path.display()),
                source,
            });
        }
        component::check_bytes(&bytes).map_err(named)?;
        #[cfg(test)]
        self.compiled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let begun = Instant::now();
        let code = self.compiler.compile(&bytes).map_err(|error| error.about(&layer.digest))?;
        let took = Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        tracing::info!(component = %layer.digest.short(), bytes = bytes.len(), %took, "compiled");
        drop(bytes);
        let component = self.cache.keep_and_load(&self.engine, &layer.digest, code).map_err(named)?;
        let runnable = Arc::new(component::link(&self.engine, &self.linker, &component).map_err(named)?);
        self.keep_ready(&layer.digest, &runnable);
        Ok(runnable)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DriverError> {
    std::fs::read(path).map_err(|source| DriverError::Host {
        what: format!("read the component {}", path.display()),
        source,
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DriverError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DriverError::Host {
        what: "load a component".to_owned(),
        source: io::Error::other(error),
    })
}

/// The engine's error as the host's.
pub(crate) fn engine_error(what: &str, error: &wasmtime::Error) -> DriverError {
    DriverError::Host { what: what.to_owned(), source: io::Error::other(format!("{error:#}")) }
}

#[cfg(test)]
mod tests;
