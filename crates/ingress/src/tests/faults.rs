//! What goes wrong, and what the caller is told.

use super::world::*;
use ::http::{HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;
use tutti_base::{
    Body,
    body::{self, BodyError},
};
use tutti_model::table::Backend;
use tutti_proxy::{Hop, HopError, Pool, PoolOptions, Protocol, Replay, Timeouts};

fn never() -> Arc<dyn Hop> {
    hop(|_, _, _| async { panic!("nothing is to be sent") })
}

fn misdirected(request: Request<Body>) -> HopError {
    HopError::Misdirected { reason: "instance i-x is not here any more".into(), request: Box::new(request) }
}

#[tokio::test]
async fn an_unknown_host_is_404_with_a_hint() {
    let world = World::with(vec![web()], never()).await;
    let (status, problem) = problem(world.send(get("nowhere.test", "/x")).await).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &"not_found".into()));
    assert_eq!(problem["detail"], "no service takes requests for host \"nowhere.test\", path \"/x\"");
    assert_eq!(problem["hint"], "add a route with: tutti route create nowhere.test[/PATH] SERVICE");
    assert_eq!(problem["request_id"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn an_unknown_hosts_hint_can_be_followed() {
    let world = World::with(vec![web()], never()).await;
    for (host, hint) in [
        ("Shop.test:8080", "add a route with: tutti route create shop.test[/PATH] SERVICE"),
        (
            "127.0.0.1:8080",
            "name a service's host, which tutti status shows, as in: curl -H 'Host: HOST' http://127.0.0.1:8080",
        ),
        (
            "localhost:8080",
            "name a service's host, which tutti status shows, as in: curl -H 'Host: HOST' http://localhost:8080",
        ),
        (
            "[::1]:80",
            "name a service's host, which tutti status shows, as in: curl -H 'Host: HOST' http://[::1]:80",
        ),
        (
            "a_b.test",
            "name a service's host, which tutti status shows, as in: curl -H 'Host: HOST' http://a_b.test",
        ),
    ] {
        let (status, problem) = problem(world.send(get(host, "/")).await).await;
        assert_eq!((status, &problem["hint"]), (StatusCode::NOT_FOUND, &hint.into()), "{host}");
    }
}

#[tokio::test]
async fn grpc_callers_get_a_grpc_status() {
    let world = World::with(vec![web()], never()).await;
    let mut request = get("nowhere.test", "/a.B/C");
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let response = world.send(request).await;
    assert_eq!(
        (response.status(), &response.headers()["grpc-status"]),
        (StatusCode::OK, &HeaderValue::from_static("5"))
    );
}

#[tokio::test]
async fn no_instance_is_503_with_the_tables_reason() {
    let backend =
        Backend::None { reason: "version 1.0 has no ready instance: its health check fails".into() };
    let world = World::with(vec![backed("example.com:web", &["web.test"], backend)], never()).await;
    let response = world.send(get("web.test", "/")).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, problem) = problem(response).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["detail"], "version 1.0 has no ready instance: its health check fails");
}

#[tokio::test]
async fn failures_timeouts_and_overload_have_their_own_status_and_are_counted() {
    let world = World::with(
        vec![web()],
        hop(|_, _, request| async move {
            match request.uri().path() {
                "/failed" => Err(HopError::Failed("instance i-1 closed the connection".into())),
                "/silent" => std::future::pending().await,
                "/full" => Err(HopError::Overloaded {
                    reason: "the queue is full".into(),
                    request: Box::new(request),
                }),
                "/500" => Ok(Response::builder().status(500).body(body::full("own error")).unwrap()),
                _ => Ok(Response::builder().status(404).body(body::full("own")).unwrap()),
            }
        }),
    )
    .await;
    for (path, status, code) in
        [("/failed", 502, "unavailable"), ("/silent", 504, "timeout"), ("/full", 503, "unavailable")]
    {
        let (got, problem) = problem(world.send(get("web.test", path)).await).await;
        assert_eq!(
            (got.as_u16(), &problem["code"], &problem["status"]),
            (status, &code.into(), &status.into())
        );
    }
    assert_eq!(text(world.send(get("web.test", "/500")).await).await, "own error");
    assert_eq!(text(world.send(get("web.test", "/404")).await).await, "own");
    let stats = world.ingress.stats();
    assert_eq!((stats[0].stats.answers, stats[0].stats.errors, stats[0].stats.running), (5, 4, 0));
    assert_eq!(stats[0].stats.latency.count(), 5);
    let metrics = world.ingress.metrics();
    for line in [
        "tutti_ingress_answers_total{service=\"example.com:web\",version=\"1.0\"} 5",
        "tutti_ingress_errors_total{service=\"example.com:web\",version=\"1.0\"} 4",
        "tutti_ingress_latency_seconds_bucket{service=\"example.com:web\",version=\"1.0\",le=\"+Inf\"} 5",
        "tutti_ingress_failures_total{code=\"timeout\"} 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn upstreams_take_turns_and_dead_ones_are_skipped() {
    let (one, other) = (
        server(|_, _| async { Response::new(body::full("one")) }).await,
        server(|_, _| async { Response::new(body::full("other")) }).await,
    );
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstreams = [one, closed, other].map(|address| address.to_string().parse().unwrap());
    let world = World::with(
        vec![backed("example.com:old", &["old.test"], Backend::Upstreams(upstreams.into()))],
        never(),
    )
    .await;
    let mut texts = Vec::new();
    for _ in 0..12 {
        let response = world.send(get("old.test", "/")).await;
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("tutti-version"));
        texts.push(text(response).await);
    }
    assert!(
        texts.iter().filter(|text| *text == "one").count() >= 4
            && texts.iter().filter(|text| *text == "other").count() >= 4
    );
    world.zone.put(vec![backed(
        "example.com:old",
        &["old.test"],
        Backend::Upstreams(vec![closed.to_string().parse().unwrap()]),
    )]);
    until("the table is applied", || world.ingress.reached() == 2).await;
    let (status, problem) = problem(world.send(get("old.test", "/")).await).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("refused"), "{problem}");
}

/// A hop over real connections, as between machines: 421 means misdirected, and the body comes back by replay. It is
/// HTTP/2, where an early refusal ends one stream; over HTTP/1.1 it would end the connection under the upload.
fn wire_hop(nodes: Vec<std::net::SocketAddr>) -> Arc<dyn Hop> {
    let pool = Pool::new(PoolOptions::default());
    hop(move |_, target, request| {
        let (pool, nodes) = (pool.clone(), nodes.clone());
        async move {
            let at = usize::from(target.instance != instance(0));
            let (parts, body) = request.into_parts();
            let (replay, sent) = Replay::new(body);
            let copy = Request::from_parts(parts.clone(), sent);
            let response = pool.send(nodes[at], Protocol::Http2, copy, &Timeouts::default()).await;
            match response {
                Ok(response) if response.status() == StatusCode::MISDIRECTED_REQUEST => {
                    Err(misdirected(Request::from_parts(parts, replay.take_back())))
                }
                Ok(response) => {
                    replay.admit();
                    Ok(response)
                }
                Err(error) => Err(HopError::Failed(error.chain())),
            }
        }
    })
}

/// Reads some of what it is sent first, so that the body really is under way.
async fn refuse(request: Request<Body>) -> Response<Body> {
    let mut body = request.into_body();
    let _ = body.frame().await;
    Response::builder().status(421).body(body::empty()).unwrap()
}

#[tokio::test]
async fn a_misdirected_request_goes_elsewhere_with_its_whole_body() {
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    let refusing = server(move |request, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        refuse(request)
    })
    .await;
    // The serving node answers at once and echoes.
    let serving = server(echo).await;
    let world = World::with(vec![web()], wire_hop(vec![refusing, serving])).await;
    for size in [10, 60 * 1024, 70 * 1024, 1 << 20] {
        let all: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let before = refused.load(Ordering::SeqCst);
        while refused.load(Ordering::SeqCst) < before + 2 {
            let parts: Vec<_> = all
                .chunks(8 * 1024)
                .map(|part| Ok::<_, BodyError>(Frame::data(Bytes::copy_from_slice(part))))
                .collect();
            let response =
                world.send(post(StreamBody::new(futures_util::stream::iter(parts)).boxed_unsync())).await;
            assert_eq!(response.status(), 200);
            let whole = response.into_body().collect().await.unwrap().to_bytes();
            assert!(whole == all, "{} of {size} bytes", whole.len());
            // The refusing one is tried again once control has said so.
            let revision = world.zone.put(vec![web()]);
            world.reaches(revision).await;
        }
    }
}

#[tokio::test]
async fn misdirection_is_bounded_and_asks_for_the_tables_anew() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let many = table("example.com:web", &["web.test"], &[("1.0", 1_000_000, 10)]);
    let world = World::with(
        vec![many],
        hop(move |_, _, request| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Err(misdirected(request)) }
        }),
    )
    .await;
    let (status, _) = problem(world.send(get("web.test", "/")).await).await;
    assert_eq!((status, sent.load(Ordering::SeqCst)), (StatusCode::SERVICE_UNAVAILABLE, 3));
    let metrics = world.ingress.metrics();
    assert!(metrics.contains("\ntutti_ingress_retries_total 2\n"), "{metrics}");
    until("the tables are asked for anew", || world.zone.watches.load(Ordering::SeqCst) >= 2).await;
}

#[tokio::test]
async fn a_request_that_waited_while_its_table_was_replaced_goes_by_the_new_one() {
    let (came, gone) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (arrived, left) = (Arc::clone(&came), Arc::clone(&gone));
    let world = World::with(
        vec![table("example.com:web", &["web.test"], &[("1.0", 1_000_000, 1)])],
        hop(move |_, target, request| {
            let (arrived, left) = (Arc::clone(&arrived), Arc::clone(&left));
            async move {
                if target.version.as_str() == "2.0" {
                    return Ok(Response::new(body::full("served by 2.0")));
                }
                // It waits in line until the last instance of its version drains.
                arrived.notify_one();
                left.notified().await;
                Err(misdirected(request))
            }
        }),
    )
    .await;
    let replaced = async {
        came.notified().await;
        let mut fresh = table("example.com:web", &["web.test"], &[("1.0", 0, 0), ("2.0", 1_000_000, 1)]);
        if let Backend::Versions(versions) = &mut fresh.backend {
            versions.remove(0);
        }
        let revision = world.zone.put(vec![fresh]);
        world.reaches(revision).await;
        gone.notify_one();
    };
    let (response, ()) = tokio::join!(world.send(get("web.test", "/")), replaced);
    assert_eq!(text(response).await, "served by 2.0");
}

#[tokio::test]
async fn all_attempts_together_have_the_time_of_one() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let came = Arc::new(tokio::sync::Notify::new());
    let arrived = Arc::clone(&came);
    let world = World::with(
        vec![table("example.com:web", &["web.test"], &[("1.0", 1_000_000, 5)])],
        hop(move |_, _, request| {
            counted.fetch_add(1, Ordering::SeqCst);
            arrived.notify_one();
            async {
                // Most of the 500 ms that the table allows.
                tokio::time::sleep(Duration::from_millis(400)).await;
                Err(HopError::Overloaded { reason: "busy all the time".into(), request: Box::new(request) })
            }
        }),
    )
    .await;
    // Paused time runs ahead while the kernel is waited for, unless a thread is at work.
    let (ends, ended) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || ended.recv_timeout(PATIENCE));
    tokio::time::pause();
    let time_passes = async {
        loop {
            came.notified().await;
            for _ in 0..9 {
                tokio::time::advance(Duration::from_millis(50)).await;
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    let response = tokio::select! {
        response = world.send(get("web.test", "/")) => response,
        () = time_passes => unreachable!("it passes for ever"),
    };
    let (status, _) = problem(response).await;
    assert_eq!((status.as_u16(), sent.load(Ordering::SeqCst)), (504, 2));
    drop(ends);
}

#[tokio::test]
async fn what_was_delivered_is_not_sent_again() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let world = World::with(
        vec![web()],
        hop(move |_, _, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Err(HopError::Failed("it broke".into())) }
        }),
    )
    .await;
    for number in 1..20 {
        assert_eq!(world.send(get("web.test", "/")).await.status(), 502);
        assert_eq!(sent.load(Ordering::SeqCst), number);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_breaks_off_for_the_caller() {
    let world = World::with(
        vec![web()],
        hop(|_, _, _| async {
            let parts = vec![Ok(Frame::data(Bytes::from_static(b"half"))), Err(BodyError::from("gone"))];
            Ok(Response::new(StreamBody::new(futures_util::stream::iter(parts)).boxed_unsync()))
        }),
    )
    .await;
    let response =
        world.pool.send(world.address, Protocol::Http1, get("web.test", "/"), &Timeouts::default()).await;
    if let Ok(response) = response {
        assert!(response.into_body().collect().await.is_err());
    }
    until("it is counted", || world.ingress.stats()[0].stats.errors == 1).await;
}
