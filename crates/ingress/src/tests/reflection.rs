//! Reflection where several services share a host.

use super::world::*;
use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::sync::{Arc, Mutex};
use tutti_base::{
    Body,
    body::{self, BodyError},
};
use tutti_proto::reflection::{
    Answer, Files, Question, Request as Asked, Response as Told, answer_of, decode, encode,
};

const PATH: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        found.push(bytes[5..5 + length].to_vec());
        bytes = &bytes[5 + length..];
    }
    found
}

fn grpc(frames: Vec<Frame<Bytes>>) -> Response<Body> {
    let frames = frames.into_iter().map(Ok::<_, BodyError>);
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

/// Answers as the service that is asked: it knows its own name, and the file `COMMON` if it is the second.
async fn service(request: Request<Body>, asked: Arc<Mutex<Vec<String>>>) -> Response<Body> {
    let name = request.headers()["tutti-service"].to_str().unwrap().to_owned();
    let own = name.split_once(':').unwrap().1.to_owned();
    assert_eq!(request.uri().path(), PATH);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let question: Asked = decode(&messages(&body)[0]).unwrap();
    asked.lock().unwrap().push(own.clone());
    let files = || Answer::Files(Files { files: vec![own.clone().into_bytes()] });
    let answer = match &question.question {
        Some(Question::Symbol(symbol)) if symbol.starts_with(&own) => files(),
        Some(Question::Symbol(symbol)) if symbol == "com.example.Shared" => files(),
        Some(Question::File(file)) if file == "common.proto" && own.ends_with("Two") => files(),
        _ => Answer::not_found("no"),
    };
    let told: Told = question.answered(answer);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    grpc(vec![Frame::data(framed(&encode(&told)).into()), Frame::trailers(trailers)])
}

struct Shared {
    world: World,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Shared {
    async fn new(services: &[(&str, &[&str])]) -> Shared {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let tables =
            services.iter().map(|(name, matches)| table(name, matches, &[("1.0", 1_000_000, 1)])).collect();
        let hop = hop(move |_, _, request| {
            let noted = Arc::clone(&noted);
            async move { Ok(service(request, noted).await) }
        });
        Shared { world: World::with(tables, hop).await, asked }
    }

    /// What is answered to each question, and the stream's status.
    async fn ask(&self, host: &str, questions: &[Question]) -> (Vec<Answer>, Option<String>) {
        let body: Vec<u8> = questions
            .iter()
            .flat_map(|question| {
                let asked = Asked { host: String::new(), question: Some(question.clone()) };
                framed(&prost::Message::encode_to_vec(&asked))
            })
            .collect();
        self.ask_raw(host, body).await
    }

    async fn ask_raw(&self, host: &str, body: Vec<u8>) -> (Vec<Answer>, Option<String>) {
        let request = Request::builder()
            .method("POST")
            .uri(PATH)
            .header("host", host)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body::full(body))
            .unwrap();
        let response = self.world.send(request).await;
        let head = response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned());
        let status = trailers.map(|status| status.to_str().unwrap().to_owned()).or(head);
        let answers = messages(&body.to_bytes()).iter().map(|message| answer_of(message).unwrap()).collect();
        (answers, status)
    }
}

fn symbol(name: &str) -> Question {
    Question::Symbol(name.to_owned())
}

fn from(service: &str) -> Answer {
    Answer::Files(Files { files: vec![service.as_bytes().to_vec()] })
}

const ONE: (&str, &[&str]) =
    ("example.com:com.example.One", &["*/com.example.One", "example.com/com.example.One", "one.example.com"]);
const TWO: (&str, &[&str]) =
    ("example.com:com.example.Two", &["*/com.example.Two", "example.com/com.example.Two"]);
const WEB: (&str, &[&str]) = ("example.com:web", &["web.example.com"]);
const OTHER: (&str, &[&str]) =
    ("other.org:org.other.Three", &["*/org.other.Three", "other.org/org.other.Three"]);

#[tokio::test]
async fn a_domains_host_lists_its_services_and_asks_them() {
    let shared = Shared::new(&[ONE, TWO, WEB, OTHER]).await;
    let questions = [
        Question::Services(String::new()),
        symbol("com.example.Two"),
        Question::File("common.proto".to_owned()),
        symbol("com.example.One.Call"),
        symbol("com.example.Shared"),
        symbol("org.other.Three"),
    ];
    let (answers, status) = shared.ask("example.com", &questions).await;
    let names = ["com.example.One", "com.example.Two"].map(str::to_owned);
    assert_eq!(answers[0], Answer::services(names));
    assert_eq!(answers[1], from("com.example.Two"));
    assert_eq!(answers[2], from("com.example.Two"));
    assert_eq!(answers[3], from("com.example.One"));
    assert_eq!(answers[4], from("com.example.One"));
    assert!(answers[5].is_not_found(), "another domain's service: {:?}", answers[5]);
    assert_eq!(status.as_deref(), Some("0"));
    let asked = shared.asked.lock().unwrap().join(" ");
    assert!(!asked.contains("other"), "{asked}");
}

#[tokio::test]
async fn without_a_host_of_theirs_services_of_one_domain_are_listed_and_of_several_not() {
    let shared = Shared::new(&[ONE, TWO]).await;
    let (answers, _) = shared.ask("127.0.0.1:8080", &[Question::Services(String::new())]).await;
    let names = ["com.example.One", "com.example.Two"].map(str::to_owned);
    assert_eq!(answers, [Answer::services(names)]);

    let shared = Shared::new(&[ONE, TWO, OTHER]).await;
    let questions = [
        Question::Services(String::new()),
        Question::File("common.proto".to_owned()),
        symbol("com.example.Two"),
        Question::File("common.proto".to_owned()),
        symbol("com.example.Shared"),
    ];
    let (answers, status) = shared.ask("localhost", &questions).await;
    assert!(matches!(&answers[0], Answer::Failure(failure) if failure.code == 9), "{:?}", answers[0]);
    assert!(answers[1].is_not_found(), "nobody is asked before a service is named");
    assert_eq!(answers[2], from("com.example.Two"));
    assert_eq!(answers[3], from("com.example.Two"), "the one that was named is asked on");
    assert_eq!(answers[4], from("com.example.Two"));
    assert_eq!(status.as_deref(), Some("0"));
    assert!(
        shared.asked.lock().unwrap().iter().all(|asked| asked == "com.example.Two"),
        "nobody else is asked"
    );
}

#[tokio::test]
async fn a_service_with_a_host_of_its_own_answers_itself() {
    let shared = Shared::new(&[ONE, TWO]).await;
    let (answers, _) = shared.ask("one.example.com", &[symbol("com.example.One")]).await;
    assert_eq!(answers, [from("com.example.One")]);
    let (answers, _) = shared.ask("one.example.com", &[symbol("com.example.Two")]).await;
    assert!(answers[0].is_not_found());
}

#[tokio::test]
async fn what_is_no_question_ends_the_stream() {
    let shared = Shared::new(&[ONE]).await;
    for (body, status) in [
        (framed(b"\xff"), "3"),
        (vec![1, 0, 0, 0, 0], "12"),
        (vec![0, 255, 0, 0, 0], "8"),
        (Vec::new(), "0"),
        (vec![0, 0], "0"),
    ] {
        let (answers, found) = shared.ask_raw("example.com", body.clone()).await;
        assert!(answers.is_empty());
        assert_eq!(found.as_deref(), Some(status), "{body:?}");
    }
    let many = framed(&prost::Message::encode_to_vec(&Asked {
        host: String::new(),
        question: Some(Question::Services(String::new())),
    }))
    .repeat(4097);
    let (answers, status) = shared.ask_raw("example.com", many).await;
    assert_eq!((answers.len(), status.as_deref()), (4096, Some("8")));
}

#[tokio::test]
async fn where_there_is_no_grpc_service_there_is_no_reflection() {
    let shared = Shared::new(&[WEB]).await;
    let (answers, status) = shared.ask("example.com", &[Question::Services(String::new())]).await;
    assert!(answers.is_empty());
    assert_eq!(status.as_deref(), Some("5"));
}
