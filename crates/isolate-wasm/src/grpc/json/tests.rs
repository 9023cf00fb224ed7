use super::*;
use crate::grpc::replies;
use async_trait::async_trait;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use std::sync::Mutex;
use tutti_base::body::BodyError;
use tutti_proto::{compile::compile, stored};

const PROTO: &str = r#"
syntax = "proto3";
package test.json;
import "google/api/annotations.proto";
service Library {
  rpc Get(Book) returns (Book) { option (google.api.http) = { get: "/v1/{name=books/*}" }; }
  rpc Create(Shelf) returns (Shelf) { option (google.api.http) = { post: "/v1/shelves" body: "book" response_body: "book" }; }
  rpc List(Book) returns (stream Book) { option (google.api.http) = { get: "/v1/books" }; }
  rpc Upload(stream Book) returns (Book);
}
message Book { string name = 1; int64 pages = 2; }
message Shelf { Book book = 1; string room = 2; }
"#;

fn about() -> About {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("library.proto");
    std::fs::write(&file, PROTO).unwrap();
    let compiled = compile(&[file], &[folder.path().to_owned()]).unwrap();
    // As it comes from a registry.
    About::new(&stored::open(&compiled.set).unwrap(), "test.json.Library")
}

/// Gives back each request so many times, and then this status.
struct Echo {
    times: usize,
    status: Status,
    seen: Mutex<Option<(String, HeaderMap)>>,
}

#[async_trait]
impl Handler for Echo {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, HandleError> {
        let (parts, body) = request.into_parts();
        *self.seen.lock().unwrap() = Some((parts.uri.path().to_owned(), parts.headers));
        let frame = body.collect().await.unwrap().to_bytes();
        if self.times == 0 {
            return Ok(replies::alone(&self.status, HeaderMap::new()));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-trailer", HeaderValue::from_static("t"));
        self.status.write(&mut trailers);
        let frames = (0..self.times).map(|_| Ok::<_, BodyError>(Frame::data(frame.clone())));
        let frames: Vec<_> = frames.chain([Ok(Frame::trailers(trailers))]).collect();
        let mut headers = HeaderMap::new();
        headers.insert("x-header", HeaderValue::from_static("h"));
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        Ok(replies::head(headers, Encoding::Identity, body))
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

async fn ask_with(echo: &Arc<Echo>, verb: &str, target: &str, kind: &str, text: &str) -> Answer {
    let calls = Arc::clone(echo) as Arc<dyn Handler>;
    let behind =
        Behind { calls, about: Arc::new(about()), message_bytes: 100, timeout: Duration::from_secs(5) };
    let mut request =
        Request::builder().method(verb).uri(target).header("x-mine", "m").header("grpc-encoding", "gzip");
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    let request = request.body(body::full(text.to_owned())).unwrap();
    let (parts, body) = answer(behind, request).await.unwrap().into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}

fn echo(times: usize, status: Status) -> Arc<Echo> {
    Arc::new(Echo { times, status, seen: Mutex::new(None) })
}

async fn ask(verb: &str, target: &str, kind: &str, text: &str) -> Answer {
    ask_with(&echo(1, Status::ok()), verb, target, kind, text).await
}

#[tokio::test]
async fn a_method_is_called_by_its_name() {
    let echo = echo(1, Status::ok());
    let book = r#"{"name":"a","pages":5}"#;
    let answer =
        ask_with(&echo, "POST", "/test.json.Library/Get", "application/json; charset=utf-8", book).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "{\"name\":\"a\",\"pages\":\"5\"}\n"));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        (&answer.headers["x-header"], &answer.headers["x-trailer"]),
        (&"h".parse().unwrap(), &"t".parse().unwrap())
    );
    assert!(!answer.headers.contains_key("grpc-status"));
    let (path, headers) = echo.seen.lock().unwrap().take().unwrap();
    assert_eq!((path.as_str(), &headers["x-mine"]), ("/test.json.Library/Get", &"m".parse().unwrap()));
    assert_eq!(headers["content-type"], "application/grpc+proto");
    assert!(!headers.contains_key("grpc-encoding"));
    let answer = ask("POST", "/test.json.Library/Get", "", "").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "{}\n"), "no body is the empty message");
}

#[tokio::test]
async fn a_method_is_called_by_its_rule() {
    let answer = ask("GET", "/v1/books/a%20b?pages=7", "", "").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "{\"name\":\"books/a b\",\"pages\":\"7\"}\n"));
    let answer = ask("POST", "/v1/shelves?room=x", "application/json", r#"{"name":"a"}"#).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "{\"name\":\"a\"}\n"), "one field is the answer");
}

#[tokio::test]
async fn replies_of_a_stream_are_lines() {
    let answer = ask_with(&echo(3, Status::ok()), "GET", "/v1/books?name=a", "", "").await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (200, "{\"name\":\"a\"}\n{\"name\":\"a\"}\n{\"name\":\"a\"}\n")
    );
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let broken = echo(1, Status::new(Code::Aborted, "enough"));
    let answer = ask_with(&broken, "POST", "/test.json.Library/List", "application/json", "{}").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text, "{}\n{\"error\":{\"code\":10,\"message\":\"enough\",\"details\":[]}}\n");
    let answer = ask_with(&echo(0, Status::ok()), "GET", "/v1/books", "", "").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    let answer = ask_with(&echo(0, Status::new(Code::NotFound, "no")), "GET", "/v1/books", "", "").await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (404, json!(5)));
}

#[tokio::test]
async fn failures_have_the_http_status_of_their_code() {
    let codes = [499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
    for (at, (expected, code)) in codes.into_iter().zip(failure::CODES.into_iter().skip(1)).enumerate() {
        let mut failed = Status::new(code, "50% \u{e4} \"x\"");
        failed.details = b"\x08\x05\x1a\x08\x0a\x03a/b\x12\x01x".to_vec();
        for times in [0, 1] {
            let answer =
                ask_with(&echo(times, failed.clone()), "POST", "/test.json.Library/Get", "", "").await;
            assert_eq!(answer.status, expected, "{code:?}");
            let details = json!([{ "@type": "a/b", "value": "eA==" }]);
            let body = json!({ "code": at + 1, "message": "50% \u{e4} \"x\"", "details": details });
            assert_eq!(answer.json(), body);
        }
    }
}

#[tokio::test]
async fn requests_that_mean_nothing_are_refused_with_what_to_do() {
    let json = "application/json";
    for (verb, target, kind, text, status, code, says) in [
        (
            "POST",
            "/test.json.Library/Get",
            json,
            "{\"nam\":\"a\"}",
            400,
            3,
            "line 1, column 2: test.json.Book has no field \"nam\" (did you mean \"name\"?)",
        ),
        (
            "POST",
            "/test.json.Library/Get",
            json,
            "{\"pages\":true}",
            400,
            3,
            "line 1, column 10: pages: expected a whole number, found true or false",
        ),
        (
            "POST",
            "/test.json.Library/Get",
            json,
            "{",
            400,
            3,
            "line 1, column 2: expected a name in quotes, found the end",
        ),
        (
            "POST",
            "/test.json.Library/Get",
            "text/plain",
            "{}",
            415,
            3,
            "content type must be application/json",
        ),
        ("GET", "/test.json.Library/Get", "", "", 405, 12, "this path takes POST"),
        ("DELETE", "/v1/books/a", "", "", 405, 12, "this path takes GET"),
        ("POST", "/test.json.Library/Upload", json, "{}", 501, 12, "over gRPC only"),
        ("POST", "/test.json.Library/Nothing", json, "{}", 404, 5, "/test.json.Library/openapi.json"),
        ("GET", "/", "", "", 404, 5, "has nothing at this path"),
        ("GET", "/v1/books/a?x=1", "", "", 400, 3, "has no field \"x\""),
    ] {
        let answer = ask(verb, target, kind, text).await;
        let found = answer.json();
        assert_eq!(
            (answer.status, &found["code"]),
            (status, &json!(code)),
            "{verb} {target} {text}: {found}"
        );
        assert!(found["message"].as_str().unwrap().contains(says), "{verb} {target} {text}: {found}");
        assert_eq!(answer.headers.contains_key("allow"), status == 405);
    }
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(500));
    let answer = ask("POST", "/test.json.Library/Get", json, &long).await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (413, json!(8)));
}

#[tokio::test]
async fn the_document_is_at_two_places() {
    for path in ["/test.json.Library/openapi.json", "/.well-known/openapi.json"] {
        let answer = ask("GET", path, "", "").await;
        let document = answer.json();
        assert_eq!((answer.status, &document["openapi"]), (200, &json!("3.1.0")));
        assert!(document["paths"]["/v1/{name}"]["get"].is_object(), "{document}");
    }
}
