//! Measures a unary gRPC call in process: from the request, its message still bytes, to the encoded reply and its
//! trailers, with a fresh instance each time.
//!
//! `scripts/build-guests.sh && cargo run --release -p tutti-isolate-wasm --example grpc_latency [-- --json]`

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tutti_base::{SystemClock, body, sha256};
use tutti_isolate::{Artifact, Driver as _, Handler, Layer, StartSpec, Target};
use tutti_isolate_wasm::{WasmDriver, WasmOptions};
use tutti_model::{InstanceId, manifest::Manifest};

const CALLS: usize = 20_000;
/// Left out of what is told: caches and the branch predictor are cold.
const WARM_UP: usize = 1_000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // As in the product: the driver runs this program again to compile.
    let mut words = std::env::args_os().skip(1);
    let first = words.next();
    if first.as_ref().is_some_and(|first| first == "compile") {
        return Ok(tutti_isolate_wasm::compiler::entry(words));
    }
    let json = first.is_some_and(|first| first == "--json");
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(json))?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(json: bool) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("grpc-latency-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let spec = spec(&folder)?;
    let driver = WasmDriver::new(WasmOptions::new(folder.join("cache"), Arc::new(SystemClock)))?;
    driver.preload(&spec.artifact).await?;
    let running = driver.start(&spec).await?;
    let Target::Handler(handler) = running.target() else { return Err("reached by address".into()) };
    let started = Instant::now();
    hello(&handler).await?;
    let first = started.elapsed();
    let mut times = Vec::with_capacity(CALLS);
    for number in 0..CALLS + WARM_UP {
        let took = hello(&handler).await?;
        if number >= WARM_UP {
            times.push(took);
        }
    }
    times.sort();
    let at = |share: usize| times.get(CALLS * share / 1000).copied().unwrap_or_default();
    if json {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "{{\"p50_us\": {:.1}, \"p99_us\": {:.1}, \"first_us\": {:.1}}}",
            micros(at(500)),
            micros(at(990)),
            micros(first)
        );
    } else {
        println!("first call {first:?}; then p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// One call, and how long it took.
async fn hello(handler: &Arc<dyn Handler>) -> Result<Duration, Box<dyn Error>> {
    let request = Request::post("/com.example.Echo/SayHello")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body::full(Bytes::from_static(b"\0\0\0\0\x07\n\x05world")))?;
    let started = Instant::now();
    let response = handler.handle(request).await?;
    let collected = response.into_body().collect().await.map_err(|error| error.to_string())?;
    let took = started.elapsed();
    let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    let body = collected.to_bytes();
    if status.is_some_and(|status| status == "0") && body.ends_with(b"\x08\x01") {
        Ok(took)
    } else {
        Err(format!("unexpected answer {body:?}").into())
    }
}

fn spec(folder: &Path) -> Result<StartSpec, Box<dyn Error>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let component = own.join("../../target/guests/grpc_guest.wasm");
    let compiled = tutti_proto::compile::compile(&[own.join("tests/grpc_guest/echo.proto")], &[])
        .map_err(|faults| format!("{faults:?}"))?;
    let descriptors = folder.join("descriptors");
    std::fs::write(&descriptors, &compiled.set)?;
    let layers = vec![
        layer("application/wasm", component)?,
        layer("application/vnd.tutti.descriptor-set.v1+protobuf", descriptors)?,
    ];
    let digest = layers.first().map(|layer| layer.digest.clone()).ok_or("no layers")?;
    Ok(StartSpec {
        instance: InstanceId::from_bits(1),
        version: "example.com:com.example.Echo@1.0".to_owned().try_into()?,
        artifact: Artifact { digest, layers },
        manifest: Manifest::default(),
        secrets: tutti_base::SecretValues::default(),
        until: None,
        folder: folder.join("instance"),
        logs: folder.join("logs"),
    })
}

fn layer(media_type: &str, path: PathBuf) -> Result<Layer, Box<dyn Error>> {
    let bytes =
        std::fs::read(&path).map_err(|error| format!("{error}: run scripts/build-guests.sh first"))?;
    let size = u64::try_from(bytes.len())?;
    Ok(Layer { media_type: media_type.to_owned(), digest: sha256::digest(&bytes), size, path })
}
