//! Bodies are streamed both ways, with their trailers, and a guest lives as long as somebody reads.

use crate::fixture::{Host, PATIENCE, collect, get};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;
use tutti_base::{Body, body};

/// A request body whose frames are sent while it is read.
fn streamed(path: &str) -> (mpsc::Sender<Result<Frame<Bytes>, body::BodyError>>, Request<Body>) {
    let (sender, receiver) = mpsc::channel(1);
    let frames =
        futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let body = StreamBody::new(Box::pin(frames)).boxed_unsync();
    (sender, Request::post(path).header("host", "web.example.com").body(body).unwrap())
}

#[tokio::test]
async fn an_echo_comes_back_piece_by_piece_with_its_trailers() {
    let host = Host::new();
    let service = host.hostile().await;
    let (sender, request) = streamed("/echo");
    let response = service.send(request).await.unwrap();
    let mut body = response.into_body();
    for piece in ["one", "two", "three"] {
        sender.send(Ok(Frame::data(Bytes::from(piece)))).await.unwrap();
        // The next piece is not sent before this one has come back: nothing here waits for the whole.
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    sender.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
    drop(sender);
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap(), trailers);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_large_body_goes_through_a_small_guest() {
    let host = Host::new();
    let service = host.hostile().await;
    let (sender, request) = streamed("/echo");
    let pieces = 64;
    let sending = tokio::spawn(async move {
        for index in 0..pieces {
            sender.send(Ok(Frame::data(Bytes::from(vec![index; 1 << 20])))).await.unwrap();
        }
    });
    let mut body = service.send(request).await.unwrap().into_body();
    let mut total = 0;
    while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap() {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.iter().all(|byte| usize::from(*byte) == total >> 20), "bytes out of order at {total}");
        total += data.len();
    }
    assert_eq!(total, usize::from(pieces) << 20);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_for_the_guest() {
    let host = Host::new();
    let service = host.hostile().await;
    let (sender, request) = streamed("/echo");
    let response = service.send(request).await.unwrap();
    sender.send(Err("connection reset".into())).await.unwrap();
    // The guest panics on that, after its head: the answer breaks off, it does not end well.
    assert!(collect(response).await.is_err());
}

#[tokio::test]
async fn events_come_as_they_are_written() {
    let host = Host::new();
    let service = host.hostile().await;
    let mut body = service.get("/stream?events=3&ms=20").await.unwrap().into_body();
    for event in 1..=3 {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("data: {event}\n\n"));
    }
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_guest() {
    let host = Host::new();
    let service = host.hostile().await;
    let mut body = service.get("/stream?events=1000000&ms=1").await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert!(service.held().await > 0);
    drop(body);
    assert_eq!(service.held().await, 0);
}

#[tokio::test]
async fn a_guest_may_finish_what_it_does_after_its_answer() {
    let host = Host::new();
    let service = host.hostile().await;
    let finished =
        |lines: &[tutti_model::log::LogLine]| lines.iter().filter(|line| line.line == "tail done").count();
    // Read to its end, ...
    assert_eq!(service.text("/tail?ms=30").await, "first\n");
    service.log_until(|lines| finished(lines) == 1).await;
    // ... and dropped once all its announced bytes are there, as servers do.
    let mut body = service.get("/tail?ms=30").await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first\n");
    drop(body);
    service.log_until(|lines| finished(lines) == 2).await;
}

#[tokio::test]
async fn going_on_after_the_answer_is_bounded_in_time_and_number() {
    let host = Host::new();
    let mut manifest = crate::fixture::manifest();
    manifest.concurrency = 2;
    let service = host.start(crate::fixture::guest("hostile_guest"), manifest).await;
    assert_eq!(service.text("/tail?ms=600000").await, "first\n");
    let one = service.held().await;
    for _ in 0..5 {
        assert_eq!(service.text("/tail?ms=600000").await, "first\n");
    }
    assert_eq!(service.held().await, 2 * one, "the manifest's concurrency is two");
    service
        .log_until(|lines| lines.iter().filter(|line| line.line.contains("time limit")).count() >= 2)
        .await;
    assert_eq!(service.held().await, 0);
}

#[tokio::test]
async fn an_empty_body_is_one() {
    let host = Host::new();
    let service = host.hostile().await;
    let mut request = get("/echo");
    *request.method_mut() = http::Method::POST;
    let collected = collect(service.send(request).await.unwrap()).await.unwrap();
    assert!(collected.trailers().is_none());
    assert!(collected.to_bytes().is_empty());
}
