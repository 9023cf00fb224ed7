//! HTTP/2 connections in clear text: many requests at once on each, and a task for each.

use super::{ForwardError, Permit, Timeouts, Upstream, silence::Silence};
use crate::{
    attempt::{Attempt, Refusal, refusal},
    upload,
};
use bytes::Bytes;
use http::{Request, Response, Uri, Version, header, uri};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tutti_base::{Body, body::BodyError};
use tutti_model::Millis;

/// Bytes that one answer may be ahead of its reader.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Bytes that all answers on one connection may be ahead of their readers: enough for each of 128, so that slow readers
/// cannot hold up the others.
const CONNECTION_WINDOW: u32 = 128 * STREAM_WINDOW;
/// Longest list of fields of one answer, in bytes.
const ANSWER_HEADER_BYTES: u32 = 64 * 1024;
/// Bytes of one request that may wait to be written.
const SEND_BUFFER: usize = 128 * 1024;
/// Requests on one connection beyond which none is queued, whatever the peer allows.
const STREAMS: usize = 1000;
/// A connection with requests on it is asked for a sign of life this often, and given as long to answer.
const PING: Duration = Duration::from_secs(20);

/// One open connection.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Body>,
    running: AtomicUsize,
    /// Requests that the peer allows at once, as its settings last said.
    allowed: Arc<AtomicUsize>,
    /// Set when it gave a request back: it ends as soon as the running ones have.
    ending: AtomicBool,
    used: Mutex<Instant>,
}

impl Connection {
    fn takes_requests(&self) -> bool {
        !self.sender.is_closed() && !self.ending.load(Ordering::Relaxed)
    }

    fn room(&self, wanted: usize) -> usize {
        wanted.min(self.allowed.load(Ordering::Relaxed)).saturating_sub(self.running.load(Ordering::Relaxed))
    }
}

/// One request's place on a connection; given back when dropped.
#[derive(Debug)]
struct Stream(Arc<Connection>);

impl Stream {
    fn on(connection: &Arc<Connection>) -> Stream {
        connection.running.fetch_add(1, Ordering::Relaxed);
        Stream(Arc::clone(connection))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

/// The connections of one address.
#[derive(Debug, Default)]
pub(super) struct Shared {
    open: Mutex<Vec<Arc<Connection>>>,
    /// Held while one is opened, so that a burst opens one and not one each.
    dial: tokio::sync::Mutex<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on the emptiest connection that has one below `wanted` requests.
    fn take(&self, wanted: usize) -> Option<Stream> {
        let mut open = self.lock();
        open.retain(|connection| connection.takes_requests());
        let best = open.iter().max_by_key(|connection| connection.room(wanted))?;
        (best.room(wanted) > 0).then(|| Stream::on(best))
    }

    pub(super) fn sweep(&self, age: Duration) {
        let rested = |connection: &Connection| {
            connection.running.load(Ordering::Relaxed) == 0
                && connection.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= age
        };
        self.lock().retain(|connection| connection.takes_requests() && !rested(connection));
    }
}

enum NoStream {
    Full,
    Connect(io::Error),
}

async fn stream(upstream: &Arc<Upstream>, limit: Duration) -> Result<Stream, NoStream> {
    let shared = &upstream.http2;
    let wanted = upstream.options.http2_streams;
    if let Some(stream) = shared.take(wanted) {
        return Ok(stream);
    }
    let opened = tokio::time::timeout(limit, async {
        let _dialing = shared.dial.lock().await;
        if let Some(stream) = shared.take(wanted) {
            return Ok(stream);
        }
        if shared.lock().len() >= upstream.options.http2_per_address {
            return shared.take(STREAMS).ok_or(NoStream::Full);
        }
        open(upstream, limit).await
    });
    opened.await.unwrap_or_else(|_| {
        Err(NoStream::Connect(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not connected within {} ms", limit.as_millis()),
        )))
    })
}

async fn open(upstream: &Arc<Upstream>, limit: Duration) -> Result<Stream, NoStream> {
    let permit = Permit::of(upstream).ok_or(NoStream::Full)?;
    let stream = super::connect(upstream.address, limit).await.map_err(NoStream::Connect)?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(ANSWER_HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| NoStream::Connect(io::Error::other(error)))?;
    let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
    let told = Arc::clone(&allowed);
    tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        // What ended it shows in the requests that were on it.
        let _ = std::future::poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            if polled.is_pending() {
                told.store(connection.current_max_send_streams(), Ordering::Relaxed);
            }
            polled
        })
        .await;
        drop(permit);
    });
    let connection = Connection {
        sender,
        running: AtomicUsize::new(0),
        allowed,
        ending: AtomicBool::new(false),
        used: Mutex::new(Instant::now()),
    };
    let connection = Arc::new(connection);
    let stream = Stream::on(&connection);
    upstream.http2.lock().push(connection);
    Ok(stream)
}

/// Gives the request the form in which it goes over an HTTP/2 connection: `:authority` instead of `Host`.
fn prepare(request: &mut Request<Body>, upstream: &Upstream) {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(header::HOST);
    let authority = host.and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = authority.or(parts.authority).or_else(|| upstream.address.to_string().parse().ok());
    parts.path_and_query.get_or_insert_with(|| uri::PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

pub(super) async fn send(
    upstream: &Arc<Upstream>,
    mut request: Request<Body>,
    timeouts: &Timeouts,
) -> Result<Response<Body>, ForwardError> {
    let address = upstream.address;
    prepare(&mut request, upstream);
    // A connection may be closing just when it is taken, and a peer may refuse a request before it looks at it. Either
    // is tried once more; what is not the first request of its connection finds another.
    let mut last = None;
    for _ in 0..2 {
        let stream = match stream(upstream, timeouts.connect).await {
            Ok(stream) => stream,
            Err(NoStream::Full) => return Err(ForwardError::Full { address, request: Box::new(request) }),
            Err(NoStream::Connect(source)) => {
                return Err(ForwardError::Connect { address, source, request: Box::new(request) });
            }
        };
        let mut sender = stream.0.sender.clone();
        let (attempt, sent) = Attempt::new(request);
        let (parts, body) = sent.into_parts();
        let (body, progress) = upload::Progress::watch(&parts.headers, body);
        let sent = Request::from_parts(parts, body);
        let answered =
            upload::within(timeouts.first_byte, progress.as_ref(), sender.try_send_request(sent)).await;
        let mut error = match answered {
            Some(Ok(response)) => {
                attempt.admit();
                return Ok(answer(response, stream, timeouts.idle));
            }
            Some(Err(error)) => error,
            None => {
                let after = Millis(u64::try_from(timeouts.first_byte.as_millis()).unwrap_or(u64::MAX));
                return Err(ForwardError::Timeout { address, after });
            }
        };
        // hyper gives back what it had not begun to send.
        let unsent = error.take_message().is_some();
        let source = error.into_error();
        let refusal = if unsent { Some(Refusal::Ending) } else { refusal(&source) };
        let (Some(refusal), Some(whole)) = (refusal, attempt.take_back()) else {
            return Err(ForwardError::Upstream { address, source });
        };
        if refusal == Refusal::Ending {
            stream.0.ending.store(true, Ordering::Relaxed);
        }
        request = whole;
        last = Some((refusal, source));
    }
    let request = Box::new(request);
    match last {
        Some((Refusal::Stream, _)) => Err(ForwardError::Full { address, request }),
        Some((Refusal::Ending, source)) => {
            Err(ForwardError::Connect { address, source: io::Error::other(source), request })
        }
        None => Err(ForwardError::Connect { address, source: io::ErrorKind::NotConnected.into(), request }),
    }
}

fn answer(response: Response<Incoming>, stream: Stream, idle: Option<Duration>) -> Response<Body> {
    let (parts, incoming) = response.into_parts();
    if incoming.is_end_stream() {
        return Response::from_parts(parts, tutti_base::body::empty());
    }
    Response::from_parts(
        parts,
        Answer { incoming, _stream: stream, silence: Silence::new(idle) }.boxed_unsync(),
    )
}

/// The body of an answer; dropping it early resets its stream.
struct Answer {
    incoming: Incoming,
    _stream: Stream,
    silence: Silence,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.silence.broken();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Poll::Pending => this.silence.poll(cx).map(|error| Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
