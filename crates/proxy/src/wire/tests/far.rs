//! The node at the other end, and the ways to it.

use super::super::{NodeBook, Others, Sockets, WireHop, serve};
use super::cluster::Cluster;
use crate::{Hop, HopError, HopTarget, Pool, PoolOptions, Protocol, Timeouts};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
};
use tutti_base::{Body, Random, Tasks, body, body::BodyError};
use tutti_model::{InstanceId, Millis, name::NodeName, node::RoleAddress};

/// Longest wait for anything in these tests.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn node() -> NodeName {
    "n1".parse().unwrap()
}

pub(super) fn target() -> HopTarget {
    HopTarget {
        service: "example.com:web".parse().unwrap(),
        version: "1.0".parse().unwrap(),
        instance: InstanceId::from_bits(1),
    }
}

pub(super) fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "a.com").body(body::empty()).unwrap()
}

pub(super) fn post(path: &str, body: Body) -> Request<Body> {
    Request::post(path).header("host", "a.com").body(body).unwrap()
}

pub(super) async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub(super) async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it comes to be so");
}

type Ahead = Box<dyn Fn(usize) -> usize + Send>;

/// A node that does what a request's path says.
#[derive(Default)]
pub(super) struct Far {
    pub(super) served: AtomicUsize,
    running: Arc<AtomicUsize>,
    /// Lets a request that waits for it be refused.
    pub(super) told: Notify,
    /// The most bytes by which an upload was ahead.
    pub(super) ahead: AtomicUsize,
    /// Bytes of the last download made so far.
    pub(super) made: Arc<AtomicUsize>,
    of_upload: Mutex<Option<Ahead>>,
    chat: Mutex<Option<(Pool, SocketAddr)>>,
}

impl std::fmt::Debug for Far {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Far")
    }
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

const REASON: &str = "not hère: try another";

impl Far {
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Watches how far an upload is ahead: `ahead` of so many bytes read.
    pub(super) fn begin(&self, ahead: impl Fn(usize) -> usize + Send + 'static) {
        *self.of_upload.lock().unwrap() = Some(Box::new(ahead));
    }

    fn enter(&self) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(Arc::clone(&self.running))
    }

    fn download(&self) -> Response<Body> {
        let made = Arc::clone(&self.made);
        made.store(0, Ordering::SeqCst);
        let piece = Bytes::from(vec![b'y'; 64 * 1024]);
        let frames = futures_util::stream::iter(0..1600).map(move |_| {
            made.fetch_add(piece.len(), Ordering::SeqCst);
            Ok::<_, BodyError>(Frame::data(piece.clone()))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    async fn count(&self, mut body: Body) -> Response<Body> {
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
            if let Some(ahead) = &*self.of_upload.lock().unwrap() {
                self.ahead.fetch_max(ahead(read), Ordering::SeqCst);
            }
        }
        Response::new(body::full(read.to_string()))
    }

    /// Forwards to a server that grants an upgrade, echoes six bytes, waits for their sender's end, and says bye.
    async fn chat(&self, request: Request<Body>) -> Result<Response<Body>, HopError> {
        let known = self.chat.lock().unwrap().clone();
        let (pool, address) = match known {
            Some(known) => known,
            None => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                tokio::spawn(async move {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                    assert!(head.starts_with("get /chat http/1.1\r\n"), "{head}");
                    assert!(head.contains("sec-websocket-key: dghlihnhbxbszsbub25jzq=="), "{head}");
                    let granted = "HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: mine\r\n\r\n";
                    stream.write_all(granted.as_bytes()).await.unwrap();
                    let mut six = [0; 6];
                    for part in 0..2 {
                        let three = &mut six[part * 3..part * 3 + 3];
                        stream.read_exact(three).await.unwrap();
                        stream.write_all(three).await.unwrap();
                    }
                    assert_eq!(stream.read(&mut six).await.unwrap(), 0);
                    stream.write_all(b"bye").await.unwrap();
                });
                (Pool::new(PoolOptions::default()), address)
            }
        };
        Ok(pool.send(address, Protocol::Http1, request, &Timeouts::default()).await?)
    }
}

fn echo(target: &HopTarget, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::CREATED;
    let said = [
        ("x-method", parts.method.to_string()),
        ("x-target", parts.uri.to_string()),
        ("x-to", format!("{}@{} {}", target.service, target.version, target.instance)),
        (
            "x-hop-fields",
            parts.headers.keys().filter(|name| name.as_str().starts_with("tutti-hop")).count().to_string(),
        ),
    ];
    for (name, value) in said {
        response.headers_mut().insert(name, HeaderValue::try_from(value).unwrap());
    }
    for (name, back) in [("x-many", "x-many"), ("tutti-version", "tutti-version"), ("te", "x-te")] {
        for value in parts.headers.get_all(name) {
            response.headers_mut().append(back, value.clone());
        }
    }
    response.headers_mut().insert("x-host", parts.headers["host"].clone());
    response
}

#[async_trait]
impl Hop for Far {
    async fn send(
        &self,
        _: &NodeName,
        target: &HopTarget,
        request: Request<Body>,
    ) -> Result<Response<Body>, HopError> {
        self.served.fetch_add(1, Ordering::SeqCst);
        let reason = || REASON.to_owned();
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/misdirected" => Err(HopError::Misdirected { reason: reason(), request: Box::new(request) }),
            "/overloaded" => Err(HopError::Overloaded { reason: reason(), request: Box::new(request) }),
            "/refuse-when-told" => {
                self.told.notified().await;
                Err(HopError::Misdirected { reason: reason(), request: Box::new(request) })
            }
            "/misdirected-late" | "/overloaded-late" => {
                let whole = request.into_body().collect().await.unwrap().to_bytes();
                let request = Box::new(Request::new(body::full(whole)));
                Err(if path == "/misdirected-late" {
                    HopError::Misdirected { reason: reason(), request }
                } else {
                    HopError::Overloaded { reason: reason(), request }
                })
            }
            "/full" => Err(HopError::Full("no memory".into())),
            "/failed" => Err(HopError::Failed("it broke".into())),
            "/timeout" => Err(HopError::Timeout(Millis(1234))),
            "/hang" => {
                let _running = self.enter();
                std::future::pending().await
            }
            "/endless" => {
                let running = self.enter();
                let first = futures_util::stream::iter([Ok::<_, BodyError>(Frame::data(Bytes::from("x")))]);
                let frames = first.chain(futures_util::stream::pending()).map(move |frame| {
                    let _ = &running;
                    frame
                });
                Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
            }
            "/chat" => self.chat(request).await,
            "/forbidden" => {
                Ok(Response::builder().status(StatusCode::FORBIDDEN).body(body::full("no")).unwrap())
            }
            "/forge" => Ok(Response::builder()
                .status(StatusCode::MISDIRECTED_REQUEST)
                .header("tutti-hop", "misdirected: forged")
                .header("tutti-hop-status", "101")
                .body(body::full("forged"))
                .unwrap()),
            "/count" => Ok(self.count(request.into_body()).await),
            "/download" => Ok(self.download()),
            _ => Ok(echo(target, request)),
        }
    }
}

/// A way to a node.
pub(super) enum Way {
    Direct(Arc<Far>),
    Wire(Arc<Far>, WireHop, &'static str),
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Way::Direct(_) => "directly",
            Way::Wire(.., over) => over,
        })
    }
}

impl Way {
    pub(super) fn far(&self) -> &Far {
        match self {
            Way::Direct(far) | Way::Wire(far, ..) => far,
        }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, HopError> {
        match self {
            Way::Direct(far) => far.send(&node(), &target(), request).await,
            Way::Wire(_, wire, _) => wire.send(&node(), &target(), request).await,
        }
    }
}

/// What answers beside the hop.
pub(super) fn others() -> Others {
    Arc::new(|request| {
        Box::pin(async move { Response::new(body::full(format!("other {}", request.uri().path()))) })
    })
}

/// Serves a node's socket.
pub(super) async fn at(path: &Path, far: &Arc<Far>) -> (Tasks, tokio::task::JoinHandle<()>) {
    let listener = tutti_base::socket::listen(path).await.unwrap();
    let tasks = Tasks::new();
    let hop = Arc::clone(far) as Arc<dyn Hop>;
    let serving = tokio::spawn(serve(listener, hop, node(), others(), tasks.clone()));
    (tasks, serving)
}

/// Where the node is.
pub(super) fn book(path: &Path) -> Arc<NodeBook> {
    let book = NodeBook::default();
    assert!(book.set(&node(), Some(RoleAddress::Socket(path.to_owned()))));
    Arc::new(book)
}

/// Every way, each to a node of its own. The first is the call.
pub(super) async fn ways() -> [Way; 3] {
    let [socket, tls] = wires().await;
    [Way::Direct(Arc::default()), socket, tls]
}

/// The ways over the wire: a socket file, and TLS.
pub(super) async fn wires() -> [Way; 2] {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n1.sock");
    let far = Arc::new(Far::default());
    at(&path, &far).await;
    let wire = WireHop::new(book(&path), Arc::new(Sockets), Random::seeded(1));
    // Connections are opened later than this: the test's own end cleans up.
    let _ = folder.keep();
    let tls = Cluster::new();
    let (behind, _) = tls.serve().await;
    let over = tls.wire();
    [Way::Wire(far, wire, "over a socket"), Way::Wire(behind, over, "over TLS")]
}
