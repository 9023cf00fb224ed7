//! Calls of which either side streams.

use crate::fixture::{
    Answer, Host, PATIENCE, Service, channel, collect, frame, input, manifest, messages, method, request,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use prost_reflect::{DynamicMessage, prost::Message as _};
use std::time::Duration;
use tutti_base::{Body, body};

fn chunk(number: u64, bytes: usize) -> Bytes {
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(vec![1; bytes]);
    frame(&input("Talk", &format!(r#"{{"number": "{number}", "data": "{data}"}}"#)).encode_to_vec())
}

fn number(reply: &[u8]) -> u64 {
    let chunk = DynamicMessage::decode(method("Talk").output(), reply).unwrap();
    chunk.get_field_by_name("number").unwrap().as_u64().unwrap()
}

async fn next(body: &mut Body) -> Option<u64> {
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap()?.unwrap();
    frame.into_data().ok().map(|data| number(&messages(data)[0]))
}

async fn wrote(service: &Service, line: &str) -> bool {
    let wanted = line.to_owned();
    let look = service.log_until(move |lines| lines.iter().any(|line| line.line.contains(&wanted)));
    tokio::time::timeout(Duration::from_millis(300), look).await.is_ok()
}

#[tokio::test]
async fn a_client_streams() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let all: Vec<u8> = (0..100).flat_map(|number| chunk(number, 1000)).collect();
    let answer = collect(service.send(request("Upload", body::full(all))).await).await;
    assert_eq!(answer.json("Upload"), serde_json::json!({"chunks": "100", "bytes": "100000"}));
    let none = collect(service.send(request("Upload", body::empty())).await).await;
    assert_eq!(none.json("Upload"), serde_json::json!({}));
    let broken = collect(service.send(request("Upload", body::full(frame(&[0x0a])))).await).await;
    assert_eq!(broken.code(), 3, "{}", broken.text());
}

#[tokio::test]
async fn a_server_streams() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let answer = service.call("Download", r#"{"chunks": "100", "bytes": "1000"}"#).await;
    assert_eq!(answer.code(), 0, "{}", answer.text());
    let numbers: Vec<u64> = answer.replies.iter().map(|reply| number(reply)).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert_eq!(
        (answer.head["x-first"].as_bytes(), answer.trailers["x-sent"].as_bytes()),
        (&b"yes"[..], &b"100"[..])
    );
    let none: Answer = service.call("Download", "{}").await;
    assert_eq!((none.code(), none.replies.len()), (0, 0));
    assert_eq!(none.head["x-late"], "no");
}

#[tokio::test]
async fn both_stream_and_each_waits_for_the_other() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let (sender, requests) = channel();
    sender.send(chunk(1, 0)).await.unwrap();
    let mut replies = service.send(request("Talk", requests)).await.into_body();
    assert_eq!(next(&mut replies).await, Some(1));
    for one in 2..20 {
        sender.send(chunk(one, 10)).await.unwrap();
        assert_eq!(next(&mut replies).await, Some(one));
    }
    // The client has no more to say.
    drop(sender);
    let end = replies.collect().await.unwrap();
    assert_eq!(end.trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_guest_may_end_while_its_client_still_sends() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let (sender, requests) = channel();
    sender.send(chunk(1, 0)).await.unwrap();
    let mut replies = service.send(request("Talk", requests)).await.into_body();
    assert_eq!(next(&mut replies).await, Some(1));
    sender.send(chunk(999, 0)).await.unwrap();
    assert_eq!(replies.collect().await.unwrap().trailers().unwrap()["grpc-status"], "0");
    let failed = body::full([chunk(1, 0), chunk(998, 0)].concat());
    let answer = collect(service.send(request("Talk", failed)).await).await;
    assert_eq!((answer.code(), answer.text().as_str(), answer.replies.len()), (9, "998", 1));
}

#[tokio::test]
async fn a_slow_reader_slows_the_guest() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let wanted = input("Download", r#"{"chunks": "20", "bytes": "100000"}"#).encode_to_vec();
    let mut replies = service.send(request("Download", body::full(frame(&wanted)))).await.into_body();
    // Nothing has been taken: one reply waits, and the guest waits with the next.
    assert!(wrote(&service, "wrote 0").await);
    assert!(!wrote(&service, "wrote 2").await);
    for wanted in 0..5 {
        assert_eq!(next(&mut replies).await, Some(wanted));
    }
    assert!(wrote(&service, "wrote 5").await);
    assert!(!wrote(&service, "wrote 8").await);
    assert!(service.held().await > 0);
    // Whoever goes away ends it.
    drop(replies);
    service.freed().await;
}

#[tokio::test]
async fn a_deadline_ends_a_stream_whether_its_client_reads_or_not() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let wanted = input("Download", r#"{"chunks": "1000000", "pause": "1"}"#).encode_to_vec();
    let mut call = request("Download", body::full(frame(&wanted)));
    call.headers_mut().insert("grpc-timeout", "200m".parse().unwrap());
    let replies = service.send(call).await.into_body();
    service.freed().await;
    assert_eq!(replies.collect().await.unwrap().trailers().unwrap()["grpc-status"], "4");
    // A client that never sends.
    let (_sender, requests) = channel();
    let mut silent = request("Upload", requests);
    silent.headers_mut().insert("grpc-timeout", "100m".parse().unwrap());
    assert_eq!(collect(service.send(silent).await).await.code(), 4);
}
