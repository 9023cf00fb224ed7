//! How many puts a second each engine acknowledges, all on disk, and how soon a watcher knows of one; raw etcd beside
//! them, asked by nothing but its own API.
//!
//! `cargo run --release --example engines -- [--json] TARGET…`, a target being a folder (SQLite in it), `etcd://HOST:PORT`,
//! `postgres://…`, or `raw:HOST:PORT` for etcd itself. They take turns, so that what else the machine does is shared. The
//! fsync line is what one commit cannot be faster than, in the first folder that is named.

use futures_util::StreamExt as _;
use serde_json::json;
use std::{
    error::Error,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};
use tutti_store::{
    EtcdOptions, EtcdStore, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, Store, Txn,
    WatchEvent,
};

#[path = "engines/raw_etcd.rs"]
mod raw_etcd;
use raw_etcd::RawEtcd;

/// How long each number of writers writes.
const SPAN: Duration = Duration::from_secs(3);
/// A small object, in bytes.
const VALUE: usize = 1024;
const WRITERS: [usize; 3] = [1, 8, 64];
/// Keys that a writer writes in turn.
const KEYS: usize = 100;
/// Puts whose way to a watcher is measured, one after the other.
const WATCHED: usize = 500;
/// Longest wait for one of them.
const PATIENCE: Duration = Duration::from_secs(10);

type Failure = Box<dyn Error + Send + Sync>;

/// What is measured.
#[derive(Clone)]
enum Engine {
    Tutti(Arc<dyn Store>),
    Raw(RawEtcd),
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (flags, targets): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument == "--json");
    let print_json = !flags.is_empty();
    let mut engines = Vec::new();
    let mut folder = None;
    for target in &targets {
        let (name, engine) = open(target).await?;
        if name == "SQLite" && folder.is_none() {
            folder = Some(PathBuf::from(target));
        }
        engines.push((name, engine));
    }
    if let Some(folder) = folder {
        let took = milliseconds(fsync(&folder.join("fsync"))?);
        match print_json {
            true => println!("{}", json!({ "what": "fsync", "p50_ms": took })),
            false => println!("one fsync of {VALUE} appended bytes: {took:.2} ms"),
        }
    }
    for writers in WRITERS {
        for (name, engine) in &engines {
            let times = puts(engine, writers).await?;
            let a_second = times.len() / usize::try_from(SPAN.as_secs())?;
            say(print_json, "puts", name, writers, Some(a_second), times);
        }
    }
    for (name, engine) in &engines {
        say(print_json, "watch", name, 1, None, watched(engine).await?);
    }
    Ok(())
}

async fn open(target: &str) -> Result<(&'static str, Engine), Failure> {
    Ok(if let Some(address) = target.strip_prefix("raw:") {
        ("etcd, raw", Engine::Raw(RawEtcd::connect(address).await?))
    } else if target.starts_with("etcd://") {
        let store = EtcdStore::open(&target.parse()?, EtcdOptions::default()).await?;
        ("etcd", Engine::Tutti(Arc::new(store)))
    } else if target.starts_with("postgres") {
        let store = PostgresStore::open(target.parse()?, PostgresOptions::default()).await?;
        ("PostgreSQL", Engine::Tutti(Arc::new(store)))
    } else {
        std::fs::create_dir_all(target)?;
        let store = SqliteStore::open(&Path::new(target).join("engines.db"), SqliteOptions::default())?;
        ("SQLite", Engine::Tutti(Arc::new(store)))
    })
}

fn say(
    print_json: bool,
    what: &str,
    engine: &str,
    writers: usize,
    a_second: Option<usize>,
    mut times: Vec<Duration>,
) {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).or(times.last()).copied();
    let shown = |time: Option<Duration>| milliseconds(time.unwrap_or_default());
    let (p50, p99, max) = (shown(at(50)), shown(at(99)), shown(times.last().copied()));
    if print_json {
        let line = json!({
            "what": what, "engine": engine, "writers": writers, "per_second": a_second,
            "p50_ms": p50, "p99_ms": p99, "max_ms": max,
        });
        println!("{line}");
    } else {
        let a_second = a_second.map(|count| count.to_string()).unwrap_or_default();
        println!(
            "{what:>6} {engine:>11} {writers:>3} at once {a_second:>8} a second, p50 {p50:.2} ms, p99 {p99:.2}, max {max:.2}"
        );
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The median of a hundred.
fn fsync(path: &PathBuf) -> std::io::Result<Duration> {
    let mut file = std::fs::File::create(path)?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        file.write_all(&[1; VALUE])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(50).copied().unwrap_or_default())
}

impl Engine {
    async fn put(&self, key: &str) -> Result<(), Failure> {
        match self {
            Engine::Tutti(store) => drop(store.txn(Txn::new().put(key, vec![b'x'; VALUE])).await?),
            Engine::Raw(etcd) => etcd.put(key, vec![b'x'; VALUE]).await?,
        }
        Ok(())
    }

    /// Says when each change below the prefix has come, from the moment on that the watch is known to run.
    async fn watch(&self, prefix: &str) -> Result<mpsc::Receiver<Instant>, Failure> {
        let (seen, seeing) = mpsc::channel(WATCHED);
        match self {
            Engine::Tutti(store) => {
                let mut events = store.watch(prefix, None).await?;
                while !matches!(events.next().await.ok_or("the watch ended")??, WatchEvent::InitDone { .. }) {
                }
                tokio::spawn(async move {
                    while let Some(Ok(event)) = events.next().await {
                        if let WatchEvent::Changes { changes, .. } = event {
                            for _ in changes {
                                let _ = seen.try_send(Instant::now());
                            }
                        }
                    }
                });
            }
            Engine::Raw(etcd) => etcd.watch(prefix, seen).await?,
        }
        Ok(seeing)
    }
}

async fn puts(engine: &Engine, writers: usize) -> Result<Vec<Duration>, Failure> {
    let end = Instant::now() + SPAN;
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let engine = engine.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                engine.put(&format!("writer/{writer}/{}", times.len() % KEYS)).await?;
                times.push(start.elapsed());
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    Ok(times)
}

/// How long each put takes from its beginning until a watcher has it.
async fn watched(engine: &Engine) -> Result<Vec<Duration>, Failure> {
    let mut seeing = engine.watch("watched/").await?;
    let mut times = Vec::new();
    for number in 0..WATCHED {
        let start = Instant::now();
        engine.put(&format!("watched/{}", number % KEYS)).await?;
        let seen = tokio::time::timeout(PATIENCE, seeing.recv()).await?.ok_or("the watch ended")?;
        times.push(seen.saturating_duration_since(start));
    }
    Ok(times)
}
