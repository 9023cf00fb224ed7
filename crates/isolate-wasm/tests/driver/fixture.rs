//! A driver with its folders, and guests to run.

use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Collected};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use tutti_base::{Body, SystemClock, body, sha256};
use tutti_isolate::{Artifact, Driver as _, HandleError, Handler, Layer, Running, StartSpec, Target};
use tutti_isolate_wasm::{WasmDriver, WasmOptions};
use tutti_model::{
    InstanceId, Millis,
    log::{LogLine, LogQuery},
    manifest::Manifest,
    quantity::ByteSize,
};

/// No wait of a test is longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A driver in a folder that goes with it.
pub(crate) struct Host {
    pub(crate) driver: WasmDriver,
    pub(crate) folder: TempDir,
}

impl Host {
    pub(crate) fn new() -> Host {
        Host::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut WasmOptions)) -> Host {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(&folder);
        change(&mut options);
        Host { driver: WasmDriver::new(options).unwrap(), folder }
    }

    /// Another driver on the same cache, as after a restart.
    pub(crate) fn restart(&mut self) {
        self.driver = WasmDriver::new(options(&self.folder)).unwrap();
    }

    pub(crate) fn spec(&self, artifact: Artifact, manifest: Manifest) -> StartSpec {
        let instance = InstanceId::from_bits(7);
        StartSpec {
            version: "example.com:web@1.2".to_owned().try_into().unwrap(),
            artifact,
            manifest,
            secrets: tutti_base::SecretValues::default(),
            until: None,
            folder: self.folder.path().join("instance"),
            logs: self.folder.path().join("logs"),
            instance,
        }
    }

    pub(crate) async fn start(&self, artifact: Artifact, manifest: Manifest) -> Service {
        let running = self.driver.start(&self.spec(artifact, manifest)).await.unwrap();
        let idle = running.usage().await.memory;
        Service { running, idle, logs: self.folder.path().join("logs") }
    }

    /// The guest that misbehaves, with little memory and time.
    pub(crate) async fn hostile(&self) -> Service {
        self.start(guest("hostile_guest"), manifest()).await
    }
}

fn options(folder: &TempDir) -> WasmOptions {
    let mut options = WasmOptions::new(folder.path().join("cache"), Arc::new(SystemClock));
    // Enough for every test, and quick to reserve.
    options.requests = 100;
    options.compiler = env!("CARGO_BIN_EXE_tutti-compile").into();
    options.compiler_args.clear();
    options
}

/// A running instance.
#[derive(Clone)]
pub(crate) struct Service {
    idle: u64,
    pub(crate) running: Arc<dyn Running>,
    pub(crate) logs: PathBuf,
}

impl Service {
    pub(crate) fn handler(&self) -> Arc<dyn Handler> {
        match self.running.target() {
            Target::Handler(handler) => handler,
            Target::Address(address) => panic!("reached at {address}"),
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, HandleError> {
        tokio::time::timeout(PATIENCE, self.handler().handle(request))
            .await
            .expect("no answer, and no limit either")
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Response<Body>, HandleError> {
        self.send(get(path)).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        text(self.get(path).await.unwrap()).await
    }

    /// Bytes of memory that its requests hold.
    pub(crate) async fn held(&self) -> u64 {
        self.running.usage().await.memory - self.idle
    }

    /// Returns once its requests hold no memory any more: a guest that computes when nobody wants its answer any longer
    /// gives it back at the end of its turn.
    pub(crate) async fn freed(&self) {
        let free = async {
            while self.held().await > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, free).await.expect("memory of requests that have ended is held");
    }

    /// The lines of the log as they are once `enough` says so.
    pub(crate) async fn log_until(&self, enough: impl Fn(&[LogLine]) -> bool) -> Vec<LogLine> {
        let look = async {
            loop {
                let stream = tutti_logs::read(&self.logs, InstanceId::from_bits(7), LogQuery::default());
                let lines: Vec<_> = stream.map(Result::unwrap).collect().await;
                if enough(&lines) {
                    return lines;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("the log never had the expected lines")
    }
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "web.example.com").body(body::empty()).unwrap()
}

pub(crate) async fn collect(response: Response<Body>) -> Result<Collected<bytes::Bytes>, String> {
    let collected =
        tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("a body without an end");
    collected.map_err(|error| error.to_string())
}

pub(crate) async fn text(response: Response<Body>) -> String {
    String::from_utf8(collect(response).await.unwrap().to_bytes().to_vec()).unwrap()
}

pub(crate) fn manifest() -> Manifest {
    Manifest { memory: ByteSize::mib(16), timeout: Millis(1000), ..Manifest::default() }
}

/// A guest built by `scripts/build-guests.sh`.
pub(crate) fn guest(name: &str) -> Artifact {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/guests/{name}.wasm"));
    assert!(path.exists(), "{} is missing: build it with scripts/build-guests.sh", path.display());
    artifact(path)
}

pub(crate) fn artifact(path: PathBuf) -> Artifact {
    let bytes = std::fs::read(&path).unwrap();
    let digest = sha256::digest(&bytes);
    let layer = Layer {
        media_type: "application/wasm".to_owned(),
        digest: digest.clone(),
        size: bytes.len() as u64,
        path,
    };
    Artifact { digest, layers: vec![layer] }
}
