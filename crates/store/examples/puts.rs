//! How many puts a second a store acknowledges, each on disk, at 1, 8 and 64 writers, and how long one takes.
//!
//! `cargo run --release -p tutti-store --example puts [FOLDER | etcd://HOST:PORT,… | postgres://…]`: SQLite in that folder,
//! or in a new one below the system's folder for temporary files, or an etcd cluster or PostgreSQL that is running. The
//! fsync line is what one commit cannot be faster than, in SQLite's folder.

use std::{
    error::Error,
    io::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tutti_store::{
    EtcdAddress, EtcdOptions, EtcdStore, PostgresAddress, PostgresOptions, PostgresStore, SqliteOptions,
    SqliteStore, Store, Txn,
};

/// How long each number of writers writes.
const SPAN: Duration = Duration::from_secs(3);
/// A small object, in bytes.
const VALUE: usize = 1024;
const WRITERS: [usize; 3] = [1, 8, 64];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args_os().nth(1);
    let remote: Option<Arc<dyn Store>> = match argument.as_ref().and_then(|text| text.to_str()) {
        Some(text) if text.starts_with("etcd://") => {
            let address: EtcdAddress = text.parse()?;
            Some(Arc::new(EtcdStore::open(&address, EtcdOptions::default()).await?))
        }
        Some(text) if text.starts_with("postgres") => {
            let address: PostgresAddress = text.parse()?;
            Some(Arc::new(PostgresStore::open(address, PostgresOptions::default()).await?))
        }
        _ => None,
    };
    if let Some(store) = remote {
        heading();
        for writers in WRITERS {
            row(&store, writers).await?;
        }
        return Ok(());
    }
    let folder = match argument {
        Some(folder) => PathBuf::from(folder),
        None => std::env::temp_dir().join(format!("tutti-puts-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder)?;
    let fsync = fsync(&folder.join("fsync"))?;
    println!("one fsync of {VALUE} appended bytes: {:.2} ms", milliseconds(fsync));
    heading();
    for writers in WRITERS {
        let path = folder.join(format!("puts-{writers}.db"));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, SqliteOptions::default())?);
        row(&store, writers).await?;
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn heading() {
    println!("{:>8} {:>10} {:>9} {:>9} {:>9}", "writers", "puts/s", "p50 ms", "p99 ms", "max ms");
}

async fn row(store: &Arc<dyn Store>, writers: usize) -> Result<(), Box<dyn Error>> {
    let mut times = measure(store, writers).await?;
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).or(times.last()).copied();
    let shown = |time: Option<Duration>| milliseconds(time.unwrap_or_default());
    println!(
        "{writers:>8} {:>10} {:>9.2} {:>9.2} {:>9.2}",
        times.len() / usize::try_from(SPAN.as_secs())?,
        shown(at(50)),
        shown(at(99)),
        shown(times.last().copied())
    );
    Ok(())
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

async fn measure(store: &Arc<dyn Store>, writers: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let end = Instant::now() + SPAN;
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < end {
                    let start = Instant::now();
                    let key = format!("writer/{writer}/{}", times.len() % 100);
                    store.txn(Txn::new().put(key, vec![b'x'; VALUE])).await?;
                    times.push(start.elapsed());
                }
                Ok::<_, tutti_store::StoreError>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(times)
}
