//! The conformance suite over every engine of this crate, and engines held against each other.
#![cfg(test)]

mod agreement;
#[path = "../server/postgres.rs"]
mod postgres;

use futures_util::{FutureExt as _, future::BoxFuture};
use std::{sync::Arc, time::Instant};
use tutti_base::{Random, clock::VirtualClock, metrics::Exposition};
use tutti_model::{Millis, Timestamp};
use tutti_store::{
    LeaseId, MemoryStore, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, Store, Txn,
    faulty::Faulty,
    measured::Measured,
    suite::{self, Failure, Subject},
};

type Advance = Box<dyn Fn(Millis) -> BoxFuture<'static, ()> + Send + Sync>;

fn clock() -> (VirtualClock, Advance) {
    let clock = VirtualClock::at(Timestamp(1_000_000));
    let advance = {
        let clock = clock.clone();
        Box::new(move |span| {
            clock.advance(span);
            std::future::ready(()).boxed()
        })
    };
    (clock, advance)
}

fn memory() -> Subject {
    let (clock, advance) = clock();
    Subject { store: Arc::new(MemoryStore::new(Arc::new(clock))), advance, keep: Box::new(()) }
}

fn sqlite() -> Result<Subject, Failure> {
    let (clock, advance) = clock();
    let folder = tempfile::tempdir().map_err(|error| Failure::new(error.to_string()))?;
    let options = SqliteOptions { clock: Arc::new(clock), ..SqliteOptions::default() };
    let store = SqliteStore::open(&folder.path().join("store.db"), options)?;
    Ok(Subject { store: Arc::new(store), advance, keep: Box::new(folder) })
}

/// A store in a database of its own; its leases expire by the server's clock, which really has to pass.
async fn in_database(server: Arc<postgres::Server>) -> Result<Subject, Failure> {
    let address = server.database().parse().map_err(|error| Failure::new(format!("{error}")))?;
    let options = PostgresOptions { durable: false, ..PostgresOptions::default() };
    let store = PostgresStore::open(address, options).await?;
    let advance = Box::new(|span: Millis| tokio::time::sleep(span.duration()).boxed());
    Ok(Subject { store: Arc::new(store), advance, keep: Box::new(server) })
}

fn faultless() -> Subject {
    let Subject { store, advance, keep } = memory();
    let store: Arc<dyn Store> =
        Arc::new(Faulty::new(store, Random::seeded(1), Arc::new(VirtualClock::default())));
    Subject { store, advance, keep }
}

/// How often each operation was asked for, by what the figures say.
fn counted(measured: &Measured, operation: &str) -> u64 {
    let mut text = Exposition::default();
    measured.metrics(&mut text);
    let text = text.into_text();
    let sample = format!("tutti_store_request_seconds_count{{operation=\"{operation}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&sample)).unwrap_or_default().parse().unwrap_or(0)
}

/// Measuring changes nothing of a store, and counts what was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_measured_store_keeps_the_contract() {
    run("measured", || {
        let Subject { store, advance, keep } = memory();
        Ok(Subject { store: Arc::new(Measured::new(store)), advance, keep })
    })
    .await;
    let measured = Measured::new(memory().store);
    let _ = measured.txn(Txn::new().put("a", *b"1")).await;
    let _ = measured.txn(Txn::new().put("a", *b"2")).await;
    let _ = measured.get("a").await;
    let watch = measured.watch("", None).await;
    let figures = || {
        let mut text = Exposition::default();
        measured.metrics(&mut text);
        text.into_text()
    };
    assert_eq!((counted(&measured, "txn"), counted(&measured, "get"), counted(&measured, "list")), (2, 1, 0));
    assert!(figures().contains("\ntutti_store_watches 1\n"), "{}", figures());
    drop(watch);
    assert!(figures().contains("\ntutti_store_watches 0\n"), "{}", figures());
    // What has no good answer is counted apart too.
    assert!(measured.keep_alive(LeaseId(77)).await.is_err());
    assert!(figures().contains("\ntutti_store_failures_total{operation=\"lease\"} 1\n"), "{}", figures());
}

async fn run(engine: &str, make: impl Fn() -> Result<Subject, Failure> + Sync) {
    let start = Instant::now();
    let outcome = suite::run_all(&|| std::future::ready(make()).boxed()).await;
    let cases = outcome.unwrap_or_else(|failure| panic!("{engine}:\n{failure}"));
    println!("{engine}: {cases} cases in {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    run("memory", || Ok(memory())).await;
}

#[tokio::test]
async fn memory_keeps_the_contract_on_one_thread() {
    run("memory", || Ok(memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    run("sqlite", sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_keeps_the_contract() {
    let start = Instant::now();
    let Some(server) = postgres::Server::quick().map(Arc::new) else { return };
    let outcome = suite::run_all(&|| in_database(Arc::clone(&server)).boxed()).await;
    let cases = outcome.unwrap_or_else(|failure| panic!("postgresql:\n{failure}"));
    println!("postgresql: {cases} cases in {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faultless_faulty_store_keeps_the_contract() {
    run("faulty", || Ok(faultless())).await;
}
