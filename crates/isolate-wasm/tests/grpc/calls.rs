//! Calls without streams.

use crate::fixture::{Host, PATIENCE, collect, frame, input, manifest, message, method, request};
use http::Request;
use prost_reflect::prost::Message as _;
use serde_json::json;
use tutti_base::body;
use tutti_model::{Millis, manifest::Manifest};

#[tokio::test]
async fn says_hello() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let answer = service.call("SayHello", r#"{"name": "you"}"#).await;
    assert_eq!(answer.json("SayHello"), json!({"talkToMe": true}));
    assert!(!answer.head.contains_key("grpc-status"));
    let answer = service.call("SayHello", "{}").await;
    assert_eq!(answer.json("SayHello"), json!({}));
    assert_eq!(service.held().await, 0);
}

#[tokio::test]
async fn every_type_comes_back_as_it_went() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let all = r#"{
        "fDouble": "-0", "fFloat": "NaN", "fInt32": -1, "fInt64": "-9223372036854775808", "fUint32": 4294967295,
        "fUint64": "18446744073709551615", "fSint32": -2147483648, "fSint64": "-1", "fFixed32": 7, "fFixed64": "8",
        "fSfixed32": -9, "fSfixed64": "-10", "fBool": true, "fString": "grüße", "fBytes": "AAH/", "fColor": "COLOR_GREEN",
        "fLeaf": {"text": "leaf", "numbers": [1, -1], "color": "COLOR_UNSPECIFIED"}, "fNothing": {},
        "oDouble": 0, "oInt32": 0, "oString": "", "oBytes": "", "oBool": false, "oColor": "COLOR_UNSPECIFIED",
        "rDouble": [0, 1.5], "rInt32": [-1, 0], "rSint64": ["-1"], "rFixed32": [1], "rBool": [true, false],
        "rString": ["", "b"], "rBytes": ["", "Ag=="], "rColor": ["COLOR_RED", "COLOR_GREEN"], "rLeaf": [{}, {"text": "x"}],
        "rUnpacked": [1, 300], "rColorUnpacked": ["COLOR_RED"],
        "mString": {"a": "b"}, "mInt32": {"-5": {"text": "five"}}, "mBool": {"true": "COLOR_RED"},
        "mUint64": {"9": "AQ=="}, "mSint32": {"-3": 2.5}, "mFixed64": {"1": {"label": "tree"}},
        "cTree": {"label": "a", "left": {"label": "b"}}, "tree": {"label": "r", "children": [{"label": "c"}]}
    }"#;
    let sent = message(&method("All").input(), all);
    let answer = service.call_bytes("All", &sent.encode_to_vec()).await;
    assert_eq!(answer.code(), 0, "{}", answer.text());
    assert_eq!(answer.replies[0], sent.encode_to_vec());
}

#[tokio::test]
async fn a_status_comes_with_its_details_and_metadata() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let answer = service.call("Fail", r#"{"code": 5, "message": "100% grün\n", "details": "AQID"}"#).await;
    assert_eq!((answer.code(), answer.text().as_str()), (5, "100% grün\n"));
    assert_eq!(answer.trailers["grpc-message"], "100%25 gr%C3%BCn%0A");
    assert_eq!(answer.trailers["grpc-status-details-bin"], "AQID");
    assert_eq!(answer.trailers["x-trailer-bin"], "AQID");
    assert_eq!(answer.head["x-header"], "head");
    assert!(answer.replies.is_empty());
}

#[tokio::test]
async fn a_guest_is_told_of_its_call() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let mut request = request("Describe", body::full(frame(&[])));
    for (name, value) in [("x-id", "7"), ("key-bin", "AQI="), ("grpc-timeout", "1S")] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let described = collect(service.send(request).await).await.json("Describe");
    assert_eq!(described["text"], json!({"x-id": "7"}));
    assert_eq!(described["binary"], json!({"key-bin": "AQI="}));
    let remaining: u64 = described["remaining"].as_str().unwrap().parse().unwrap();
    assert!((1..=1_000_000_000).contains(&remaining));
    assert_eq!(described["refused"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn what_cannot_be_called_is_told_apart() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let code = async |request: Request<tutti_base::Body>| {
        let answer = collect(service.send(request).await).await;
        (answer.code(), answer.text())
    };
    let hello = input("SayHello", "{}").encode_to_vec();
    assert_eq!(code(request("Nope", body::full(frame(&hello)))).await.0, 12);
    assert_eq!(code(request("SayHello", body::empty())).await.0, 12);
    let two = [frame(&hello), frame(&hello)].concat();
    assert_eq!(code(request("SayHello", body::full(two))).await.0, 12);
    // Field 1 is said to be longer than it is.
    let (number, text) = code(request("SayHello", body::full(frame(&[0x0a, 5, b'x'])))).await;
    assert_eq!(
        (number, text.as_str()),
        (3, "malformed request: .name at byte 1: the message ends within a value")
    );
    assert_eq!(code(request("SayHello", body::full(vec![0, 0, 0]))).await.0, 3);
    assert_eq!(code(request("SayHello", body::full(vec![9, 0, 0, 0, 0]))).await.0, 3);
    let mut too_large = vec![0];
    too_large.extend((1_u32 << 20 | 1).to_be_bytes());
    assert_eq!(code(request("SayHello", body::full(too_large))).await.0, 8);
    let with = |name: &'static str, value: &str| {
        let mut request = request("SayHello", body::full(frame(&[])));
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    assert_eq!(code(with("grpc-encoding", "br")).await.0, 12);
    assert_eq!(code(with("grpc-timeout", "soon")).await.0, 3);
    assert_eq!(code(with("x-bin", "!")).await.0, 3);
    assert_eq!(code(with("grpc-timeout", "0n")).await.0, 4);
}

#[tokio::test]
async fn gzip_goes_both_ways_and_a_bomb_is_defused() {
    use std::io::Write as _;
    let host = Host::new();
    let service = host.start(manifest()).await;
    let squeezed = |message: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(message).unwrap();
        let bytes = encoder.finish().unwrap();
        let mut frame = vec![1];
        frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        frame.extend(bytes);
        let mut request = request("All", body::full(frame));
        request.headers_mut().insert("grpc-encoding", "gzip".parse().unwrap());
        request
    };
    let sent = input("All", &format!(r#"{{"fString": "{}"}}"#, "x".repeat(10_000))).encode_to_vec();
    let response = service.send(squeezed(&sent)).await;
    assert_eq!(response.headers()["grpc-encoding"], "gzip");
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert!(bytes[0] == 1 && bytes.len() < 200);
    let mut unfolded = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[5..]), &mut unfolded).unwrap();
    assert_eq!(unfolded, sent);
    let bomb = collect(service.send(squeezed(&vec![0; 100 << 20])).await).await;
    assert_eq!(bomb.code(), 8);
}

#[tokio::test]
async fn large_messages_pass_where_the_manifest_allows_them() {
    let host = Host::new();
    let mut large = Manifest { timeout: Millis(30_000), ..manifest() };
    large.memory = tutti_model::quantity::ByteSize::mib(64);
    large.grpc.max_message = tutti_model::quantity::ByteSize::mib(4);
    let service = host.start(large).await;
    let answer = service.call("Misbehave", r#"{"huge": "4000000"}"#).await;
    assert_eq!((answer.code(), answer.replies[0].len()), (0, 4_000_005));
    let answer = service.call("Misbehave", r#"{"huge": "4194304"}"#).await;
    assert_eq!(answer.code(), 8, "{}", answer.text());
}

#[tokio::test]
async fn a_stopped_instance_takes_no_calls() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let begun = {
        let service = service.clone();
        tokio::spawn(async move { service.call("Misbehave", r#"{"sleep": "100000"}"#).await })
    };
    let held = async {
        while service.held().await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap();
    service.running.stop(Millis(0)).await;
    assert_eq!(begun.await.unwrap().code(), 14);
    assert_eq!(service.call("SayHello", "{}").await.code(), 14);
}
