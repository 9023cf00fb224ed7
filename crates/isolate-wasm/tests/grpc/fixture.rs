//! A driver, the guest that serves gRPC, and a client that sees every byte.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tutti_base::{Body, SystemClock, body, sha256};
use tutti_isolate::{Artifact, Driver as _, Handler, Layer, Running, StartSpec, Target};
use tutti_isolate_wasm::{WasmDriver, WasmOptions};
use tutti_model::{
    InstanceId, Millis,
    log::{LogLine, LogQuery},
    manifest::Manifest,
    quantity::ByteSize,
};

pub(crate) const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc_guest/echo.proto");
pub(crate) const SERVICE: &str = "com.example.Echo";
/// No wait of a test is longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the guest's `.proto` says.
pub(crate) struct Described {
    pub(crate) pool: DescriptorPool,
    pub(crate) set: Vec<u8>,
}

pub(crate) fn described() -> &'static Described {
    static DESCRIBED: OnceLock<Described> = OnceLock::new();
    DESCRIBED.get_or_init(|| {
        let compiled = tutti_proto::compile::compile(&[PathBuf::from(PROTO)], &[]).unwrap();
        Described { pool: compiled.pool, set: compiled.set }
    })
}

pub(crate) fn method(name: &str) -> MethodDescriptor {
    let service = described().pool.get_service_by_name(SERVICE).unwrap();
    service.methods().find(|method| method.name() == name).unwrap()
}

/// A message of a method's input from its text in JSON's mapping.
pub(crate) fn input(name: &str, json: &str) -> DynamicMessage {
    message(&method(name).input(), json)
}

pub(crate) fn message(of: &prost_reflect::MessageDescriptor, json: &str) -> DynamicMessage {
    let mut reader = serde_json::Deserializer::from_str(json);
    DynamicMessage::deserialize(of.clone(), &mut reader).unwrap()
}

/// A driver in a folder that goes with it, and an instance of the guest.
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
        Host { driver: driver(change), folder }
    }

    /// Another driver in the same folder.
    pub(crate) fn again(self, change: impl FnOnce(&mut WasmOptions)) -> Host {
        Host { driver: driver(change), folder: self.folder }
    }

    pub(crate) fn artifact(&self) -> Artifact {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/grpc_guest.wasm");
        assert!(path.exists(), "{} is missing: build it with scripts/build-guests.sh", path.display());
        let descriptors = self.folder.path().join("descriptors");
        std::fs::write(&descriptors, &described().set).unwrap();
        let layers = vec![
            layer("application/wasm", path),
            layer("application/vnd.tutti.descriptor-set.v1+protobuf", descriptors),
        ];
        Artifact { digest: layers[0].digest.clone(), layers }
    }

    pub(crate) fn spec(&self, artifact: Artifact, manifest: Manifest, service: &str) -> StartSpec {
        StartSpec {
            version: format!("example.com:{service}@1.2").try_into().unwrap(),
            artifact,
            manifest,
            secrets: tutti_base::SecretValues::default(),
            until: None,
            folder: self.folder.path().join("instance"),
            logs: self.folder.path().join("logs"),
            instance: InstanceId::from_bits(7),
        }
    }

    pub(crate) async fn start(&self, manifest: Manifest) -> Service {
        self.start_as(&self.spec(self.artifact(), manifest, SERVICE)).await
    }

    /// A second instance beside the first.
    pub(crate) async fn start_another(&self, manifest: Manifest) -> Service {
        let spec = self.spec(self.artifact(), manifest, SERVICE);
        let (folder, logs) = (self.folder.path().join("another"), self.folder.path().join("other logs"));
        self.start_as(&StartSpec { instance: InstanceId::from_bits(8), folder, logs, ..spec }).await
    }

    async fn start_as(&self, spec: &StartSpec) -> Service {
        let running = self.driver.start(spec).await.unwrap();
        let idle = running.usage().await.memory;
        Service { running, idle, logs: spec.logs.clone() }
    }
}

fn driver(change: impl FnOnce(&mut WasmOptions)) -> WasmDriver {
    // Components are compiled once for all tests.
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("grpc-cache");
    let mut options = WasmOptions::new(cache, Arc::new(SystemClock));
    options.requests = 100;
    options.compiler = env!("CARGO_BIN_EXE_tutti-compile").into();
    options.compiler_args.clear();
    change(&mut options);
    WasmDriver::new(options).unwrap()
}

pub(crate) fn layer(media_type: &str, path: PathBuf) -> Layer {
    let bytes = std::fs::read(&path).unwrap();
    Layer {
        media_type: media_type.to_owned(),
        digest: sha256::digest(&bytes),
        size: bytes.len() as u64,
        path,
    }
}

pub(crate) fn manifest() -> Manifest {
    Manifest { memory: ByteSize::mib(32), timeout: Millis(2000), ..Manifest::default() }
}

/// A running instance.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) running: Arc<dyn Running>,
    idle: u64,
    logs: PathBuf,
}

/// What a call gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: HeaderMap,
    pub(crate) replies: Vec<Bytes>,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn code(&self) -> u16 {
        self.trailers["grpc-status"].to_str().unwrap().parse().unwrap()
    }

    pub(crate) fn text(&self) -> String {
        let text = self.trailers.get("grpc-message").map_or("", |text| text.to_str().unwrap());
        percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
    }

    /// The one reply, in JSON.
    pub(crate) fn json(&self, of: &str) -> serde_json::Value {
        assert_eq!(self.code(), 0, "{}", self.text());
        let reply = DynamicMessage::decode(method(of).output(), self.replies[0].clone()).unwrap();
        serde_json::to_value(&reply).unwrap()
    }
}

impl Service {
    pub(crate) fn handler(&self) -> Arc<dyn Handler> {
        match self.running.target() {
            Target::Handler(handler) => handler,
            Target::Address(address) => panic!("reached at {address}"),
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        let handler = self.handler();
        let answer = tokio::time::timeout(PATIENCE, handler.handle(request));
        answer.await.expect("no answer, and no limit either").unwrap()
    }

    /// A call of one message and its whole answer.
    pub(crate) async fn call(&self, name: &str, json: &str) -> Answer {
        use prost_reflect::prost::Message as _;
        self.call_bytes(name, &input(name, json).encode_to_vec()).await
    }

    pub(crate) async fn call_bytes(&self, name: &str, message: &[u8]) -> Answer {
        collect(self.send(request(name, body::full(frame(message)))).await).await
    }

    /// Bytes of memory that its calls hold.
    pub(crate) async fn held(&self) -> u64 {
        self.running.usage().await.memory - self.idle
    }

    /// Returns once its calls hold no memory any more: a guest that computes when nobody wants its answer any longer gives
    /// it back at the end of its turn.
    pub(crate) async fn freed(&self) {
        let free = async {
            while self.held().await > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, free).await.expect("memory of calls that have ended is held");
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

    pub(crate) async fn log_says(&self, text: &str) {
        self.log_until(|lines| lines.iter().any(|line| line.line.contains(text))).await;
    }
}

pub(crate) fn request(name: &str, body: Body) -> Request<Body> {
    Request::post(format!("/{SERVICE}/{name}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len().try_into().unwrap());
    frame.put_slice(message);
    frame.freeze()
}

/// The messages in a body, uncompressed ones.
pub(crate) fn messages(mut bytes: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        assert_eq!(bytes.get_u8(), 0);
        let length = bytes.get_u32() as usize;
        messages.push(bytes.split_to(length));
    }
    messages
}

pub(crate) async fn collect(response: Response<Body>) -> Answer {
    assert_eq!(response.status(), 200);
    let head = response.headers().clone();
    assert_eq!(head["content-type"], "application/grpc");
    let collected = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
    let collected = collected.expect("a body without an end").unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_else(|| head.clone());
    Answer { head, replies: messages(collected.to_bytes()), trailers }
}

/// A body that a test sends piece by piece.
pub(crate) fn channel() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = tokio_stream(receiver).map(|bytes| Ok(http_body::Frame::data(bytes)));
    (sender, StreamBody::new(frames).boxed_unsync())
}

fn tokio_stream(mut receiver: mpsc::Receiver<Bytes>) -> impl futures_util::Stream<Item = Bytes> + Send {
    futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))
}
