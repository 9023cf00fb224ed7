//! Tables that come, change, go away and are served from a file.

use super::world::*;
use ::http::Response;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tutti_base::body;
use tutti_proxy::Hop;

/// Answers with the version.
fn naming() -> Arc<dyn Hop> {
    hop(|_, target, _| async move { Ok(Response::new(body::full(target.version.to_string()))) })
}

fn split(first: u32) -> tutti_model::table::TableSpec {
    table("example.com:web", &["web.test"], &[("1.0", first, 2), ("2.0", 1_000_000 - first, 2)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_are_split_as_asked() {
    let world = Arc::new(World::with(vec![split(900_000)], naming()).await);
    let clients = (0..20).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let mut hits = BTreeMap::<String, usize>::new();
            for _ in 0..500 {
                *hits.entry(text(world.send(get("web.test", "/")).await).await).or_default() += 1;
            }
            hits
        })
    });
    let mut hits = BTreeMap::<String, usize>::new();
    for one in futures_util::future::join_all(clients).await {
        for (version, count) in one.unwrap() {
            *hits.entry(version).or_default() += count;
        }
    }
    assert_eq!(hits.values().sum::<usize>(), 10_000);
    assert!((990..=1010).contains(&hits["2.0"]), "{hits:?}");
    let report = || world.zone.reports.lock().unwrap().last().cloned();
    let counted = || report().map(|report| report.stats.iter().map(|one| one.stats.answers).sum::<u64>());
    until("the report has them all", || counted() == Some(10_000)).await;
    assert_eq!(report().unwrap().ingress, "ingress-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_tables_under_load_fails_no_request() {
    let world = Arc::new(World::with(vec![split(500_000)], naming()).await);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    let response = world.send(get("web.test", "/")).await;
                    assert_eq!(response.status(), 200);
                    text(response).await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    for step in 0..100u32 {
        // Every fifth transaction changes what is matched, and so the map.
        let other: &[&str] = if step % 5 == 0 { &["other.test"] } else { &["other.test", "more.test/x"] };
        let other = table("example.com:other", other, &[("1.0", 1_000_000, 1)]);
        let revision = world.zone.put(vec![split(step * 9_000 + 1), other]);
        world.reaches(revision).await;
        if step % 20 == 0 {
            world.zone.cut();
        }
    }
    stop.store(true, Ordering::SeqCst);
    let counts: Vec<usize> =
        futures_util::future::join_all(clients).await.into_iter().map(Result::unwrap).collect();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[tokio::test]
async fn a_reached_revision_is_reported_at_once() {
    let world = World::with(vec![web()], naming()).await;
    for _ in 0..5 {
        let revision = world.zone.put(vec![web()]);
        until("it is reported", || {
            world.zone.reports.lock().unwrap().iter().any(|report| report.reached == revision)
        })
        .await;
    }
}

#[tokio::test]
async fn it_starts_from_its_last_tables_and_serves_while_control_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tables.json");
    let zone = Arc::new(Zone::default());
    zone.put(vec![web()]);
    let first = World::new(Arc::clone(&zone), naming(), Some(file.clone())).await;
    until("the tables are kept", || file.exists()).await;
    first.tasks.stop();
    first.ended.await.unwrap();
    assert_eq!(*zone.left.lock().unwrap(), ["ingress-1"]);

    zone.away.store(true, Ordering::SeqCst);
    let second = World::new(Arc::clone(&zone), naming(), Some(file.clone())).await;
    assert_eq!(text(second.send(get("web.test", "/")).await).await, "1.0");
    assert_eq!(second.ingress.reached(), 0, "it has reached nothing that control could wait for");
    until("it asks again", || zone.watches.load(Ordering::SeqCst) >= 3).await;

    zone.put(vec![split(1)]);
    zone.away.store(false, Ordering::SeqCst);
    second.reaches(2).await;
    assert_eq!(text(second.send(get("web.test", "/")).await).await, "2.0");

    std::fs::write(&file, "{ torn").unwrap();
    let third = World::new(zone, naming(), Some(file)).await;
    third.reaches(2).await;
    assert_eq!(third.send(get("web.test", "/")).await.status(), 200);
}

#[tokio::test]
async fn before_it_knows_any_tables_it_calls_no_service_missing() {
    let zone = Arc::new(Zone::default());
    zone.away.store(true, Ordering::SeqCst);
    let world = World::new(Arc::clone(&zone), naming(), None).await;
    assert!(!world.ingress.has_tables());
    let (status, body) = problem(world.send(get("web.test", "/")).await).await;
    assert_eq!(status, 503, "it may well be there: {body}");
    assert!(body["detail"].as_str().unwrap().contains("has not been told yet"), "{body}");

    zone.put(vec![web()]);
    zone.away.store(false, Ordering::SeqCst);
    world.reaches(1).await;
    assert!(world.ingress.has_tables());
    assert_eq!(text(world.send(get("web.test", "/")).await).await, "1.0");
    assert_eq!(world.send(get("other.test", "/")).await.status(), 404);
}

#[tokio::test]
async fn it_leaves_only_when_its_requests_have_ended() {
    let (finish, wait) = tokio::sync::watch::channel(false);
    let world = World::with(
        vec![web()],
        hop(move |_, _, _| {
            let mut wait = wait.clone();
            async move {
                wait.wait_for(|go| *go).await.unwrap();
                Ok(Response::new(body::full("done")))
            }
        }),
    )
    .await;
    let (pool, address) = (world.pool.clone(), world.address);
    let running = tokio::spawn(async move {
        let timeouts = tutti_proxy::Timeouts::default();
        let sent = pool.send(address, tutti_proxy::Protocol::Http1, get("web.test", "/"), &timeouts);
        text(sent.await.unwrap()).await
    });
    until("it runs", || world.ingress.stats().iter().any(|one| one.stats.running == 1)).await;
    world.tasks.stop();
    let revision = world.zone.put(vec![split(1)]);
    world.reaches(revision).await;
    assert!(world.zone.left.lock().unwrap().is_empty(), "tables are followed as long as requests run");
    finish.send(true).unwrap();
    assert_eq!(running.await.unwrap(), "done");
    world.ended.await.unwrap();
    assert_eq!(*world.zone.left.lock().unwrap(), ["ingress-1"]);
}

#[tokio::test]
async fn what_was_deleted_while_it_was_away_goes_with_the_first_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tables.json");
    let serving = server(|_, _| async { Response::new(body::full("hello")) }).await;
    let zone = Arc::new(Zone::default());
    let gone = table("example.com:gone", &["gone.test"], &[("1.0", 1_000_000, 1)]);
    let revision = zone.put(vec![web(), gone]);
    let world = World::new(zone, hop_to(serving), Some(path.clone())).await;
    world.reaches(revision).await;
    assert_eq!(world.send(get("gone.test", "/")).await.status(), 200);
    world.tasks.stop();
    world.ended.await.unwrap();
    until("both tables are kept", || {
        std::fs::read_to_string(&path)
            .is_ok_and(|text| text.contains("gone.test") && text.contains("web.test"))
    })
    .await;

    let zone = Arc::new(Zone::default());
    let revision = zone.put(vec![web()]);
    let world = World::new(zone, hop_to(serving), Some(path.clone())).await;
    world.reaches(revision).await;
    assert_eq!(world.send(get("gone.test", "/")).await.status(), 404);
    assert_eq!(world.send(get("web.test", "/")).await.status(), 200);
    until("the file has forgotten it", || {
        std::fs::read_to_string(&path).is_ok_and(|text| !text.contains("gone.test"))
    })
    .await;
}
