//! The driver with the wide guest, and the descriptors of what it takes.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt as _;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tempfile::TempDir;
use tutti_base::{SystemClock, body, sha256};
use tutti_isolate::{Artifact, Driver as _, Handler, Layer, StartSpec, Target};
use tutti_isolate_wasm::{WasmDriver, WasmOptions};
use tutti_model::{InstanceId, Millis, manifest::Manifest, quantity::ByteSize};

pub(crate) const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wide_guest/wide.proto");
pub(crate) const SERVICE: &str = "wide.test.Wide";
/// No wait is longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the guest's `.proto` says.
pub(crate) struct Described {
    pub(crate) pool: DescriptorPool,
    /// The same with fields that lead back to their message as bytes.
    pub(crate) boxed: DescriptorPool,
    pub(crate) set: Vec<u8>,
    pub(crate) boxed_set: Vec<u8>,
}

pub(crate) fn described() -> &'static Described {
    static DESCRIBED: OnceLock<Described> = OnceLock::new();
    DESCRIBED.get_or_init(|| {
        let compiled = tutti_proto::compile::compile(&[PathBuf::from(PROTO)], &[]).unwrap();
        let boxed_set = crate::boxed::boxed(&compiled.pool, &compiled.set);
        let boxed = DescriptorPool::decode(boxed_set.as_slice()).unwrap();
        Described { pool: compiled.pool, boxed, set: compiled.set, boxed_set }
    })
}

/// The methods' names, and what they take and give back.
pub(crate) fn methods() -> Vec<(String, MessageDescriptor)> {
    let service = described().pool.get_service_by_name(SERVICE).unwrap();
    service.methods().map(|method| (method.name().to_owned(), method.input())).collect()
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Echoed {
    Back(Bytes),
    /// It was malformed, and this was said.
    Refused(String),
}

/// The guest in Rust, and its sibling in Python.
pub(crate) const RUST: &str = "wide_guest.wasm";
pub(crate) const PYTHON: &str = "wide-python/component.wasm";

/// A running instance of a guest.
pub(crate) struct Host {
    handler: Arc<dyn Handler>,
    _driver: WasmDriver,
    _folder: TempDir,
}

impl Host {
    pub(crate) async fn start(guest: &str) -> Host {
        let folder = tempfile::tempdir().unwrap();
        // Compiled once for all tests.
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("grpc-cache");
        let mut options = WasmOptions::new(cache, Arc::new(SystemClock));
        options.compiler = env!("CARGO_BIN_EXE_tutti-compile").into();
        options.compiler_args.clear();
        options.requests = 10;
        let driver = WasmDriver::new(options).unwrap();
        let component = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests").join(guest);
        assert!(
            component.exists(),
            "{} is missing: build it with scripts/build-guests.sh and scripts/build-python-guests.sh",
            component.display()
        );
        let descriptors = folder.path().join("descriptors");
        std::fs::write(&descriptors, &described().set).unwrap();
        let layers = vec![
            layer("application/wasm", component),
            layer("application/vnd.tutti.descriptor-set.v1+protobuf", descriptors),
        ];
        let spec = StartSpec {
            version: format!("test.wide:{SERVICE}@1.0").try_into().unwrap(),
            artifact: Artifact { digest: layers[0].digest.clone(), layers },
            manifest: Manifest { memory: ByteSize::mib(64), timeout: Millis(30_000), ..Manifest::default() },
            secrets: tutti_base::SecretValues::default(),
            until: None,
            folder: folder.path().join("instance"),
            logs: folder.path().join("logs"),
            instance: InstanceId::from_bits(9),
        };
        let running = driver.start(&spec).await.unwrap();
        let Target::Handler(handler) = running.target() else { panic!("reached by address") };
        Host { handler, _driver: driver, _folder: folder }
    }

    /// Sends one message through the guest.
    pub(crate) async fn echo(&self, method: &str, message: &[u8]) -> Echoed {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(message.len() as u32);
        frame.put_slice(message);
        let request = Request::post(format!("/{SERVICE}/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body::full(frame.freeze()))
            .unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.handler.handle(request)).await;
        let (head, body) = answer.expect("no answer in time").unwrap().into_parts();
        let collected =
            tokio::time::timeout(PATIENCE, body.collect()).await.expect("no end in time").unwrap();
        let trailers = collected.trailers().cloned().unwrap_or(head.headers);
        let text = trailers.get("grpc-message").map_or("", |text| text.to_str().unwrap()).to_owned();
        match trailers["grpc-status"].as_bytes() {
            b"0" => Echoed::Back(collected.to_bytes().slice(5..)),
            b"3" => Echoed::Refused(text),
            code => panic!("{method} ended with {code:?}: {text}\nfor {message:02x?}"),
        }
    }
}

fn layer(media_type: &str, path: PathBuf) -> Layer {
    let bytes = std::fs::read(&path).unwrap();
    let (digest, size) = (sha256::digest(&bytes), bytes.len() as u64);
    Layer { media_type: media_type.to_owned(), digest, size, path }
}
