//! Measures what idle instances of the wasm isolate hold, each of a component with bytes of its own.
//!
//! `scripts/build-guests.sh && cargo run --release -p tutti-isolate-wasm --example idle_memory -- 100 [http|grpc] [same]`

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
use tutti_isolate::{Artifact, Driver as _, Layer, StartSpec, Target};
use tutti_isolate_wasm::{WasmDriver, WasmOptions};
use tutti_model::{InstanceId, manifest::Manifest};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // As in the product: the driver runs this program again to compile.
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|first| first == "compile") {
        return Ok(tutti_isolate_wasm::compiler::entry(words.into_iter().skip(1)));
    }
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let count = words.first().and_then(|word| word.parse().ok()).ok_or("how many instances?")?;
    let has = |word: &str| words.iter().any(|one| one == word);
    let work = measure(count, has("grpc"), has("same"));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(count: u32, grpc: bool, same: bool) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("idle-memory-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let driver = WasmDriver::new(WasmOptions::new(folder.join("cache"), Arc::new(SystemClock)))?;
    let mut held = Vec::new();
    // The first brings along what all share.
    let mut before = [0; 3];
    for number in 0..=count {
        let spec = spec(&folder, if same { 0 } else { number }, number, grpc)?;
        driver.preload(&spec.artifact).await?;
        held.push(driver.start(&spec).await?);
        if number == 0 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            before = resident()?;
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = resident()?;
    let each = |at: usize| {
        let pair = (after.get(at), before.get(at));
        pair.0.zip(pair.1).map_or(0.0, |(after, before)| (*after as f64 - *before as f64) / f64::from(count))
    };
    println!(
        "resident with 1: {} KiB, own {}; with {count} more: {} KiB, own {}",
        before[0], before[1], after[0], after[1]
    );
    println!("each: {:.1} KiB, of which own {:.1}, of files {:.1}", each(0), each(1), each(2));
    let mut times = Vec::new();
    for running in &held {
        let Target::Handler(handler) = running.target() else { return Err("reached by address".into()) };
        let request = if grpc {
            Request::post("/com.example.Echo/SayHello")
                .header("content-type", "application/grpc")
                .body(body::full(&b"\0\0\0\0\x07\n\x05world"[..]))?
        } else {
            Request::get("/").header("host", "web.example.com").body(body::empty())?
        };
        let started = Instant::now();
        let response = handler.handle(request).await?;
        response.into_body().collect().await.map_err(|error| error.to_string())?;
        times.push(started.elapsed());
    }
    times.sort();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!("first call of each: median {median:?}, worst {:?}", times.last().copied().unwrap_or_default());
    println!("after a call of each: {} KiB, own {}", resident()?[0], resident()?[1]);
    tokio::time::sleep(Duration::from_secs(IDLE)).await;
    println!("some seconds later: {} KiB, own {}", resident()?[0], resident()?[1]);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Seconds after the calls.
const IDLE: u64 = 5;

fn spec(folder: &Path, bytes: u32, number: u32, grpc: bool) -> Result<StartSpec, Box<dyn Error>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = if grpc { "grpc_guest.wasm" } else { "hello_wasm.wasm" };
    let mut component = std::fs::read(own.join("../../target/guests").join(name))
        .map_err(|error| format!("{error}: run scripts/build-guests.sh first"))?;
    // A custom section of its own.
    let text = format!("{bytes:08}");
    component.extend([0, 9, 8]);
    component.extend(text.as_bytes());
    let path = folder.join(format!("component-{bytes}"));
    std::fs::write(&path, component)?;
    let mut layers = vec![layer("application/wasm", path)?];
    if grpc {
        let compiled = tutti_proto::compile::compile(&[own.join("tests/grpc_guest/echo.proto")], &[])
            .map_err(|faults| format!("{faults:?}"))?;
        let descriptors = folder.join("descriptors");
        std::fs::write(&descriptors, &compiled.set)?;
        layers.push(layer("application/vnd.tutti.descriptor-set.v1+protobuf", descriptors)?);
    }
    let digest = layers.first().map(|layer| layer.digest.clone()).ok_or("no layers")?;
    Ok(StartSpec {
        instance: InstanceId::from_bits(number.into()),
        version: format!("example.com:com.example.Echo@1.{number}").try_into()?,
        artifact: Artifact { digest, layers },
        manifest: Manifest::default(),
        secrets: tutti_base::SecretValues::default(),
        until: None,
        folder: folder.join("instance"),
        logs: folder.join("logs"),
    })
}

fn layer(media_type: &str, path: PathBuf) -> Result<Layer, Box<dyn Error>> {
    let bytes = std::fs::read(&path)?;
    let size = u64::try_from(bytes.len())?;
    Ok(Layer { media_type: media_type.to_owned(), digest: sha256::digest(&bytes), size, path })
}

/// What the kernel says of this process's memory, in KiB: all, its own, and that of files.
fn resident() -> Result<[u64; 3], Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let find = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    };
    Ok([find("VmRSS:"), find("RssAnon:"), find("RssFile:")])
}
