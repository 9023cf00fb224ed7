//! Serving HTTP/1.1 and HTTP/2 in clear text on one port: which of them a client speaks is seen from its first bytes.
//! Everything a stranger can make us hold is bounded by [`Limits`].

pub(crate) mod sniff;
#[cfg(test)]
mod tests;

use crate::{Caller, Failure, headers, headers::ClientAddress, upgrade};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sniff::{Sniffed, Spoken};
use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tutti_base::{Body, Tasks, body, body::BodyError};
use tutti_model::Problem;

/// Requests that a client may run at once on one HTTP/2 connection; the number that RFC 9113 recommends at least.
const HTTP2_STREAMS: u32 = 100;
/// Streams that a client may open and reset before we have seen them (CVE-2023-44487, "rapid reset").
const HTTP2_PENDING_RESETS: usize = 20;
/// Streams that we may reset for a client's faults before its connection is closed.
const HTTP2_LOCAL_RESETS: usize = 256;
/// Bytes of one request that may be ahead of their reader.
const HTTP2_STREAM_WINDOW: u32 = 128 * 1024;
/// Bytes of all requests of one connection that may be: each stream's, so that none holds up the others.
const HTTP2_CONNECTION_WINDOW: u32 = HTTP2_STREAMS * HTTP2_STREAM_WINDOW;
/// Bytes of one answer that may wait to be written.
const HTTP2_SEND_BUFFER: usize = 128 * 1024;
/// A silent HTTP/2 connection is asked for a sign of life this often, and given as long to answer.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// The pause after the host refused to accept a connection, mostly for want of files: without one we would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What clients may make us hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; further ones are closed at once.
    pub connections: usize,
    /// Longest head of a request, in bytes.
    pub header_bytes: u32,
    /// Most fields in a request's head.
    pub headers: usize,
    /// Longest wait for a whole head, also of a connection at rest for its next one.
    pub head_timeout: Duration,
    /// How long running requests may take once serving is to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // With as many upstream connections still below the 20,000 files of the smallest hosts.
            connections: 8192,
            // As common servers have it: room for large cookies and tokens, little for an attacker.
            header_bytes: 32 * 1024,
            headers: 100,
            head_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

/// The connection that a request came on.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// The client.
    pub peer: SocketAddr,
    /// The client as fields of requests name it.
    pub client: Arc<ClientAddress>,
}

struct Serving<S> {
    service: S,
    limits: Limits,
    stopping: CancellationToken,
    /// Ends connections and tunnels whose time to drain is over.
    abort: CancellationToken,
    connections: TaskTracker,
}

/// Serves the port until `tasks` is to stop, then lets running requests end, for [`Limits::drain`] at most. Returns
/// when nothing runs any more.
pub async fn serve<S, F>(listener: TcpListener, service: S, limits: Limits, tasks: &Tasks)
where
    S: Fn(Request<Body>, ConnInfo) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    serve_tracked(listener, service, limits, TaskTracker::new(), tasks).await;
}

/// The same as [`serve`], with its connections and tunnels in `connections`, for who wants to know how many are open.
pub async fn serve_tracked<S, F>(
    listener: TcpListener,
    service: S,
    limits: Limits,
    connections: TaskTracker,
    tasks: &Tasks,
) where
    S: Fn(Request<Body>, ConnInfo) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let abort = CancellationToken::new();
    let serving = Arc::new(Serving { service, limits, stopping: tasks.stopping(), abort, connections });
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            biased;
            () = serving.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(%peer, limit = limits.connections, "a connection was refused: too many are open");
            continue;
        };
        let serving = Arc::clone(&serving);
        serving.connections.clone().spawn(async move {
            let abort = serving.abort.clone();
            tokio::select! {
                () = connection(serving, stream, peer) => {}
                () = abort.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    serving.connections.close();
    if tokio::time::timeout(limits.drain, serving.connections.wait()).await.is_err() {
        tracing::warn!(open = serving.connections.len(), "connections did not end in time; closing them");
        serving.abort.cancel();
        serving.connections.wait().await;
    }
}

async fn connection<S, F>(serving: Arc<Serving<S>>, stream: TcpStream, peer: SocketAddr)
where
    S: Fn(Request<Body>, ConnInfo) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let sniffed = tokio::select! {
        sniffed = tokio::time::timeout(serving.limits.head_timeout, Sniffed::new(stream)) => sniffed,
        () = serving.stopping.cancelled() => return,
    };
    let Ok(Ok((stream, spoken))) = sniffed else { return };
    let info = ConnInfo { peer, client: Arc::new(ClientAddress::new(peer.ip())) };
    let io = TokioIo::new(stream);
    let shared = Arc::clone(&serving);
    let service = service_fn(move |request| {
        let (serving, info) = (Arc::clone(&shared), info.clone());
        async move { Ok::<_, Infallible>(answer(serving, request, info).await) }
    });
    let stopping = serving.stopping.cancelled();
    // A connection's own end is the client's business: it has seen what went wrong.
    let _ = match spoken {
        Spoken::Http1 => {
            let mut connection =
                pin!(http1_builder(&serving.limits).serve_connection(io, service).with_upgrades());
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        Spoken::Http2 => {
            let mut connection = pin!(http2_builder(&serving.limits).serve_connection(io, service));
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

/// The smallest buffer that hyper takes.
const HTTP1_LEAST_BUFFER: usize = 8192;

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(limits.headers)
        .max_header_size(bytes)
        .max_buf_size(bytes.max(HTTP1_LEAST_BUFFER))
        .preserve_header_case(true);
    builder
}

fn http2_builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(HTTP2_LOCAL_RESETS)
        .max_header_list_size(limits.header_bytes)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .enable_connect_protocol();
    builder
}

/// Answers one request, and switches protocols if the answer says so.
async fn answer<S, F>(serving: Arc<Serving<S>>, request: Request<Incoming>, info: ConnInfo) -> Response<Body>
where
    S: Fn(Request<Body>, ConnInfo) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut request = request.map(|incoming| {
        if incoming.is_end_stream() {
            body::empty()
        } else {
            incoming.map_err(BodyError::from).boxed_unsync()
        }
    });
    let client = request.extensions_mut().remove::<OnUpgrade>();
    let over_http2 = request.method() == Method::CONNECT;
    if over_http2 && !websocket_over_http2(&mut request) {
        let problem = Problem::invalid("CONNECT is not served here")
            .hint("send the request itself instead of asking for a tunnel");
        return Failure::from(problem).respond(Caller::Http, None);
    }
    let mut response = (serving.service)(request, info).await;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let Some((client, upstream)) = client.zip(response.extensions_mut().remove::<OnUpgrade>()) else {
        return Failure::bad_gateway("protocols were switched without being asked to")
            .respond(Caller::Http, None);
    };
    let abort = serving.abort.clone();
    let held = response.extensions_mut().remove::<upgrade::Held>();
    serving.connections.spawn(async move {
        let _held = held;
        tokio::select! {
            () = upgrade::tunnel(client, upstream) => {}
            () = abort.cancelled() => {}
        }
    });
    if over_http2 {
        *response.status_mut() = StatusCode::OK;
        for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
            response.headers_mut().remove(name);
        }
    }
    response
}

/// Turns a WebSocket's extended CONNECT (RFC 8441) into the request that HTTP/1.1 has for it; `false` if it is another.
fn websocket_over_http2(request: &mut Request<Body>) -> bool {
    let websocket = request.extensions_mut().remove::<hyper::ext::Protocol>();
    if request.version() != Version::HTTP_2
        || websocket.is_none_or(|protocol| protocol.as_str() != "websocket")
    {
        return false;
    }
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    *request.body_mut() = body::empty();
    let fields: &mut HeaderMap = request.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    // The key guards against caches that don't know WebSockets; over HTTP/2 there is none, and any will do.
    fields.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dHV0dGktb3Zlci1odHRwMg=="));
    headers::upgrade_of(fields).is_some()
}
