//! What passes through, and how.

use super::world::*;
use ::http::{HeaderMap, HeaderValue, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tutti_base::{
    Body,
    body::{self, BodyError},
};

#[tokio::test]
async fn a_request_arrives_with_what_we_add_and_without_what_is_forged() {
    let seen = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&seen);
    let world = World::with(
        vec![web()],
        hop(move |_, _, request| {
            *noted.lock().unwrap() = Some((request.uri().clone(), request.headers().clone()));
            async { Ok(Response::new(body::full("hello"))) }
        }),
    )
    .await;
    let mut request = get("web.test", "/a/b?c=d");
    for (name, value) in [
        ("tutti-service", "evil"),
        ("tutti-secret", "evil"),
        ("x-forwarded-for", "1.2.3.4"),
        ("traceparent", "garbage"),
        ("x-request-id", "mine"),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let response = world.send(request).await;
    assert_eq!(response.headers()["tutti-service"], "example.com:web");
    assert_eq!(response.headers()["tutti-version"], "1.0");
    assert!(response.headers()["tutti-instance"].to_str().unwrap().starts_with("i-"));
    assert_eq!(text(response).await, "hello");
    let (uri, headers) = seen.lock().unwrap().take().unwrap();
    assert_eq!(uri, "/a/b?c=d");
    let own: Vec<_> = headers.iter().filter(|(name, _)| name.as_str().starts_with("tutti-")).collect();
    assert_eq!(own.len(), 2, "{own:?}");
    assert_eq!(headers["tutti-service"], "example.com:web");
    assert_eq!(headers["tutti-version"], "1.0");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["x-forwarded-host"], "web.test");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-request-id"], "mine");
    assert_eq!(headers["traceparent"].len(), 55);
}

async fn raw(world: &World, text: &str) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn the_host_comes_from_the_field_or_the_absolute_target() {
    let world = World::with(
        vec![web()],
        hop(|_, _, request| async move {
            Ok(Response::new(body::full(format!("{} {:?}", request.uri(), request.headers()["host"]))))
        }),
    )
    .await;
    for (head, status, body) in [
        ("GET /x HTTP/1.1\r\nhost: WEB.test:80", "200", "/x \"WEB.test:80\""),
        ("GET http://web.test/x?y HTTP/1.1\r\nhost: web.test", "200", "/x?y \"web.test\""),
        ("GET http://web.test HTTP/1.0", "200", "/ \"web.test\""),
        ("GET http://web.test/ HTTP/1.1\r\nhost: other.test", "400", "different hosts"),
        ("GET / HTTP/1.1\r\nhost: web.test\r\nhost: web.test", "400", "twice"),
        ("GET / HTTP/1.0", "400", "does not say which host"),
        ("CONNECT web.test:80 HTTP/1.1\r\nhost: web.test:80", "400", "CONNECT"),
    ] {
        let answer = raw(&world, &format!("{head}\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.split(' ').nth(1) == Some(status) && answer.contains(body), "{head:?}: {answer}");
    }
}

fn frames(parts: Vec<Frame<Bytes>>) -> Body {
    StreamBody::new(futures_util::stream::iter(parts.into_iter().map(Ok::<_, BodyError>))).boxed_unsync()
}

#[tokio::test]
async fn grpc_passes_over_http2_with_its_trailers() {
    let upstream = server(|request, _| async move {
        assert_eq!(request.version(), ::http::Version::HTTP_2);
        assert_eq!(request.headers()["te"], "trailers");
        let whole = request.into_body().collect().await.unwrap().to_bytes();
        let trailers = HeaderMap::from_iter([(
            ::http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]);
        let mut response = Response::new(frames(vec![Frame::data(whole), Frame::trailers(trailers)]));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response
    })
    .await;
    let hello = table("example.com:com.example.Hello", &["*/com.example.Hello"], &[("1.0", 1_000_000, 1)]);
    let world = World::with(vec![hello], hop_to(upstream)).await;
    let mut request = get("127.0.0.1:1234", "/com.example.Hello/Say").map(|_| body::full("ping"));
    *request.method_mut() = ::http::Method::POST;
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let response = world.send(request).await;
    assert_eq!(response.headers()["tutti-version"], "1.0");
    let whole = response.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(whole.to_bytes(), "ping");
    let stats = &world.ingress.stats()[0].stats;
    assert_eq!((stats.answers, stats.errors), (1, 0));
}

/// The gRPC health service by hand, asked by a stock client.
#[tokio::test]
async fn a_stock_grpc_client_is_answered() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let health =
        table("example.com:grpc.health.v1.Health", &["*/grpc.health.v1.Health"], &[("1.0", 1_000_000, 1)]);
    let world = World::with(vec![health], hop_to(address)).await;
    let channel = tonic::transport::Endpoint::new(format!("http://{}", world.address))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = HealthClient::new(channel);
    for _ in 0..20 {
        let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
        assert_eq!(answer.into_inner().status, 1);
    }
    // The service's own refusal passes as it is, and is not the server's fault.
    let status = client.check(HealthCheckRequest { service: "no.such".into() }).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    let mut watch = client.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
    let stats = &world.ingress.stats()[0].stats;
    assert_eq!((stats.answers, stats.errors, stats.running), (22, 0, 1));
}

#[tokio::test]
async fn events_pass_as_they_come_and_uploads_too() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let upstream = server(move |_, _| {
        let events =
            tokio_stream::wrappers::UnboundedReceiverStream::new(receiver.lock().unwrap().take().unwrap());
        async {
            Response::new(
                StreamBody::new(events.map(|data| Ok::<_, BodyError>(Frame::data(data)))).boxed_unsync(),
            )
        }
    })
    .await;
    let world = World::with(vec![web()], hop_to(upstream)).await;
    let mut events = world.send(get("web.test", "/")).await.into_body();
    for number in 0..5 {
        sender.send(format!("data: {number}\n\n").into()).unwrap();
        let frame = tokio::time::timeout(PATIENCE, events.frame())
            .await
            .expect("it is not held back")
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), format!("data: {number}\n\n"));
    }
    drop(sender);
    assert!(events.frame().await.is_none());
}

#[tokio::test]
async fn both_ways_stream_at_once() {
    let world = World::with(vec![web()], hop_to(server(echo).await)).await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let upload = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver)
        .map(|data| Ok::<_, BodyError>(Frame::data(data)));
    sender.send(Bytes::from_static(b"0")).unwrap();
    let mut echoed = world.send(post(StreamBody::new(upload).boxed_unsync())).await.into_body();
    for number in 1..5 {
        let frame = tokio::time::timeout(PATIENCE, echoed.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), (number - 1).to_string());
        sender.send(number.to_string().into()).unwrap();
    }
}

#[tokio::test]
async fn a_large_body_passes_whole() {
    let world = World::with(vec![web()], hop_to(server(echo).await)).await;
    let parts = (0..512)
        .map(|number: u32| Frame::data(Bytes::from(vec![u8::try_from(number % 251).unwrap(); 64 * 1024])));
    let response = world.send(post(frames(parts.collect()))).await;
    let whole = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(whole.len(), 512 * 64 * 1024);
    assert!(
        whole
            .chunks(64 * 1024)
            .enumerate()
            .all(|(number, part)| part.iter().all(|byte| usize::from(*byte) == number % 251))
    );
}

/// Switches to a protocol of lines, and echoes them.
async fn switching(mut request: ::http::Request<Body>, _: tutti_proxy::ConnInfo) -> Response<Body> {
    assert_eq!(request.headers()["upgrade"], "websocket");
    let client = hyper::upgrade::on(&mut request);
    let (ours, theirs) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(theirs);
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let _ = (client, ours);
    let mut response = Response::new(body::empty());
    *response.status_mut() = ::http::StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    response
}

/// A server that speaks hyper directly, as `serve` would take the switch for its own.
async fn websocket_server() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(
                move |mut request: ::http::Request<hyper::body::Incoming>| async move {
                    let client = hyper::upgrade::on(&mut request);
                    tokio::spawn(async move {
                        let mut client = TokioIo::new(client.await.unwrap());
                        let mut bytes = [0; 1024];
                        while let Ok(count @ 1..) = client.read(&mut bytes).await {
                            client.write_all(&bytes[..count]).await.unwrap();
                        }
                    });
                    let info = tutti_proxy::ConnInfo {
                        peer,
                        client: Arc::new(tutti_proxy::headers::ClientAddress::new(peer.ip())),
                    };
                    Ok::<_, Infallible>(switching(request.map(|_| body::empty()), info).await)
                },
            );
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades(),
            );
        }
    });
    address
}

#[tokio::test]
async fn a_websocket_is_carried_both_ways() {
    let world = World::with(vec![web()], hop_to(websocket_server().await)).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = "GET /chat HTTP/1.1\r\nhost: web.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        answer.push(char::from(stream.read_u8().await.unwrap()));
    }
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("tutti-version: 1.0"), "{answer}");
    for number in 0..100 {
        let sent = format!("message {number}");
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut back = vec![0; sent.len()];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, sent.as_bytes());
    }
    assert_eq!(world.ingress.stats()[0].stats.running, 1, "a tunnel runs until it ends");
    drop(stream);
    until("the tunnel has ended", || world.ingress.stats()[0].stats.running == 0).await;
}

/// RFC 8441: a WebSocket as one stream of an HTTP/2 connection.
#[tokio::test]
async fn a_websocket_over_http2_is_carried_too() {
    let world = World::with(vec![web()], hop_to(websocket_server().await)).await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let handshake =
        hyper::client::conn::http2::Builder::new(executor).handshake::<_, Body>(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    let (mut connection, settled) = (Box::pin(connection), Arc::new(tokio::sync::Notify::new()));
    let offered = Arc::clone(&settled);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(1));
    tokio::spawn(std::future::poll_fn(move |cx| {
        // Settings are seen by another task of hyper's, which does not wake this one.
        while tick.poll_tick(cx).is_ready() {}
        let polled = connection.as_mut().poll(cx);
        if connection.is_extended_connect_protocol_enabled() {
            offered.notify_one();
        }
        polled
    }));
    tokio::time::timeout(PATIENCE, settled.notified()).await.expect("the ingress offers it");
    let mut request = ::http::Request::connect("http://web.test/chat")
        .version(::http::Version::HTTP_2)
        .body(body::empty())
        .unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
    let mut response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut socket = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    for number in 0..20 {
        let sent = format!("message {number}");
        socket.write_all(sent.as_bytes()).await.unwrap();
        let mut back = vec![0; sent.len()];
        tokio::time::timeout(PATIENCE, socket.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, sent.as_bytes());
    }
}
