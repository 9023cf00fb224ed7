//! What a guest gets of a request, and what it may reach.

use crate::fixture::{Host, get, guest, manifest, text};
use http::{Request, StatusCode};
use tutti_base::body;
use tutti_isolate::{Driver as _, Recovery};
use tutti_model::{log::LogLine, version::Isolate};

#[tokio::test]
async fn the_sample_says_hello_with_its_version() {
    let host = Host::new();
    let service = host.start(guest("hello_wasm"), manifest()).await;
    let response = service.get("/").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(text(response).await, "Hello from wasm, version 1.2\n");
    assert_eq!(service.get("/nowhere").await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(service.text("/stream").await.matches("data: ").count(), 5);
}

#[tokio::test]
async fn a_guest_sees_its_manifest_s_environment_and_who_it_is_and_nothing_else() {
    let host = Host::new();
    let mut manifest = manifest();
    manifest.env.insert("GREETING".to_owned(), "Guten Tag".to_owned());
    let service = host.start(guest("hello_wasm"), manifest).await;
    assert_eq!(service.text("/").await, "Guten Tag, version 1.2\n");
    let mut variables: Vec<_> = service.text("/env").await.lines().map(str::to_owned).collect();
    variables.sort();
    let id = tutti_model::InstanceId::from_bits(7);
    assert_eq!(
        variables,
        [
            "GREETING=Guten Tag".to_owned(),
            format!("TUTTI_INSTANCE={id}"),
            "TUTTI_SERVICE=example.com:web".to_owned(),
            "TUTTI_VERSION=1.2".to_owned(),
        ]
    );
}

#[tokio::test]
async fn headers_come_through_and_hop_by_hop_ones_do_not() {
    let host = Host::new();
    let service = host.hostile().await;
    let request = Request::get("/headers")
        .header("host", "web.example.com")
        .header("x-one", "1")
        .header("x-one", "2")
        .header("connection", "close")
        .body(body::empty())
        .unwrap();
    let seen = text(service.send(request).await.unwrap()).await;
    assert!(seen.contains("authority web.example.com\nx-one: 1\nx-one: 2\n"), "{seen}");
    assert!(!seen.contains("connection"), "{seen}");
}

#[tokio::test]
async fn a_request_without_a_host_is_answered_too() {
    let host = Host::new();
    let service = host.hostile().await;
    let request = Request::get("/headers").body(body::empty()).unwrap();
    assert!(text(service.send(request).await.unwrap()).await.contains("authority localhost"));
    let request = Request::get("/headers").header("host", b"\xff".as_slice()).body(body::empty()).unwrap();
    assert!(text(service.send(request).await.unwrap()).await.contains("authority localhost"));
    let request = Request::get("https://web.example.com/headers").body(body::empty()).unwrap();
    assert!(text(service.send(request).await.unwrap()).await.contains("authority web.example.com"));
}

#[tokio::test]
async fn files_sockets_and_outgoing_requests_are_denied_and_randomness_is_not() {
    let host = Host::new();
    let service = host.hostile().await;
    for path in ["/files", "/connect", "/udp", "/lookup"] {
        assert!(service.text(path).await.starts_with("Err("), "{path}");
    }
    assert!(service.text("/fetch").await.contains("HttpRequestDenied"));
    assert_ne!(service.text("/random").await, service.text("/random").await);
}

#[tokio::test]
async fn what_is_denied_is_said_in_the_log_once_for_a_while() {
    let host = Host::new();
    let service = host.hostile().await;
    for _ in 0..10 {
        for path in ["/hello", "/files", "/connect", "/udp", "/lookup"] {
            service.text(path).await;
        }
    }
    let last = |lines: &[LogLine]| lines.iter().any(|line| line.line.contains("last"));
    service.text("/log?line=last").await;
    let lines = service.log_until(last).await;
    let about = |what: &str| lines.iter().filter(|line| line.line.contains(what)).count();
    for what in [
        "files were asked for and there are none",
        "a TCP socket was denied",
        "a UDP socket was denied",
        "looking up the address of \"api.example.org\" was denied",
    ] {
        assert_eq!(about(what), 1, "{what}: {lines:?}");
    }
    assert_eq!(about("listed as outgoing in [service]"), 3, "{lines:?}");
}

#[tokio::test]
async fn requests_share_nothing() {
    let host = Host::new();
    let service = host.hostile().await;
    let answers: Vec<_> = futures(50, |_| service.text("/hello")).await;
    assert!(answers.iter().all(|answer| answer == "hello\n"));
    assert_eq!(service.held().await, 0, "a request that has ended holds memory");
    assert!(service.running.usage().await.cpu_micros > 0);
}

async fn futures<T, F: Future<Output = T>>(count: usize, make: impl Fn(usize) -> F) -> Vec<T> {
    futures_util::future::join_all((0..count).map(make)).await
}

#[tokio::test]
async fn says_what_it_is() {
    let host = Host::new();
    assert_eq!(host.driver.isolate(), Isolate::Wasm);
    assert_eq!(host.driver.recovery(), Recovery::Gone);
    let fingerprint = host.driver.fingerprint().await;
    assert!(fingerprint.usable, "{fingerprint:?}");
    let spec = host.spec(guest("hello_wasm"), manifest());
    assert!(host.driver.recover(&spec).await.unwrap().is_none());
    std::fs::create_dir(&spec.folder).unwrap();
    host.driver.remove(&spec).await.unwrap();
    assert!(!spec.folder.exists());
    host.driver.remove(&spec).await.unwrap();
}

#[tokio::test]
async fn a_handler_that_is_dropped_half_way_ends_its_guest() {
    let host = Host::new();
    let service = host.hostile().await;
    let handler = service.handler();
    let mut waiting = Box::pin(handler.handle(get("/slow?ms=900")));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert!(service.held().await > 0);
    drop(waiting);
    assert_eq!(service.held().await, 0);
}
