use super::*;
use crate::{
    frames::{self, Say},
    serve::{ConnInfo, Limits, serve},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::sync::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tutti_base::{Tasks, body, body::BodyError};

const PATIENCE: Duration = Duration::from_secs(10);

async fn upstream<S, F>(service: S) -> (SocketAddr, Tasks)
where
    S: Fn(Request<Body>, ConnInfo) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
    let limits = Limits { drain: Duration::from_millis(50), ..Limits::default() };
    let serving = tasks.clone();
    tokio::spawn(async move { serve(listener, service, limits, &serving).await });
    (address, tasks)
}

/// A server that says each of `answers` to one request on one connection, closing it after; it gives what it read.
async fn raw(answers: Vec<&'static str>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            while !text.contains("\r\n\r\n") {
                let mut bytes = [0; 1024];
                let count = stream.read(&mut bytes).await.unwrap();
                if count == 0 {
                    break;
                }
                text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            noted.lock().unwrap().push(text);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, seen)
}

/// Time stands still from now on, but for whoever advances it. It does not run ahead either while a test waits for the
/// kernel, as paused time does otherwise; unless that takes so long that the test's own bounds are to end it.
#[must_use]
fn stop_time() -> std::sync::mpsc::Sender<()> {
    let (ends, ended) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || ended.recv_timeout(PATIENCE));
    tokio::time::pause();
    ends
}

fn get(path: &str) -> Request<Body> {
    Request::builder().uri(path).header("host", "a.com").body(body::empty()).unwrap()
}

fn post(body: Body) -> Request<Body> {
    Request::builder().method("POST").uri("/").header("host", "a.com").body(body).unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn echo(request: Request<Body>, _: ConnInfo) -> Response<Body> {
    let version = format!("{:?}", request.version());
    let mut response = Response::new(request.into_body());
    response.headers_mut().insert("x-version", HeaderValue::try_from(version).unwrap());
    response
}

#[tokio::test]
async fn connections_are_used_again_and_closed_when_old() {
    let peers = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let noted = Arc::clone(&peers);
    let (address, _tasks) = upstream(move |_, info| {
        noted.lock().unwrap().insert(info.peer);
        async { Response::new(body::full("hello")) }
    })
    .await;
    let pool = Pool::new(PoolOptions { idle_age: Duration::from_secs(4), ..PoolOptions::default() });
    for _ in 0..50 {
        let response = pool.send(address, Protocol::Http1, get("/"), &Timeouts::default()).await.unwrap();
        assert_eq!(text(response).await, "hello");
    }
    assert_eq!(peers.lock().unwrap().len(), 1, "one connection served them all");
    assert_eq!(pool.open(), 1);
    let _stopped = stop_time();
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(pool.open(), 1, "not before its time");
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(pool.open(), 0, "a connection at rest is closed");
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways_over_both_protocols() {
    let (address, _tasks) = upstream(echo).await;
    let pool = Pool::new(PoolOptions::default());
    for (protocol, version) in [(Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2.0")] {
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("x-sum"),
            HeaderValue::from_static("7"),
        )]);
        let frames = vec![
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"one "))),
            Ok(Frame::data(Bytes::from_static(b"two"))),
            Ok(Frame::trailers(trailers)),
        ];
        let mut request = post(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
        request.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-sum"));
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        let response = pool.send(address, protocol, request, &Timeouts::default()).await.unwrap();
        assert_eq!(response.headers()["x-version"], version);
        let whole = response.into_body().collect().await.unwrap();
        if protocol == Protocol::Http2 {
            assert_eq!(whole.trailers().unwrap()["x-sum"], "7");
        }
        assert_eq!(whole.to_bytes(), "one two");
    }
}

#[tokio::test]
async fn a_get_with_a_body_keeps_it() {
    let (address, _tasks) = upstream(echo).await;
    let pool = Pool::new(PoolOptions::default());
    let frames = vec![Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"query")))];
    let mut request = post(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
    *request.method_mut() = http::Method::GET;
    let response = pool.send(address, Protocol::Http1, request, &Timeouts::default()).await.unwrap();
    assert_eq!(text(response).await, "query");
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let (address, _tasks) = upstream(echo).await;
    let pool = Pool::new(PoolOptions::default());
    let sends = (0..200).map(|number| {
        let pool = pool.clone();
        async move {
            let response = pool
                .send(address, Protocol::Http2, post(body::full(number.to_string())), &Timeouts::default())
                .await;
            assert_eq!(text(response.unwrap()).await, number.to_string());
        }
    });
    futures_util::future::join_all(sends).await;
    assert!(pool.open() <= 3, "{} connections", pool.open());
}

#[tokio::test]
async fn a_refused_connection_gives_the_request_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let pool = Pool::new(PoolOptions::default());
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let error =
            pool.send(address, protocol, post(body::full("kept")), &Timeouts::default()).await.unwrap_err();
        assert!(error.chain().contains("refused"), "{}", error.chain());
        let request = error.into_request().unwrap();
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "kept");
    }
    assert_eq!(pool.open(), 0);
}

#[tokio::test]
async fn too_many_connections_are_not_opened() {
    let (address, _tasks) = upstream(|_, _| async { std::future::pending().await }).await;
    let pool = Pool::new(PoolOptions { connections_per_address: 2, ..PoolOptions::default() });
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                pool.send(address, Protocol::Http1, get("/"), &Timeouts::default()).await.is_ok()
            })
        })
        .collect();
    let full = async {
        while pool.open() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.unwrap();
    let error = pool.send(address, Protocol::Http1, get("/"), &Timeouts::default()).await.unwrap_err();
    assert!(matches!(error, ForwardError::Full { .. }), "{error}");
    for one in waiting {
        one.abort();
        let _ = one.await;
    }
    assert_eq!(pool.open(), 0, "an abandoned request closes its connection");
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let (address, _tasks) = upstream(|_, _| async { std::future::pending().await }).await;
    let pool = Pool::new(PoolOptions::default());
    let timeouts = Timeouts { first_byte: Duration::from_millis(50), ..Timeouts::default() };
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let error = pool.send(address, protocol, get("/"), &timeouts).await.unwrap_err();
        assert!(matches!(error, ForwardError::Timeout { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_slow_upload_is_not_silence() {
    let (address, _tasks) = upstream(|request, _| async move {
        let whole = request.into_body().collect().await.unwrap();
        Response::new(body::full(whole.to_bytes()))
    })
    .await;
    let pool = Pool::new(PoolOptions::default());
    let _stopped = stop_time();
    // Shorter than the upload, and much longer than its pauses.
    let timeouts = Timeouts { first_byte: Duration::from_millis(700), ..Timeouts::default() };
    let frames = futures_util::stream::iter(0..9).then(|_| async {
        tokio::time::advance(Duration::from_millis(100)).await;
        Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x")))
    });
    let response =
        pool.send(address, Protocol::Http1, post(StreamBody::new(frames).boxed_unsync()), &timeouts).await;
    assert_eq!(text(response.unwrap()).await, "xxxxxxxxx");
}

#[tokio::test]
async fn what_may_have_been_delivered_is_never_sent_twice() {
    let (address, seen) = raw(vec!["", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]).await;
    let pool = Pool::new(PoolOptions::default());
    let error =
        pool.send(address, Protocol::Http1, post(body::full("pay")), &Timeouts::default()).await.unwrap_err();
    assert!(matches!(error, ForwardError::Upstream { .. }), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_connection_that_closed_at_rest_is_not_used() {
    const ONCE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (address, seen) = raw(vec![ONCE, ONCE, ONCE]).await;
    let pool = Pool::new(PoolOptions::default());
    for _ in 0..3 {
        let response =
            pool.send(address, Protocol::Http1, post(body::full("x")), &Timeouts::default()).await.unwrap();
        assert_eq!(text(response).await, "ok");
        let upstream = pool.upstream(address);
        tokio::time::timeout(PATIENCE, upstream.http1.seen_closed()).await.expect("it is closed");
    }
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn fields_of_the_connection_stay_there_and_others_keep_their_case() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nX-CamelCase: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let (address, seen) = raw(vec![answer]).await;
    let pool = Pool::new(PoolOptions::default());
    let mut request = get("http://a.com/path?query");
    request.headers_mut().insert("connection", HeaderValue::from_static("x-hop"));
    request.headers_mut().insert("x-hop", HeaderValue::from_static("1"));
    let response = pool.send(address, Protocol::Http1, request, &Timeouts::default()).await.unwrap();
    let names: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    assert_eq!((response.status(), names), (StatusCode::OK, vec!["x-camelcase"]));
    let seen = seen.lock().unwrap()[0].to_ascii_lowercase();
    assert!(seen.starts_with("get /path?query http/1.1\r\n") && !seen.contains("x-hop"), "{seen}");
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut_when_an_idle_time_is_set() {
    let (address, _tasks) = upstream(|_, _| async {
        let first = futures_util::stream::iter([Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x")))]);
        Response::new(StreamBody::new(first.chain(futures_util::stream::pending())).boxed_unsync())
    })
    .await;
    let pool = Pool::new(PoolOptions::default());
    let timeouts = Timeouts { idle: Some(Duration::from_millis(50)), ..Timeouts::default() };
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let response = pool.send(address, protocol, get("/"), &timeouts).await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("it is cut");
        assert!(ended.is_err());
    }
}

#[tokio::test]
async fn an_answer_before_the_upload_ends_leaves_no_connection_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4096];
        assert!(stream.read(&mut bytes).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        // It reads the rest and would keep the connection for ever.
        while stream.read(&mut bytes).await.unwrap() > 0 {}
    });
    let pool = Pool::new(PoolOptions { idle_age: Duration::from_secs(3600), ..PoolOptions::default() });
    let (ends, ended) = tokio::sync::oneshot::channel::<()>();
    let first = futures_util::stream::iter([Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"one")))]);
    let last = futures_util::stream::once(async move {
        let _ = ended.await;
        Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"two")))
    });
    let request = post(StreamBody::new(first.chain(last)).boxed_unsync());
    let response = pool.send(address, Protocol::Http1, request, &Timeouts::default()).await.unwrap();
    assert_eq!(text(response).await, "ok");
    ends.send(()).unwrap();
    tokio::time::timeout(PATIENCE, server).await.expect("the connection is closed").unwrap();
    assert_eq!(pool.open(), 0);
}

#[tokio::test]
async fn an_old_servers_version_is_not_passed_on() {
    let (address, _) = raw(vec!["HTTP/1.0 200 OK\r\n\r\nold"]).await;
    let pool = Pool::new(PoolOptions::default());
    let response = pool.send(address, Protocol::Http1, get("/"), &Timeouts::default()).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_11);
    assert_eq!(text(response).await, "old");
}

#[tokio::test]
async fn what_a_closing_http2_connection_did_not_look_at_goes_over_another() {
    // The second request of the first connection crosses its end.
    let say = |connection, stream| match (connection, stream) {
        (0, 3) => Say::GoAway { last: 1 },
        _ => Say::Answer,
    };
    let (address, seen) = frames::server(say).await;
    let pool = Pool::new(PoolOptions::default());
    for body in ["one", "two", "three"] {
        let sent = pool.send(address, Protocol::Http2, post(body::full(body)), &Timeouts::default()).await;
        assert_eq!(sent.unwrap().status(), StatusCode::OK);
    }
    let all = [(0, "one".to_owned()), (1, "two".to_owned()), (1, "three".to_owned())];
    assert_eq!(*seen.lock().unwrap(), all);
}

#[tokio::test]
async fn what_a_closing_http2_connection_may_have_looked_at_is_not_sent_again() {
    let say = |connection, _| if connection == 0 { Say::GoAway { last: 1 } } else { Say::Answer };
    let (address, seen) = frames::server(say).await;
    let pool = Pool::new(PoolOptions::default());
    let sent = pool.send(address, Protocol::Http2, post(body::full("pay")), &Timeouts::default()).await;
    let error = sent.unwrap_err();
    assert!(matches!(error, ForwardError::Upstream { .. }), "{}", error.chain());
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_refused_stream_is_sent_once_more_and_then_given_back() {
    let say = |_, stream| if stream == 1 { Say::Refuse } else { Say::Answer };
    let (address, seen) = frames::server(say).await;
    let pool = Pool::new(PoolOptions::default());
    let sent = pool.send(address, Protocol::Http2, post(body::full("one")), &Timeouts::default()).await;
    assert_eq!(sent.unwrap().status(), StatusCode::OK);
    assert_eq!(*seen.lock().unwrap(), [(0, "one".to_owned())]);
    let (address, _) = frames::server(|_, _| Say::Refuse).await;
    let sent = pool.send(address, Protocol::Http2, post(body::full("kept")), &Timeouts::default()).await;
    let error = sent.unwrap_err();
    assert!(matches!(error, ForwardError::Full { .. }), "{}", error.chain());
    let request = error.into_request().unwrap();
    assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "kept");
}
