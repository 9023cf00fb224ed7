//! Measures the wasm isolate in process: preload, start, a hello request from call to last byte, and memory.
//!
//! `scripts/build-guests.sh && cargo run --release -p tutti-isolate-wasm --example hello_latency`

use http::Request;
use http_body_util::BodyExt as _;
use std::{
    error::Error,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tutti_base::{SystemClock, body, sha256};
use tutti_isolate::{Artifact, Driver as _, Handler, Layer, StartSpec, Target};
use tutti_isolate_wasm::{WasmDriver, WasmOptions};
use tutti_model::{InstanceId, manifest::Manifest};

const REQUESTS: usize = 20_000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // As in the product: the driver runs this program again to compile.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|first| first == "compile") {
        return Ok(tutti_isolate_wasm::compiler::entry(words));
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())?;
    Ok(ExitCode::SUCCESS)
}

async fn measure() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("hello-latency-{}", std::process::id()));
    let spec = spec(&folder)?;
    println!("before the engine       {}", resident()?);
    let driver = WasmDriver::new(WasmOptions::new(folder.join("cache"), Arc::new(SystemClock)))?;
    println!("with the engine         {}", resident()?);

    let started = Instant::now();
    driver.preload(&spec.artifact).await?;
    println!("preload, compiling      {:?}, {}", started.elapsed(), resident()?);
    drop(driver);
    let driver = WasmDriver::new(WasmOptions::new(folder.join("cache"), Arc::new(SystemClock)))?;
    let started = Instant::now();
    driver.preload(&spec.artifact).await?;
    println!("preload, from the cache {:?}", started.elapsed());
    let started = Instant::now();
    let running = driver.start(&spec).await?;
    println!("start after preload     {:?}, {}", started.elapsed(), resident()?);

    let Target::Handler(handler) = running.target() else { return Err("reached by address".into()) };
    let started = Instant::now();
    hello(&handler).await?;
    println!("first request           {:?}", started.elapsed());
    let mut times = Vec::with_capacity(REQUESTS);
    let begun = Instant::now();
    for _ in 0..REQUESTS {
        let started = Instant::now();
        hello(&handler).await?;
        times.push(started.elapsed());
    }
    let total = begun.elapsed();
    times.sort();
    let at = |share: usize| times.get(REQUESTS * share / 1000).copied().unwrap_or_default();
    println!("hello p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    println!("one after the other     {:.0} a second", REQUESTS as f64 / total.as_secs_f64());

    let begun = Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let handler = Arc::clone(&handler);
            tokio::spawn(async move {
                for _ in 0..REQUESTS / 16 {
                    hello(&handler).await.map_err(|error| error.to_string())?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    println!("64 at once              {:.0} a second", (REQUESTS * 4) as f64 / begun.elapsed().as_secs_f64());
    println!("after all that          {}", resident()?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("idle                    {}", resident()?);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

async fn hello(handler: &Arc<dyn Handler>) -> Result<(), Box<dyn Error>> {
    let request = Request::get("/").header("host", "web.example.com").body(body::empty())?;
    let response = handler.handle(request).await?;
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    if body.starts_with(b"Hello") { Ok(()) } else { Err(format!("unexpected answer {body:?}").into()) }
}

fn spec(folder: &Path) -> Result<StartSpec, Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/hello_wasm.wasm");
    let bytes =
        std::fs::read(&path).map_err(|error| format!("{error}: run scripts/build-guests.sh first"))?;
    let digest = sha256::digest(&bytes);
    let layer = Layer {
        media_type: "application/wasm".to_owned(),
        digest: digest.clone(),
        size: bytes.len() as u64,
        path,
    };
    Ok(StartSpec {
        instance: InstanceId::from_bits(1),
        version: "example.com:web@1.0".to_owned().try_into()?,
        artifact: Artifact { digest, layers: vec![layer] },
        manifest: Manifest::default(),
        secrets: tutti_base::SecretValues::default(),
        until: None,
        folder: folder.join("instance"),
        logs: folder.join("logs"),
    })
}

/// What the kernel says of this process's memory.
fn resident() -> Result<String, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let find = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("?");
        line.trim().to_owned()
    };
    Ok(format!("resident {} (of which own {})", find("VmRSS:"), find("RssAnon:")))
}
