//! What a hop is, held against the call, sockets and TLS alike; then what only the wire has.

mod cluster;
mod far;
mod faults;

use super::*;
use crate::{Hop, HopError};
use bytes::Bytes;
use far::{Far, PATIENCE, Way, get, node, post, target, text, until, ways, wires};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tutti_base::{Body, body, body::BodyError};
use tutti_model::Millis;

const MIB: usize = 1024 * 1024;

/// So many pieces of so many bytes; `made` counts the bytes.
fn pieces(count: usize, bytes: usize, made: &Arc<AtomicUsize>) -> Body {
    let (piece, made) = (Bytes::from(vec![b'x'; bytes]), Arc::clone(made));
    let frames = futures_util::stream::iter(0..count).map(move |_| {
        made.fetch_add(bytes, Ordering::SeqCst);
        Ok::<_, BodyError>(Frame::data(piece.clone()))
    });
    StreamBody::new(frames).boxed_unsync()
}

#[tokio::test]
async fn a_request_and_its_answer_arrive_as_they_were() {
    for way in ways().await {
        let request = Request::put("/echo/a%20b?c=d")
            .header("host", "web.example.com:8080")
            .header("x-many", "1")
            .header("x-many", "2")
            .header("tutti-version", "1.0")
            .body(body::full("hello"))
            .unwrap();
        let response = way.send(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED, "{way:?}");
        let seen = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(seen("x-method"), "PUT", "{way:?}");
        assert_eq!(seen("x-target"), "/echo/a%20b?c=d", "{way:?}");
        assert_eq!(seen("x-host"), "web.example.com:8080", "{way:?}");
        assert_eq!(seen("x-to"), "example.com:web@1.0 i-1000000000", "{way:?}");
        let many: Vec<_> = response.headers().get_all("x-many").into_iter().collect();
        assert_eq!(many, ["1", "2"], "{way:?}");
        assert_eq!(seen("tutti-version"), "1.0", "{way:?}");
        assert!(!response.headers().contains_key(header::DATE), "{way:?}");
        assert_eq!(text(response).await, "hello", "{way:?}");
    }
}

#[tokio::test]
async fn grpc_streams_both_ways_at_once_and_its_trailers_arrive() {
    for way in ways().await {
        let (up, upload) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BodyError>>(1);
        let upload = futures_util::stream::unfold(upload, |mut upload| async move {
            upload.recv().await.map(|frame| (frame, upload))
        });
        let mut request = post("/echo", StreamBody::new(upload).boxed_unsync());
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        let response = way.send(request).await.unwrap();
        assert_eq!(response.headers()["x-te"], "trailers", "{way:?}");
        let mut down = response.into_body();
        for said in ["one", "two", "three"] {
            up.send(Ok(Frame::data(Bytes::from_static(said.as_bytes())))).await.unwrap();
            let heard = down.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(heard, said, "{way:?}");
        }
        let sum =
            HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
        up.send(Ok(Frame::trailers(sum.clone()))).await.unwrap();
        drop(up);
        let trailers = down.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers, sum, "{way:?}");
    }
}

#[tokio::test]
async fn what_a_node_refuses_comes_back_whole() {
    for way in ways().await {
        for kind in ["misdirected", "overloaded"] {
            let mut request = post(&format!("/{kind}"), body::full("precious"));
            request.extensions_mut().insert(7u8);
            let (reason, back) = match way.send(request).await.unwrap_err() {
                HopError::Misdirected { reason, request } if kind == "misdirected" => (reason, request),
                HopError::Overloaded { reason, request } if kind == "overloaded" => (reason, request),
                other => panic!("{way:?} {kind} {other:?}"),
            };
            assert_eq!(reason, "not hère: try another", "{way:?}");
            assert_eq!((back.method().as_str(), back.uri().path()), ("POST", format!("/{kind}").as_str()));
            assert_eq!(back.headers()["host"], "a.com", "{way:?}");
            assert!(!back.headers().keys().any(|name| name.as_str().starts_with("tutti-hop")), "{way:?}");
            assert_eq!(back.extensions().get::<u8>(), Some(&7), "{way:?}");
            assert_eq!(back.into_body().collect().await.unwrap().to_bytes(), "precious", "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_has_begun_and_is_longer_than_what_is_kept_comes_back_whole() {
    for way in ways().await {
        let made = Arc::new(AtomicUsize::new(0));
        // Pieces longer than any window, and longer than what is kept.
        let upload = pieces(40, MIB / 4, &made);
        let sending = way.send(post("/refuse-when-told", upload));
        let telling = async {
            if matches!(way, Way::Wire(..)) {
                until(|| made.load(Ordering::SeqCst) > 0).await;
                // Whatever else it reads comes before the answer to this.
                way.send(get("/echo")).await.unwrap();
            }
            way.far().told.notify_one();
        };
        let (refused, ()) = tokio::join!(sending, telling);
        let HopError::Misdirected { request, .. } = refused.unwrap_err() else { panic!("{way:?}") };
        let back = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(back.len(), 10 * MIB, "{way:?}");
    }
}

#[tokio::test]
async fn what_went_too_far_to_be_had_back_is_a_failure() {
    for way in wires().await {
        let made = Arc::new(AtomicUsize::new(0));
        let upload = || pieces(64, 16 * 1024, &made);
        let error = way.send(post("/misdirected-late", upload())).await.unwrap_err();
        assert!(matches!(&error, HopError::Failed(why) if why == "not hère: try another"), "{error:?}");
        let error = way.send(post("/overloaded-late", upload())).await.unwrap_err();
        assert!(matches!(&error, HopError::Full(why) if why == "not hère: try another"), "{error:?}");
    }
}

#[tokio::test]
async fn every_other_failure_keeps_its_kind_and_reason() {
    for way in ways().await {
        let error = way.send(get("/full")).await.unwrap_err();
        assert!(matches!(&error, HopError::Full(why) if why == "no memory"), "{way:?} {error:?}");
        let error = way.send(post("/failed", body::full("x"))).await.unwrap_err();
        assert!(matches!(&error, HopError::Failed(why) if why == "it broke"), "{way:?} {error:?}");
        let error = way.send(get("/timeout")).await.unwrap_err();
        assert!(matches!(error, HopError::Timeout(Millis(1234))), "{way:?} {error:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_left_ends_at_the_other_side() {
    for way in ways().await {
        let sending = way.send(post("/hang", body::full("x")));
        tokio::select! {
            _ = sending => panic!("it hangs"),
            () = until(|| way.far().running() == 1) => {}
        }
        until(|| way.far().running() == 0).await;
        let mut response = way.send(get("/endless")).await.unwrap();
        response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(way.far().running(), 1, "{way:?}");
        drop(response);
        until(|| way.far().running() == 0).await;
    }
}

#[tokio::test]
async fn a_websocket_passes_and_its_place_is_held_until_it_ends() {
    for way in ways().await {
        let request = Request::get("/chat")
            .header("host", "a.com")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(body::empty())
            .unwrap();
        let mut response = way.send(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{way:?}");
        assert_eq!(response.headers()["upgrade"], "websocket", "{way:?}");
        assert_eq!(response.headers()["connection"], "upgrade", "{way:?}");
        assert_eq!(response.headers()["sec-websocket-accept"], "mine", "{way:?}");
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("tutti-hop")), "{way:?}");
        let upgraded = response.extensions_mut().remove::<OnUpgrade>().unwrap().await.unwrap();
        let mut tunnel = TokioIo::new(upgraded);
        for said in ["one", "two"] {
            tunnel.write_all(said.as_bytes()).await.unwrap();
            let mut heard = [0; 3];
            tunnel.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, said.as_bytes(), "{way:?}");
        }
        // One side may be done while the other still speaks.
        tunnel.shutdown().await.unwrap();
        let mut rest = String::new();
        tunnel.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "bye", "{way:?}");
    }
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_is_answered_like_any_request() {
    for way in ways().await {
        for (path, status) in [("/echo", StatusCode::CREATED), ("/forbidden", StatusCode::FORBIDDEN)] {
            let request = Request::get(path)
                .header("host", "a.com")
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .body(body::empty())
                .unwrap();
            let response = way.send(request).await.unwrap();
            assert_eq!(response.status(), status, "{way:?}");
            assert!(!response.headers().contains_key("tutti-hop-status"), "{way:?}");
            if status == StatusCode::FORBIDDEN {
                assert_eq!(text(response).await, "no", "{way:?}");
            } else {
                assert_eq!(response.headers()["x-method"], "GET", "{way:?}");
            }
        }
    }
}

#[tokio::test]
async fn nobody_but_the_ingress_says_whom_a_request_is_for() {
    for way in wires().await {
        let mut request = get("/echo");
        for name in
            ["tutti-hop-service", "tutti-hop-instance", "tutti-hop-node", "tutti-hop-more", "tutti-hop"]
        {
            request.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_static("evil"));
        }
        let listed = HeaderValue::from_static("tutti-hop-version, tutti-hop-service");
        request.headers_mut().insert(header::CONNECTION, listed);
        let response = way.send(request).await.unwrap();
        assert_eq!(response.headers()["x-to"], "example.com:web@1.0 i-1000000000");
        assert_eq!(response.headers()["x-hop-fields"], "0");
    }
}

#[tokio::test]
async fn no_instance_says_that_there_is_no_answer() {
    for way in wires().await {
        let response = way.send(post("/forge", body::full("x"))).await.unwrap();
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "its own, and no more than that");
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("tutti-hop")));
        assert_eq!(text(response).await, "forged");
    }
}

#[tokio::test]
async fn a_hundred_mebibytes_pass_without_being_held() {
    for way in wires().await {
        let made = Arc::new(AtomicUsize::new(0));
        let (upload, asked) = (pieces(1600, 64 * 1024, &made), Arc::clone(&made));
        way.far().begin(move |read| asked.load(Ordering::SeqCst) - read);
        let response = way.send(post("/count", upload)).await.unwrap();
        assert_eq!(text(response).await, (100 * MIB).to_string());
        let ahead = way.far().ahead.load(Ordering::SeqCst);
        assert!(ahead <= 64 * 1024 * 4, "the upload was {ahead} bytes ahead of the instance");

        let response = way.send(get("/download")).await.unwrap();
        let (mut body, mut read, mut ahead) = (response.into_body(), 0, 0);
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
            ahead = ahead.max(way.far().made.load(Ordering::SeqCst) - read);
        }
        assert_eq!(read, 100 * MIB);
        assert!(ahead <= 512 * 1024, "the answer was {ahead} bytes ahead of its reader");
    }
}

#[tokio::test]
async fn slow_readers_do_not_hold_up_others() {
    for way in wires().await {
        let mut unread = Vec::new();
        for _ in 0..200 {
            unread.push(way.send(get("/download")).await.unwrap());
        }
        let answered = tokio::time::timeout(PATIENCE, way.send(post("/echo", body::full("quick")))).await;
        assert_eq!(text(answered.expect("it is answered").unwrap()).await, "quick");
    }
}

#[tokio::test]
async fn the_own_node_is_called_and_others_go_by_the_book() {
    let [direct, wire, _] = ways().await;
    let (Way::Direct(near), Way::Wire(far, hop, _)) = (direct, wire) else { panic!("both ways") };
    let hops = Hops::new(Some(("near".parse().unwrap(), Arc::clone(&near) as Arc<dyn Hop>)), hop);
    hops.send(&"near".parse().unwrap(), &target(), get("/echo")).await.unwrap();
    hops.send(&node(), &target(), get("/echo")).await.unwrap();
    let served = |far: &Far| far.served.load(Ordering::SeqCst);
    assert_eq!((served(&near), served(&far)), (1, 1));
    let error = hops.send(&"nowhere".parse().unwrap(), &target(), get("/echo")).await.unwrap_err();
    let HopError::Misdirected { reason, .. } = error else { panic!("{error:?}") };
    assert_eq!(reason, "node nowhere is not known here");
}
