use super::*;
use crate::testing::{Bench, id, instance, node_name, target, version};
use futures_util::StreamExt as _;
use std::{convert::Infallible, sync::Mutex, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tutti_base::body;
use tutti_model::{InstanceId, instance::InstanceState as S};

use crate::admission::Slot;

fn post(text: &'static str) -> Request<Body> {
    Request::post("http://web.example.com/").header("x-mark", "7").body(body::full(text)).unwrap()
}

async fn text_of(body: Body) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn refused(error: HopError) -> (String, String) {
    match error {
        HopError::Misdirected { reason, request } | HopError::Overloaded { reason, request } => {
            assert_eq!(request.headers()["x-mark"], "7");
            (reason, text_of(request.into_body()).await)
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_served_here_comes_back_untouched() {
    let bench = Bench::new();
    let (reason, text) = refused(bench.send_request(1, post("precious")).await.unwrap_err()).await;
    assert_eq!(reason, "no ready instance of example.com:web@1.0 on this node");
    assert_eq!(text, "precious");
    let proxy = bench.agent.node_proxy();
    let elsewhere = proxy.send(&"n2".parse().unwrap(), &target(1), post("precious")).await.unwrap_err();
    assert_eq!(refused(elsewhere).await, ("this is node n1, not n2".to_owned(), "precious".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn another_instance_of_the_version_serves_but_never_another_versions() {
    let bench = Bench::new();
    bench.ready(1).await;
    let response = bench.send(99).await.unwrap();
    assert_eq!(response.headers()["tutti-instance"], id(1).as_str());
    let mut wrong = target(1);
    wrong.version = version("example.com:web@2.0").version;
    let error = bench.agent.node_proxy().send(&node_name(), &wrong, post("x")).await.unwrap_err();
    assert!(matches!(error, HopError::Misdirected { .. }), "an id alone is not trusted");
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_body_ends_and_the_queue_waits_no_longer_than_the_timeout() {
    let bench = Bench::new();
    let mut small = instance(1);
    small.spec.manifest.concurrency = 1;
    small.spec.manifest.timeout = Millis::seconds(3);
    bench.zone.put(small);
    bench.zone.until_state(&id(1), S::Ready).await;
    let inside = bench.send(1).await.unwrap();
    let began = Instant::now();
    let (reason, text) = refused(bench.send_request(1, post("precious")).await.unwrap_err()).await;
    assert_eq!(reason, "every instance of example.com:web@1.0 on this node was busy for 3s");
    assert_eq!((text.as_str(), began.elapsed().as_secs()), ("precious", 3));
    assert_eq!(text_of(inside.into_body()).await, "hello");
    assert!(bench.send(1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_first_come_first_served_and_bounded() {
    let bench = Bench::new();
    let mut small = instance(1);
    small.spec.manifest.concurrency = 1;
    bench.zone.put(small);
    bench.zone.until_state(&id(1), S::Ready).await;
    let inside = bench.send(1).await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = tokio::task::JoinSet::new();
    for number in 0..limits::QUEUE_REQUESTS {
        let (proxy, served) = (bench.agent.node_proxy(), Arc::clone(&served));
        waiters.spawn(async move {
            let request = Request::get("/").body(body::empty()).unwrap();
            let response = proxy.send(&node_name(), &target(1), request).await.unwrap();
            served.lock().unwrap().push(number);
            drop(response);
        });
        tokio::task::yield_now().await;
    }
    assert!(
        bench.agent.metrics().contains(&format!("tutti_node_requests_waiting {}", limits::QUEUE_REQUESTS))
    );
    let (reason, _) = refused(bench.send_request(1, post("x")).await.unwrap_err()).await;
    assert_eq!(reason, "every instance of example.com:web@1.0 on this node is busy and 1024 requests wait");
    drop(inside);
    while waiters.join_next().await.transpose().unwrap().is_some() {}
    assert!(served.lock().unwrap().is_sorted());
    assert_eq!(served.lock().unwrap().len(), limits::QUEUE_REQUESTS);
}

/// Answers after a while, or not at all.
struct Slow(Option<Duration>);

#[async_trait]
impl Handler for Slow {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, HandleError> {
        match self.0 {
            Some(after) => tokio::time::sleep(after).await,
            None => return Err(HandleError::Memory),
        }
        Ok(Response::new(body::empty()))
    }
}

fn open(bench: &Bench, number: u64, target: Target) {
    let slot = Arc::new(Slot::new(InstanceId::from_bits(number), target, 10));
    bench.agent.directory().open(&version("example.com:web@1.0"), Millis::seconds(2), slot);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_a_timeout_and_a_failing_guest_a_failure() {
    let bench = Bench::new();
    open(&bench, 1, Target::Handler(Arc::new(Slow(Some(Duration::from_secs(60))))));
    assert!(matches!(bench.send(1).await, Err(HopError::Timeout(after)) if after == Millis::seconds(2)));
    open(&bench, 1, Target::Handler(Arc::new(Slow(None))));
    assert!(
        matches!(bench.send(1).await, Err(HopError::Failed(reason)) if reason.ends_with("the service exceeded its memory limit"))
    );
    let text = bench.agent.metrics();
    assert!(text.contains("{outcome=\"timed_out\"} 1") && text.contains("{outcome=\"failed\"} 1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_of_a_version_is_told_for_as_long_as_it_is_here() {
    let bench = Bench::new();
    let slot = Arc::new(Slot::new(
        InstanceId::from_bits(1),
        Target::Handler(Arc::new(Slow(Some(Duration::from_millis(1500))))),
        10,
    ));
    bench.agent.directory().open(&version("example.com:web@1.0"), Millis::seconds(2), Arc::clone(&slot));
    let told = "tutti_node_first_answer_seconds{service=\"example.com:web\",version=\"1.0\"} 1.5";
    assert!(!bench.agent.metrics().contains(told));
    for _ in 0..2 {
        bench.send(1).await.unwrap();
        assert!(bench.agent.metrics().contains(told), "{}", bench.agent.metrics());
    }
    bench.agent.directory().close(&version("example.com:web@1.0"), &slot);
    assert!(!bench.agent.metrics().contains("example.com:web"));
}

/// Has no room.
struct NoRoom;

#[async_trait]
impl Handler for NoRoom {
    async fn handle(&self, _: Request<Body>) -> Result<Response<Body>, HandleError> {
        Err(HandleError::Full("no slot is free".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn an_isolate_without_room_is_overload_and_no_failure() {
    let bench = Bench::new();
    open(&bench, 1, Target::Handler(Arc::new(NoRoom)));
    let error = bench.send(1).await.unwrap_err();
    assert_eq!(error.to_string(), "the isolate is full: no slot is free");
    assert_eq!(tutti_proxy::Failure::from(&error).status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(bench.agent.metrics().contains("{outcome=\"overloaded\"} 1"));
}

/// Answers once it has read everything.
struct Reads;

#[async_trait]
impl Handler for Reads {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, HandleError> {
        let read = request.into_body().collect().await.unwrap().to_bytes();
        Ok(Response::new(body::full(read)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_not_the_instances_fault_but_one_that_stands_still_ends() {
    let bench = Bench::new();
    open(&bench, 1, Target::Handler(Arc::new(Reads)));
    let trickle = |pauses: Vec<u64>| {
        let pieces = futures_util::stream::iter(pieces(pauses)).then(async |(pause, piece)| {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Ok::<_, BodyError>(Frame::data(piece))
        });
        let body = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(Box::pin(pieces)));
        Request::post("/").body(body).unwrap()
    };
    let response = bench.send_request(1, trickle(vec![1; 10])).await.unwrap();
    assert_eq!(text_of(response.into_body()).await.len(), 10);
    let stuck = bench.send_request(1, trickle(vec![1, 1, 60])).await;
    assert!(matches!(stuck, Err(HopError::Timeout(_))));
}

fn pieces(pauses: Vec<u64>) -> Vec<(u64, Bytes)> {
    pauses.into_iter().map(|pause| (pause, Bytes::from_static(b"x"))).collect()
}

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service =
                hyper::service::service_fn(|mut request: Request<hyper::body::Incoming>| async move {
                    if request.headers().contains_key(http::header::UPGRADE) {
                        let upgrade = hyper::upgrade::on(&mut request);
                        tokio::spawn(async move {
                            let mut stream = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                            let mut bytes = [0; 4];
                            stream.read_exact(&mut bytes).await.unwrap();
                            stream.write_all(&bytes).await.unwrap();
                            stream.shutdown().await.unwrap();
                        });
                        let response = Response::builder()
                            .status(101)
                            .header("upgrade", "echo")
                            .header("connection", "upgrade");
                        return Ok::<_, Infallible>(response.body(body::empty()).unwrap());
                    }
                    let bytes = request.into_body().collect().await.unwrap().to_bytes();
                    Ok(Response::new(body::full(bytes)))
                });
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(stream, service).with_upgrades(),
            );
        }
    });
    address
}

/// Answers once its request has come.
struct Listening;

#[async_trait]
impl Handler for Listening {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, HandleError> {
        Ok(Response::new(body::full(request.into_body().collect().await.unwrap().to_bytes())))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_grpc_may_begin_as_late_as_its_client_likes() {
    let bench = Bench::new();
    open(&bench, 1, Target::Handler(Arc::new(Listening)));
    let late = || {
        let frames = futures_util::stream::once(async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"late")))
        });
        Request::post("http://web.example.com/").body(http_body_util::StreamBody::new(frames).boxed_unsync())
    };
    let mut stream = late().unwrap();
    stream.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = bench.send_request(1, stream).await.unwrap();
    assert_eq!(text_of(answer.into_body()).await, "late");
    // An upload that stands still is another matter.
    let error = bench.send_request(1, late().unwrap()).await.unwrap_err();
    assert!(matches!(error, HopError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn an_address_is_reached_and_a_closed_one_gives_the_request_back() {
    let bench = Bench::new();
    open(&bench, 1, Target::Address(echo_server().await));
    let response = bench.send_request(1, post("precious")).await.unwrap();
    assert_eq!(response.headers()["tutti-instance"], id(1).as_str());
    assert_eq!(text_of(response.into_body()).await, "precious");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    open(&bench, 1, Target::Address(closed));
    let (_, text) = refused(bench.send_request(1, post("precious")).await.unwrap_err()).await;
    assert_eq!(text, "precious");
}

#[tokio::test]
async fn a_tunnel_holds_its_place_until_it_ends() {
    let bench = Bench::new();
    let address = echo_server().await;
    let slot = Arc::new(Slot::new(id(1), Target::Address(address), 10));
    bench.agent.directory().open(&version("example.com:web@1.0"), Millis::seconds(2), Arc::clone(&slot));
    let proxy = bench.agent.node_proxy();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap();
    let service = move |request, _| {
        let proxy = Arc::clone(&proxy);
        async move { proxy.send(&node_name(), &target(1), request).await.unwrap() }
    };
    let tasks = bench.tasks.clone();
    tokio::spawn(async move {
        tutti_proxy::serve(listener, service, tutti_proxy::Limits::default(), &tasks).await
    });
    let mut client = tokio::net::TcpStream::connect(front).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    assert_eq!(slot.running(), 1);
    client.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
    drop(client);
    slot.close();
    tokio::time::timeout(Duration::from_secs(10), slot.emptied()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_about_to_end_gives_requests_back_and_finishes_those_inside() {
    let bench = Bench::new();
    bench.ready(1).await;
    let inside = bench.send(1).await.unwrap();
    bench.agent.take_no_more();
    let (reason, text) = refused(bench.send_request(1, post("precious")).await.unwrap_err()).await;
    assert_eq!((reason.as_str(), text.as_str()), ("the agent of node n1 is ending", "precious"));
    assert!(!text_of(inside.into_body()).await.is_empty());
}
