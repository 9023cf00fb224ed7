//! From an artifact to something that runs: in memory, else from the cache, else compiled, once however many ask.

use crate::{
    WasmOptions,
    compiled::{self, Cache},
    compiler::{Compiler, Stop},
    component::{self, Kind, Layers, Runnable},
    denied,
    grpc::{self, Service},
    state::State,
};
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, Once, PoisonError, Weak},
    time::{Duration, Instant},
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

/// How often is looked for components that nobody has called since: those are taken out of memory, so that one that is
/// called once a minute stays.
const LOOK_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct Loader {
    shared: Arc<Shared>,
    looking: Once,
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
    ready: Mutex<Vec<Ready>>,
    /// Every component that something holds.
    loaded: Mutex<Vec<Weak<Runnable>>>,
    #[cfg(test)]
    compiled: std::sync::atomic::AtomicUsize,
}

impl Loader {
    pub(crate) fn new(engine: Engine, options: &WasmOptions) -> Result<Loader, DriverError> {
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
            .and_then(|()| denied::add_to_linker(&mut linker))
            .and_then(|()| grpc::add_call_to_linker(&mut linker))
            .map_err(|error| engine_error("link what guests may call", &error))?;
        let cache = Cache::open(options.cache.clone(), options.cache_bytes, &engine).map_err(|source| {
            DriverError::Host {
                what: format!("the cache of compiled components, {}", options.cache.display()),
                source,
            }
        })?;
        let (program, words) = (options.compiler.clone(), options.compiler_args.clone());
        let (compiler, stop) =
            Compiler::new(program, words, options.compile_limits, &engine).map_err(|source| {
                DriverError::Host { what: "make a pipe for the compiler".to_owned(), source }
            })?;
        let shared = Shared {
            engine,
            linker,
            cache,
            compiler,
            ready: Mutex::default(),
            loaded: Mutex::default(),
            #[cfg(test)]
            compiled: std::sync::atomic::AtomicUsize::new(0),
        };
        Ok(Loader {
            shared: Arc::new(shared),
            looking: Once::new(),
            turns: (0..TURNS).map(|_| Arc::default()).collect(),
            compiling: Arc::new(Semaphore::new(options.compilers.max(1))),
            _stop: stop,
        })
    }

    /// Makes an artifact's component ready, or finds it so; of one that serves gRPC, for this service, or for the first
    /// that it exports. Who is dropped while waiting loses nothing: the work goes on and the next finds its result.
    pub(crate) async fn load(
        &self,
        artifact: &Artifact,
        service: Option<&str>,
    ) -> Result<Arc<Runnable>, DriverError> {
        self.looking.call_once(|| drop(tokio::spawn(look(Arc::downgrade(&self.shared)))));
        let wanted = Arc::new(Wanted::of(component::layers(artifact)?, service));
        if let Some(runnable) = self.shared.find(&wanted) {
            return Ok(runnable);
        }
        let turn = self.turn(&wanted.component.digest).lock_owned().await;
        if let Some(runnable) = self.shared.find(&wanted) {
            return Ok(runnable);
        }
        let (shared, of) = (Arc::clone(&self.shared), Arc::clone(&wanted));
        if let Some(cached) = blocking(move || shared.load_cached(&of)).await? {
            return cached;
        }
        let permit = Arc::clone(&self.compiling).acquire_owned().await;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let compiled = shared.compile(&wanted);
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

/// What is to be run of an artifact.
struct Wanted {
    component: Layer,
    grpc: Option<WantedService>,
}

struct WantedService {
    descriptors: Layer,
    /// Its full name; unknown while the artifact is only made ready.
    name: Option<String>,
}

impl Wanted {
    fn of(layers: Layers<'_>, service: Option<&str>) -> Wanted {
        let grpc = layers.descriptors.map(|descriptors| WantedService {
            descriptors: descriptors.clone(),
            name: service.map(str::to_owned),
        });
        Wanted { component: layers.component.clone(), grpc }
    }

    /// Whether this is it. Where no service is named, any of the artifact's is.
    fn is(&self, ready: &Ready) -> bool {
        let same_service = match (&self.grpc, &ready.grpc) {
            (None, None) => true,
            (Some(wanted), Some((descriptors, name))) => {
                wanted.descriptors.digest == *descriptors
                    && wanted.name.as_ref().is_none_or(|wanted| wanted == name)
            }
            _ => false,
        };
        same_service && self.component.digest == ready.component
    }
}

/// A component that is kept ready, and what it is ready for.
struct Ready {
    component: Digest,
    /// The digest of its descriptors and the service's name.
    grpc: Option<(Digest, String)>,
    runnable: Arc<Runnable>,
}

impl Shared {
    fn find(&self, wanted: &Wanted) -> Option<Arc<Runnable>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ready.iter().position(|found| wanted.is(found))?;
        let found = ready.remove(at);
        let runnable = Arc::clone(&found.runnable);
        ready.push(found);
        Some(runnable)
    }

    fn hold(&self, runnable: &Arc<Runnable>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Only when it would grow, so that a thousand that are loaded one after the other are not gone over each time.
        if loaded.len() == loaded.capacity() {
            loaded.retain(|one| one.strong_count() > 0);
        }
        loaded.push(Arc::downgrade(runnable));
    }

    /// Takes what nobody has called since the last look out of memory.
    fn look(&self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|one| match one.upgrade() {
            Some(runnable) => {
                runnable.look();
                true
            }
            None => false,
        });
    }

    fn keep_ready(&self, one: Ready) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.len() >= READY {
            ready.remove(0);
        }
        ready.push(one);
    }

    /// What the cache has was checked when it was compiled; if it cannot be linked now it is as if it were not there.
    /// Whether it fits a service is another question, and compiling it again would not change the answer.
    fn load_cached(&self, wanted: &Wanted) -> Option<Result<Arc<Runnable>, DriverError>> {
        let component = self.cache.load(&self.engine, &wanted.component.digest)?;
        let linked = self.link(&component, wanted, None);
        if wanted.grpc.is_none() { linked.ok().map(Ok) } else { Some(linked) }
    }

    /// Links a component to what it may call, and keeps it ready.
    fn link(
        &self,
        component: &Component,
        wanted: &Wanted,
        bytes: Option<&[u8]>,
    ) -> Result<Arc<Runnable>, DriverError> {
        let named = |why: String| {
            DriverError::Unrunnable(format!("component {}: {why}", wanted.component.digest.short()))
        };
        let (runnable, grpc) = match &wanted.grpc {
            None => (component::link(&self.engine, &self.linker, component).map_err(named)?, None),
            Some(service) => {
                let from_disk;
                let bytes = match bytes {
                    Some(bytes) => bytes,
                    None => {
                        from_disk = read(&wanted.component.path)?;
                        &from_disk
                    }
                };
                let descriptors = checked(&service.descriptors)?;
                let pool = grpc::open_descriptors(&descriptors).map_err(named)?;
                let name = match &service.name {
                    Some(name) => name.clone(),
                    None => grpc::services_of(component, &pool).into_iter().next().ok_or_else(|| {
                        named("it exports the interface of no service of its descriptor set".to_owned())
                    })?,
                };
                let linked = Service::link(&self.linker, component, bytes, &pool, &name).map_err(named)?;
                let runnable = component::runnable(component, Kind::Grpc(Arc::new(linked))).map_err(named)?;
                (runnable, Some((service.descriptors.digest.clone(), name)))
            }
        };
        let runnable = Arc::new(runnable);
        runnable.rest();
        self.hold(&runnable);
        let component = wanted.component.digest.clone();
        self.keep_ready(Ready { component, grpc, runnable: Arc::clone(&runnable) });
        Ok(runnable)
    }

    fn compile(&self, wanted: &Wanted) -> Result<Arc<Runnable>, DriverError> {
        let layer = &wanted.component;
        let named =
            |why: String| DriverError::Unrunnable(format!("component {}: {why}", layer.digest.short()));
        // What is kept under a digest is trusted for ever after, so this is checked again, whoever checked it before.
        let bytes = checked(layer)?;
        component::check_bytes(&bytes).map_err(named)?;
        #[cfg(test)]
        self.compiled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let begun = Instant::now();
        let code = self.compiler.compile(&bytes).map_err(|error| error.about(&layer.digest))?;
        let took = Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        tracing::info!(component = %layer.digest.short(), bytes = bytes.len(), %took, "compiled");
        let component = self.cache.keep_and_load(&self.engine, &layer.digest, code).map_err(named)?;
        self.link(&component, wanted, Some(&bytes))
    }
}

/// Looks from time to time, as long as the loader is there.
async fn look(at: Weak<Shared>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match at.upgrade() {
            Some(shared) => shared.look(),
            None => return,
        }
    }
}

/// A layer's bytes, which must be those of its digest.
fn checked(layer: &Layer) -> Result<Vec<u8>, DriverError> {
    let bytes = read(&layer.path)?;
    if sha256::digest(&bytes) == layer.digest {
        return Ok(bytes);
    }
    let source = io::Error::new(io::ErrorKind::InvalidData, "its bytes are not those of its digest");
    Err(DriverError::Host { what: format!("read the layer {}", layer.path.display()), source })
}

fn read(path: &Path) -> Result<Vec<u8>, DriverError> {
    std::fs::read(path)
        .map_err(|source| DriverError::Host { what: format!("read the layer {}", path.display()), source })
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
