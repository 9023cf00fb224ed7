//! JSON calls, reflection, health and the OpenAPI document, with a real guest behind them.

use crate::fixture::{Host, PATIENCE, SERVICE, Service, collect, described, frame, manifest};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tutti_base::{Body, body};
use tutti_model::Millis;
use tutti_proto::{
    health,
    reflection::{Answer, answer_of},
    stored,
};

struct Said {
    status: StatusCode,
    kind: String,
    text: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

async fn ask(service: &Service, request: Request<Body>) -> Said {
    let response = service.send(request).await;
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("a body without an end");
    let text = String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap();
    let kind = parts.headers["content-type"].to_str().unwrap().to_owned();
    Said { status: parts.status, kind, text }
}

async fn post(service: &Service, method: &str, text: &str) -> Said {
    let request = Request::post(format!("/{SERVICE}/{method}")).header("content-type", "application/json");
    ask(service, request.body(body::full(text.to_owned())).unwrap()).await
}

fn grpc(path: &str, body: Body) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn json_calls_reach_the_guest_and_its_failures_come_back() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let said = post(&service, "SayHello", r#"{"name": "you"}"#).await;
    assert_eq!((said.status, said.kind.as_str()), (StatusCode::OK, "application/json"));
    assert_eq!(said.json(), json!({"talkToMe": true}));

    let said = post(&service, "Fail", r#"{"code": 5, "message": "no \"such\" thing"}"#).await;
    assert_eq!(said.status, StatusCode::NOT_FOUND);
    assert_eq!(said.json(), json!({"code": 5, "message": "no \"such\" thing", "details": []}));

    let said = post(&service, "SayHello", r#"{"name": 5}"#).await;
    assert_eq!((said.status, said.json()["code"].clone()), (StatusCode::BAD_REQUEST, json!(3)));
    let said = post(&service, "Misbehave", r#"{"panic": {}}"#).await;
    assert_eq!((said.status, said.json()["code"].clone()), (StatusCode::INTERNAL_SERVER_ERROR, json!(13)));
    let said = post(&service, "Upload", "{}").await;
    assert_eq!(said.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn streamed_replies_are_lines() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let said = post(&service, "Download", r#"{"chunks": "3", "bytes": "2"}"#).await;
    assert_eq!((said.status, said.kind.as_str()), (StatusCode::OK, "application/x-ndjson"));
    let lines: Vec<Value> = said.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{}", said.text);
}

#[tokio::test]
async fn reflection_and_health_and_the_document_need_no_instance() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        // host "", list_services ""; then file_containing_symbol.
        let symbol = [&[0x22, u8::try_from(SERVICE.len()).unwrap()], SERVICE.as_bytes()].concat();
        let questions = [frame(b"\x3a\x00"), frame(&symbol), frame(b"\x22\x01x")].concat();
        let said = collect(service.send(grpc(&path, body::full(questions))).await).await;
        assert_eq!((said.code(), said.replies.len()), (0, 3), "{}", said.text());
        assert_eq!(answer_of(&said.replies[0]), Some(Answer::services([SERVICE.to_owned()])));
        let Some(Answer::Files(files)) = answer_of(&said.replies[1]) else { panic!() };
        let pool = stored::open(&described().set).unwrap();
        let file = pool.get_service_by_name(SERVICE).unwrap().parent_file().encode_to_vec();
        assert!(files.files == [file], "not the file that was pushed");
        assert!(answer_of(&said.replies[2]).unwrap().is_not_found());
        let said = collect(service.send(grpc(&path, body::full(frame(b"\xff")))).await).await;
        assert_eq!((said.code(), said.replies.len()), (3, 0));
    }

    for (name, code) in [("", 0), (SERVICE, 0), ("no.Such", 5)] {
        let asked = [&[0x0a, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
        let path = "/grpc.health.v1.Health/Check";
        let said = collect(service.send(grpc(path, body::full(frame(&asked)))).await).await;
        assert_eq!(said.code(), code, "{name}: {}", said.text());
        if code == 0 {
            assert_eq!(said.replies[0], health::response(health::Health::Serving));
        }
    }

    for path in [format!("/{SERVICE}/openapi.json"), "/.well-known/openapi.json".to_owned()] {
        let said = ask(&service, Request::get(path).body(body::empty()).unwrap()).await;
        assert_eq!(said.status, StatusCode::OK);
        assert!(said.json()["paths"][format!("/{SERVICE}/SayHello")]["post"].is_object(), "{}", said.text);
    }
}

#[tokio::test]
async fn who_watches_health_is_told_of_the_end() {
    let host = Host::new();
    let service = host.start(manifest()).await;
    let watch = grpc("/grpc.health.v1.Health/Watch", body::full(frame(b"")));
    let mut watched = service.send(watch).await.into_body();
    let first = tokio::time::timeout(PATIENCE, watched.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), frame(&health::response(health::Health::Serving)));
    // It holds nothing up.
    let stopped = service.running.stop(Millis(60_000));
    let exit = tokio::time::timeout(PATIENCE, stopped).await.expect("a watch kept it");
    assert!(!exit.text.contains("cut off"), "{}", exit.text);
    let rest = tokio::time::timeout(PATIENCE, watched.collect()).await.unwrap().unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "14");
    assert_eq!(rest.to_bytes(), frame(&health::response(health::Health::NotServing)));
}
