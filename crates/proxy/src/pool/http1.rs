//! HTTP/1.1 connections: one request at a time, driven by that request.

use super::{ForwardError, Permit, Timeouts, Upstream, silence::Silence};
use crate::upload;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tutti_base::{Body, body, body::BodyError};
use tutti_model::Millis;

/// A connection that was used within this time is taken to be open still. After a longer rest its server may just be
/// closing it, so only a request that may be sent twice is given to it.
const FRESH: Duration = Duration::from_secs(1);
/// Most fields of an answer's head. Browsers and servers stop at about 100; gRPC metadata and cookies stay below.
const ANSWER_HEADERS: usize = 128;
/// Read buffer of a connection, which is also the longest head of an answer, in bytes.
const ANSWER_BUFFER: usize = 64 * 1024;

/// One open connection.
struct Connection {
    sender: SendRequest<Body>,
    /// Reads and writes whenever it is polled; `None` once it has ended.
    driver: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    used: Instant,
    permit: Permit,
}

impl Connection {
    /// Reads and writes what can be; ready when it has ended, however it did.
    fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(driver) = &mut self.driver else { return Poll::Ready(()) };
        match driver.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                self.driver = None;
                Poll::Ready(())
            }
        }
    }

    /// Whether it can take a request now, as far as this side knows.
    fn poll_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_drive(cx).is_pending() && self.sender.is_ready()
    }
}

/// The connections of one address that are at rest, the longest resting one first.
#[derive(Default)]
pub(super) struct Idle(Mutex<VecDeque<Box<Connection>>>);

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Idle")
    }
}

impl Idle {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Box<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that rested least: it is the least likely to be closing, and the others can grow old and go.
    fn take(&self, most: Duration) -> Option<Box<Connection>> {
        let mut idle = self.lock();
        if idle.back()?.used.elapsed() >= most {
            return None;
        }
        idle.pop_back()
    }

    fn put(&self, mut connection: Box<Connection>, most: usize) {
        connection.used = Instant::now();
        let mut idle = self.lock();
        if idle.len() < most {
            idle.push_back(connection);
        }
    }

    /// Returns once this side can see that the connection that rests longest has ended.
    #[cfg(test)]
    pub(super) async fn seen_closed(&self) {
        std::future::poll_fn(|cx| {
            self.lock().front_mut().map_or(Poll::Ready(()), |connection| connection.poll_drive(cx))
        })
        .await;
    }

    pub(super) fn sweep(&self, age: Duration) {
        let mut old = Vec::new();
        let mut idle = self.lock();
        while idle.front().is_some_and(|connection| connection.used.elapsed() >= age) {
            old.extend(idle.pop_front());
        }
        drop(idle);
        // Closed here, after the lock.
        drop(old);
    }
}

/// Gives a connection back after its request, if it can take another.
fn rest(mut connection: Box<Connection>, cx: &mut Context<'_>) {
    if connection.poll_usable(cx) {
        let upstream = Arc::clone(&connection.permit.0);
        upstream.http1.put(connection, upstream.options.idle_per_address);
    }
}

async fn connect(upstream: &Arc<Upstream>, limit: Duration) -> Result<Box<Connection>, Option<io::Error>> {
    let permit = Permit::of(upstream).ok_or(None)?;
    let stream = super::connect(upstream.address, limit).await.map_err(Some)?;
    let mut builder = http1::Builder::new();
    builder.preserve_header_case(true).max_headers(ANSWER_HEADERS).max_buf_size(ANSWER_BUFFER);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| Some(io::Error::other(error)))?;
    let driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>> =
        Box::pin(connection.with_upgrades());
    Ok(Box::new(Connection { sender, driver: Some(driver), used: Instant::now(), permit }))
}

/// Whether a request may be sent a second time although the first may have arrived (RFC 9110, 9.2.2).
fn repeatable(request: &Request<Body>) -> bool {
    request.method().is_idempotent() && request.body().is_end_stream()
}

fn head_of(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Gives the request the form in which it goes over an HTTP/1.1 connection.
fn prepare(request: &mut Request<Body>) {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().scheme().is_some() || request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    // hyper takes a GET without a length to have no body; say it where there is one.
    let unsized_body =
        !request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_LENGTH);
    if unsized_body {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

pub(super) async fn send(
    upstream: &Arc<Upstream>,
    mut request: Request<Body>,
    timeouts: &Timeouts,
) -> Result<Response<Body>, ForwardError> {
    let address = upstream.address;
    prepare(&mut request);
    let repeatable = repeatable(&request);
    let most_rest = if repeatable { upstream.options.idle_age } else { FRESH };
    while let Some(mut connection) = upstream.http1.take(most_rest) {
        if !std::future::poll_fn(|cx| Poll::Ready(connection.poll_usable(cx))).await {
            continue;
        }
        let spare = (connection.used.elapsed() >= FRESH).then(|| head_of(&request));
        match exchange(connection, request, timeouts).await {
            Ok(response) => return Ok(response),
            Err(Broken::Unsent(unsent, _)) => request = unsent,
            Err(Broken::Sent(error)) => match spare {
                Some(spare) if !error.is_parse() => request = spare,
                _ => return Err(ForwardError::Upstream { address, source: error }),
            },
            Err(Broken::Silent) => return Err(silent(upstream, timeouts)),
        }
    }
    let connection = match connect(upstream, timeouts.connect).await {
        Ok(connection) => connection,
        Err(None) => return Err(ForwardError::Full { address, request: Box::new(request) }),
        Err(Some(source)) => {
            return Err(ForwardError::Connect { address, source, request: Box::new(request) });
        }
    };
    match exchange(connection, request, timeouts).await {
        Ok(response) => Ok(response),
        Err(Broken::Unsent(request, error)) => Err(ForwardError::Connect {
            address,
            source: io::Error::other(error),
            request: Box::new(request),
        }),
        Err(Broken::Sent(source)) => Err(ForwardError::Upstream { address, source }),
        Err(Broken::Silent) => Err(silent(upstream, timeouts)),
    }
}

fn silent(upstream: &Upstream, timeouts: &Timeouts) -> ForwardError {
    let after = Millis(u64::try_from(timeouts.first_byte.as_millis()).unwrap_or(u64::MAX));
    ForwardError::Timeout { address: upstream.address, after }
}

#[expect(clippy::large_enum_variant, reason = "lives only between two statements of one function")]
enum Broken {
    /// Before the first byte was written.
    Unsent(Request<Body>, hyper::Error),
    /// After that.
    Sent(hyper::Error),
    /// No answer in time.
    Silent,
}

/// Sends one request over one connection, and hands the connection on to the answer's body.
async fn exchange(
    mut connection: Box<Connection>,
    request: Request<Body>,
    timeouts: &Timeouts,
) -> Result<Response<Body>, Broken> {
    let (parts, body) = request.into_parts();
    let (body, progress) = upload::Progress::watch(&parts.headers, body);
    let mut answer = std::pin::pin!(connection.sender.try_send_request(Request::from_parts(parts, body)));
    let answer = std::future::poll_fn(|cx| {
        // Whatever ends the connection shows in the answer, which is therefore polled after it.
        let _ = connection.poll_drive(cx);
        answer.as_mut().poll(cx)
    });
    let response = match upload::within(timeouts.first_byte, progress.as_ref(), answer).await {
        None => return Err(Broken::Silent),
        Some(Ok(response)) => response,
        Some(Err(mut error)) => {
            return Err(match error.take_message() {
                Some(request) => Broken::Unsent(request, error.into_error()),
                None => Broken::Sent(error.into_error()),
            });
        }
    };
    let (mut parts, incoming) = response.into_parts();
    // An older server's version is its own affair: whoever is answered speaks with us (RFC 9110, 6.2).
    parts.version = Version::HTTP_11;
    if parts.status == StatusCode::SWITCHING_PROTOCOLS || !upload::is_finished(progress.as_ref()) {
        // It has more to do than the answer's body: switch protocols, or send the rest of the request's. Without the
        // sender it ends after that; with it, it would rest for ever.
        let Connection { sender, driver, permit, used: _ } = *connection;
        drop(sender);
        tokio::spawn(async move {
            if let Some(driver) = driver {
                let _ = driver.await;
            }
            drop(permit);
        });
        return Ok(Response::from_parts(parts, incoming.map_err(BodyError::from).boxed_unsync()));
    }
    if incoming.is_end_stream() {
        let mut connection = Some(connection);
        std::future::poll_fn(|cx| {
            if let Some(connection) = connection.take() {
                rest(connection, cx);
            }
            Poll::Ready(())
        })
        .await;
        return Ok(Response::from_parts(parts, body::empty()));
    }
    let body = Answer { incoming, connection: Some(connection), silence: Silence::new(timeouts.idle) };
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

/// The body of an answer; reading it drives the connection, and its end gives the connection back.
struct Answer {
    incoming: Incoming,
    connection: Option<Box<Connection>>,
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
        let mut polled = Pin::new(&mut this.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(connection) = &mut this.connection
        {
            // Asking for a frame made the connection want to read; let it, and see.
            let _ = connection.poll_drive(cx);
            polled = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        match polled {
            Poll::Pending => this.silence.poll(cx).map(|error| {
                this.connection = None;
                Some(Err(error))
            }),
            Poll::Ready(Some(Err(error))) => {
                this.connection = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(frame) => {
                this.silence.broken();
                if (frame.is_none() || this.incoming.is_end_stream())
                    && let Some(connection) = this.connection.take()
                {
                    rest(connection, cx);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
