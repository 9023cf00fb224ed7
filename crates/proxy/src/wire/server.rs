//! The agent's end of the wire: takes requests off its socket or port and hands them to the node's own hop.

use super::{
    HEADER_BYTES, REQUEST_WINDOW, REQUESTS_WINDOW, SEND_BUFFER, STREAMS,
    encoding::{self, For},
};
use crate::{
    Hop, HopError,
    serve::sniff::{Sniffed, Spoken},
    upgrade,
};
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tutti_base::{Body, Tasks, body, body::BodyError, socket};
use tutti_model::{Digest, member::MachineRole, name::NodeName};
use tutti_pki::{Acceptor, MemberTable, server::TlsStream};

/// Connections at once: those of dozens of ingresses. Further ones are closed at once.
const CONNECTIONS: usize = 1024;
/// Streams that a peer may open and reset before we have seen them. Every cancelled request is a reset, and a client
/// that leaves takes all of its own with it, so this is a whole connection's worth.
const PENDING_RESETS: usize = STREAMS as usize;
/// Streams that we may reset for a peer's faults before its connection is closed.
const LOCAL_RESETS: usize = 256;
/// A silent connection is asked for a sign of life this often, and given as long to answer.
const PING: Duration = Duration::from_secs(20);
/// Longest wait for a connection's first bytes, and for a head on one that speaks HTTP/1.1.
const HEAD: Duration = Duration::from_secs(10);
/// How long running requests may take once serving is to end.
const DRAIN: Duration = Duration::from_secs(30);
/// The pause after the host refused to accept a connection, mostly for want of files: without one we would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers requests that do not come over the hop: the agent's own.
pub type Others = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Who may send requests over a port.
#[derive(Debug, Clone)]
pub struct Guests {
    /// Does the handshakes; its listener is for members only.
    pub acceptor: Arc<Acceptor>,
    /// Asked at each request, so that a member that was removed is refused on its open connections too.
    pub table: Arc<MemberTable>,
}

impl Guests {
    /// Those who have business with an agent: ingresses send requests, and control reads logs.
    pub const ROLES: [MachineRole; 2] = [MachineRole::Ingress, MachineRole::Server];

    fn admit(&self, key: &Digest) -> bool {
        self.table.has(key, |member| Self::ROLES.iter().any(|role| member.is(*role)))
    }
}

/// Who is at the other end of a connection over a port.
struct Guest {
    key: Digest,
    guests: Arc<Guests>,
}

struct Server {
    hop: Arc<dyn Hop>,
    node: NodeName,
    others: Others,
    stopping: CancellationToken,
    /// Ends connections and tunnels whose time to drain is over.
    abort: CancellationToken,
    connections: TaskTracker,
}

/// What connections come from.
trait Door: Send + Sync + 'static {
    /// As it is accepted.
    type Raw: Send + 'static;
    /// As it is spoken over.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Raw>> + Send;

    /// Lets somebody in, in a time that is bounded; or says why not.
    fn admit(&self, raw: Self::Raw)
    -> impl Future<Output = io::Result<(Self::Stream, Option<Guest>)>> + Send;
}

impl Door for UnixListener {
    type Raw = UnixStream;
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(UnixListener::accept(self).await?.0)
    }

    async fn admit(&self, stream: UnixStream) -> io::Result<(UnixStream, Option<Guest>)> {
        match socket::is_own(&stream) {
            Ok(true) => Ok((stream, None)),
            Ok(false) | Err(_) => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, "its peer is another user"))
            }
        }
    }
}

struct Port(TcpListener, Arc<Guests>);

impl Door for Port {
    type Raw = TcpStream;
    type Stream = TlsStream<TcpStream>;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(self.0.accept().await?.0)
    }

    async fn admit(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<Guest>)> {
        stream.set_nodelay(true)?;
        let (stream, peer) = self.1.acceptor.accept(stream).await?;
        // A listener for members only has none.
        let peer = peer.ok_or_else(|| io::Error::other("its peer showed no certificate"))?;
        Ok((stream, Some(Guest { key: peer.key, guests: Arc::clone(&self.1) })))
    }
}

/// Serves a node's socket until `tasks` is to stop, then lets running requests end for 30 s at most. Requests with the
/// hop's fields go to `hop`, all others to `others`; HTTP/1.1 is for `others` alone. Peers that are neither this
/// process's user nor root are refused. Returns when nothing runs any more.
pub async fn serve(listener: UnixListener, hop: Arc<dyn Hop>, node: NodeName, others: Others, tasks: Tasks) {
    serve_door(listener, "socket", hop, node, others, tasks).await;
}

/// As [`serve`], on a port, over TLS, for members of the cluster that have business with an agent. Who is slow or silent
/// in the handshake takes no connection's place and keeps nobody out.
pub async fn serve_port(
    listener: TcpListener,
    guests: Guests,
    hop: Arc<dyn Hop>,
    node: NodeName,
    others: Others,
    tasks: Tasks,
) {
    serve_door(Port(listener, Arc::new(guests)), "port", hop, node, others, tasks).await;
}

async fn serve_door<D: Door>(
    door: D,
    kind: &'static str,
    hop: Arc<dyn Hop>,
    node: NodeName,
    others: Others,
    tasks: Tasks,
) {
    let (abort, connections) = (CancellationToken::new(), TaskTracker::new());
    let server = Arc::new(Server { hop, node, others, stopping: tasks.stopping(), abort, connections });
    let (door, places) = (Arc::new(door), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.stopping.cancelled() => break,
            accepted = door.accept() => accepted,
        };
        let raw = match accepted {
            Ok(raw) => raw,
            Err(error) => {
                tracing::warn!(%error, "a connection to the node's {kind} was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (server, door, places) = (Arc::clone(&server), Arc::clone(&door), Arc::clone(&places));
        server.connections.clone().spawn(async move {
            let abort = server.abort.clone();
            let serving = async {
                let admitted = tokio::select! {
                    admitted = door.admit(raw) => admitted,
                    () = server.stopping.cancelled() => return,
                };
                let (stream, guest) = match admitted {
                    Ok(admitted) => admitted,
                    Err(error) => {
                        tracing::warn!("a connection to the node's {kind} was refused: {error}");
                        return;
                    }
                };
                drop(door);
                let Ok(_place) = places.try_acquire_owned() else {
                    tracing::warn!(
                        limit = CONNECTIONS,
                        "a connection to the node's {kind} was refused: too many are open"
                    );
                    return;
                };
                connection(Arc::clone(&server), stream, guest).await;
            };
            tokio::select! {
                () = serving => {}
                () = abort.cancelled() => {}
            }
        });
    }
    drop(door);
    server.connections.close();
    if tokio::time::timeout(DRAIN, server.connections.wait()).await.is_err() {
        tracing::warn!(
            open = server.connections.len(),
            "connections to the node's {kind} did not end in time"
        );
        server.abort.cancel();
        server.connections.wait().await;
    }
}

async fn connection(
    server: Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    guest: Option<Guest>,
) {
    let sniffed = tokio::select! {
        sniffed = tokio::time::timeout(HEAD, Sniffed::new(stream)) => sniffed,
        () = server.stopping.cancelled() => return,
    };
    let Ok(Ok((stream, spoken))) = sniffed else { return };
    let io = TokioIo::new(stream);
    let shared = Arc::new((Arc::clone(&server), guest));
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared.0, shared.1.as_ref(), request, spoken).await) }
    });
    let stopping = server.stopping.cancelled();
    // A connection's own end is the peer's business: it has seen what went wrong.
    let _ = match spoken {
        Spoken::Http1 => {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
            let mut connection = pin!(builder.serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        Spoken::Http2 => {
            let mut connection = pin!(builder().serve_connection(io, service));
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(REQUEST_WINDOW)
        .initial_connection_window_size(REQUESTS_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .enable_connect_protocol();
    builder
}

async fn answer(
    server: &Server,
    guest: Option<&Guest>,
    request: Request<Incoming>,
    spoken: Spoken,
) -> Response<Body> {
    if let Some(guest) = guest
        && !guest.guests.admit(&guest.key)
    {
        return encoding::misdirected("who asks is no member with business here any more");
    }
    let mut request = request.map(|incoming| {
        if incoming.is_end_stream() {
            body::empty()
        } else {
            incoming.map_err(BodyError::from).boxed_unsync()
        }
    });
    if spoken == Spoken::Http1 && encoding::is_hop(request.headers()) {
        return encoding::misdirected("the hop is spoken in HTTP/2");
    }
    let connect = request.method() == Method::CONNECT;
    let tunnel = request.extensions_mut().remove::<OnUpgrade>();
    let (node, target) = match encoding::take_request(&mut request) {
        Ok(For::Others) => return (server.others)(request).await,
        Ok(For::Hello(node)) if node == server.node.as_str() => return encoding::present(),
        Ok(For::Hello(node)) => return elsewhere(server, &node),
        Ok(For::Instance { node, target }) => (node, target),
        Err(reason) => return encoding::misdirected(&reason),
    };
    if node != server.node.as_str() {
        return elsewhere(server, &node);
    }
    let mut response = match server.hop.send(&server.node, &target, request).await {
        Ok(response) => response,
        Err(error) => return encoding::refusal(&error),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let switched = response.extensions_mut().remove::<OnUpgrade>();
        let Some((near, far)) = tunnel.zip(switched) else {
            let why = "protocols were switched without being asked to".to_owned();
            return encoding::refusal(&HopError::Failed(why));
        };
        let (abort, held) = (server.abort.clone(), response.extensions_mut().remove::<upgrade::Held>());
        server.connections.spawn(async move {
            let _held = held;
            tokio::select! {
                () = upgrade::tunnel(near, far) => {}
                () = abort.cancelled() => {}
            }
        });
    }
    encoding::answer(&mut response, connect);
    response
}

fn elsewhere(server: &Server, node: &str) -> Response<Body> {
    encoding::misdirected(&format!("this is node {}, not {node}", server.node))
}
