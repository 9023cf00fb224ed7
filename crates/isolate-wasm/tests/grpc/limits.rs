//! Guests that misbehave: each ends with a status that says so, and its neighbour goes on.

use crate::fixture::{Host, manifest};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_guest_ends_with_a_clear_status() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    for (misdeed, code, text) in [
        (r#"{"spin": {}}"#, 4, "time limit"),
        (r#"{"storm": {}}"#, 4, "time limit"),
        (r#"{"sleep": "100000"}"#, 4, "time limit"),
        (r#"{"bomb": {}}"#, 8, "memory limit"),
        (r#"{"recurse": {}}"#, 13, "the service failed; its log says how"),
        (r#"{"tables": {}}"#, 13, "the service failed; its log says how"),
        (r#"{"panic": {}}"#, 13, "the service failed; its log says how"),
        (r#"{"exit": {}}"#, 13, "the service failed; its log says how"),
        (r#"{"huge": "1048577"}"#, 8, "reply"),
        (r#"{"huge": "8000000"}"#, 8, "reply"),
    ] {
        let answer = service.call("Misbehave", misdeed).await;
        assert_eq!(answer.code(), code, "{misdeed}: {}", answer.text());
        assert!(answer.text().contains(text), "{misdeed}: {}", answer.text());
        let neighbour = service.call("SayHello", r#"{"name": "x"}"#).await;
        assert_eq!(neighbour.json("SayHello"), json!({"talkToMe": true}));
    }
    service.freed().await;
    service.log_says("a panic on purpose").await;
}

#[tokio::test]
async fn files_sockets_and_requests_are_denied_and_it_is_said() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    for misdeed in [r#"{"files": {}}"#, r#"{"connect": {}}"#] {
        let answer = service.call("Misbehave", misdeed).await;
        assert_eq!(answer.code(), 0, "{}", answer.text());
        assert!(String::from_utf8_lossy(&answer.replies[0]).contains("Err("), "{:?}", answer.replies[0]);
    }
    let answer = service.call("Fetch", r#"{"url": "http://example.com:8080/"}"#).await;
    assert_eq!(answer.code(), 14);
    assert!(answer.text().contains("HttpRequestDenied"), "{}", answer.text());
    service.log_says("add \"example.com:8080\" to outgoing in [service]").await;
    let said = service.call("Misbehave", r#"{"print": "hello log"}"#).await;
    assert_eq!(said.code(), 0);
    service.log_says("hello log").await;
}
