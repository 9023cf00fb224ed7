//! Serving the router on a port or on a socket file of this machine, with bounds, until the process is to end.

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{net::IpAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tutti_base::{Tasks, socket};
use tutti_pki::{Acceptor, PeerIdentity};

/// Most connections at once; further ones wait in the kernel's queue. Twice the open streams, since each of those may
/// hold one.
const CONNECTIONS: usize = 2048;
/// Longest time for a request's head; and until the first request of a connection is there, so that those who connect
/// and say nothing, or only the greeting of HTTP/2, do not keep others out.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most streams of one HTTP/2 connection at once.
const HTTP2_STREAMS: u32 = 128;
/// Largest head of a request, in bytes.
const HEADER_BYTES: u32 = 32 * 1024;
/// Pause after a connection could not be accepted (out of file descriptors, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at once.
    pub(super) connections: usize,
    /// Time for a request's head.
    pub(super) header_timeout: Duration,
}

/// Serves `router` on `listener` until `tasks` are to stop. Each connection is one of `tasks`: it finishes the requests
/// it is at, and [`Tasks::drain`] waits for it.
pub async fn serve(listener: TcpListener, router: axum::Router, tasks: Tasks) {
    let bounds = Bounds { connections: CONNECTIONS, header_timeout: HEADER_TIMEOUT };
    serve_within(bounds, listener, router, tasks).await;
}

/// As [`serve`], on a socket file of this machine. Its mode keeps everyone out but its owner; whoever comes in all the
/// same and is neither this process's user nor root is refused. Who calls here needs no token, may do everything, and
/// may act for every node and ingress. Its connections are counted apart, so that callers from outside cannot take
/// those of the machine's own roles.
pub async fn serve_socket(listener: UnixListener, router: axum::Router, tasks: Tasks) {
    let bounds = Bounds { connections: CONNECTIONS, header_timeout: HEADER_TIMEOUT };
    let router = router.layer(axum::Extension(OverSocket));
    serve_within(bounds, listener, router, tasks).await;
}

/// As [`serve`], over TLS. Who shows a member's certificate is known by its key from then on; what that may is asked of
/// the table of members at each request. A handshake takes no connection's place, so that those who are slow or silent
/// in it keep nobody out; beyond the most connections at once a further one is closed.
pub async fn serve_tls(listener: TcpListener, router: axum::Router, acceptor: Arc<Acceptor>, tasks: Tasks) {
    let bounds = Bounds { connections: CONNECTIONS, header_timeout: HEADER_TIMEOUT };
    serve_tls_within(bounds, listener, router, acceptor, tasks).await;
}

/// As [`serve_tls`], within these bounds.
pub(super) async fn serve_tls_within(
    bounds: Bounds,
    listener: TcpListener,
    router: axum::Router,
    acceptor: Arc<Acceptor>,
    tasks: Tasks,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let stopping = tasks.stopping();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = Listener::accept(&listener) => accepted,
        };
        let stream = match accepted {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let from = <TcpListener as Listener>::from(&stream);
        let (router, stopping) = (marked(router.clone(), from), stopping.clone());
        let (acceptor, places) = (Arc::clone(&acceptor), Arc::clone(&places));
        tasks.spawn("api connection", async move {
            let shaken = tokio::select! {
                shaken = acceptor.accept(stream) => shaken,
                () = stopping.cancelled() => return,
            };
            let (stream, peer) = match shaken {
                Ok(shaken) => shaken,
                Err(error) => {
                    tracing::debug!(%error, "a handshake with the API failed");
                    return;
                }
            };
            let Ok(_place) = places.try_acquire_owned() else {
                tracing::warn!(
                    limit = bounds.connections,
                    "a connection to the API was closed: too many are open"
                );
                return;
            };
            let router = match peer {
                Some(peer) => router.layer(axum::Extension(Peer(peer))),
                None => router,
            };
            connection(stream, router, bounds.header_timeout, stopping).await;
        });
    }
}

/// Marks the requests of a connection whose peer has proved to have a key. Nothing that is sent can set it.
#[derive(Debug, Clone)]
pub(super) struct Peer(pub(super) PeerIdentity);

/// Marks the requests of a connection with the address that it came from. Nothing that is sent can set it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerAddress(pub(super) IpAddr);

/// Marks the requests that came over the socket. Nothing that is sent can set it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OverSocket;

/// What connections are accepted from.
pub(super) trait Listener: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection; `None` for one that was refused.
    fn accept(&self) -> impl Future<Output = std::io::Result<Option<Self::Stream>>> + Send;

    /// Where a connection came from, if it came over a network.
    fn from(stream: &Self::Stream) -> Option<IpAddr>;
}

/// A router whose requests say where they came from.
fn marked(router: axum::Router, from: Option<IpAddr>) -> axum::Router {
    match from {
        Some(from) => router.layer(axum::Extension(PeerAddress(from))),
        None => router,
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> std::io::Result<Option<TcpStream>> {
        let (stream, _) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok(Some(stream))
    }

    fn from(stream: &TcpStream) -> Option<IpAddr> {
        stream.peer_addr().ok().map(|address| address.ip().to_canonical())
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> std::io::Result<Option<UnixStream>> {
        let (stream, _) = UnixListener::accept(self).await?;
        if socket::is_own(&stream)? {
            return Ok(Some(stream));
        }
        tracing::warn!("another user's connection to the control socket was refused");
        Ok(None)
    }

    fn from(_: &UnixStream) -> Option<IpAddr> {
        None
    }
}

/// As [`serve`], within these bounds.
pub(super) async fn serve_within<L: Listener>(
    bounds: Bounds,
    listener: L,
    router: axum::Router,
    tasks: Tasks,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let stopping = tasks.stopping();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((Some(stream), place)) => {
                let (router, stopping) = (marked(router.clone(), L::from(&stream)), stopping.clone());
                tasks.spawn("api connection", async move {
                    connection(stream, router, bounds.header_timeout, stopping).await;
                    drop(place);
                });
            }
            Ok((None, _)) => {}
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept<L: Listener>(
    listener: &L,
    places: &Arc<Semaphore>,
) -> std::io::Result<(Option<L::Stream>, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((listener.accept().await?, place))
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: axum::Router,
    header_timeout: Duration,
    stopping: CancellationToken,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(Duration::from_secs(30));
    let asked = CancellationToken::new();
    let first = asked.clone();
    let router = router.map_request(move |request: http::Request<hyper::body::Incoming>| {
        asked.cancel();
        request
    });
    let silent = async {
        if tokio::time::timeout(header_timeout, first.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silent => return,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the API ended badly");
    }
}
