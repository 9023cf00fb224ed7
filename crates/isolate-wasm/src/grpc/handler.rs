//! Requests of gRPC clients: from the head of a request to the head of its answer.

use super::{
    call::{Call, Sent},
    codec,
    frame::{Encoding, Messages},
    invoke::{self, Finished},
    kept::Kept,
    metadata,
    replies::{self, Replies},
    service::{Method, Service},
    status::{Code, Status},
};
use crate::{
    guest::{Meter, Work},
    instance::Instance,
    state::Held,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use std::{pin::Pin, sync::Arc};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tutti_base::{Body, body};
use tutti_isolate::{HandleError, Handler};
use wasmtime::component::Val;

/// Replies of a stream that wait for their client, beside the one that its guest may be about to send.
const WAITING_REPLIES: usize = 1;

/// Takes the calls of an instance.
pub(crate) struct Calls {
    pub(crate) instance: Arc<Instance>,
    pub(crate) service: Arc<Service>,
    /// The one instance that serves them all, if one does.
    pub(crate) kept: Option<Kept>,
}

type Running = Pin<Box<dyn Future<Output = Result<Finished, HandleError>> + Send>>;

/// When a call ends, whether or not its guest has.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    /// Whether the client has set it; otherwise the manifest has.
    by_client: bool,
}

impl Deadline {
    fn status(self, instance: &Instance) -> Status {
        let text = if self.by_client {
            "the call's deadline is over".to_owned()
        } else {
            format!("the service exceeded its time limit of {:?}", instance.timeout)
        };
        Status::new(Code::DeadlineExceeded, text)
    }
}

/// The head of a call.
struct Head {
    method: usize,
    headers: HeaderMap,
    encoding: Encoding,
    /// When the client gives up.
    until: Option<Instant>,
    serving: TaskTrackerToken,
}

#[async_trait]
impl Handler for Calls {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, HandleError> {
        let (parts, body) = request.into_parts();
        if !is_grpc(&parts.headers) {
            return Ok(not_grpc());
        }
        Ok(match self.answer(parts, body).await {
            Ok(response) => response,
            Err(status) => {
                let mut trailers = HeaderMap::new();
                if status.code == Code::Unimplemented {
                    trailers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,gzip"));
                }
                replies::alone(&status, trailers)
            }
        })
    }
}

/// `application/grpc`, alone or with the name of its message format, which must be protobuf.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/grpc") || kind.eq_ignore_ascii_case("application/grpc+proto")
}

/// What the protocol wants for other content.
fn not_grpc() -> Response<Body> {
    let mut response =
        Response::new(body::full("this service speaks gRPC: the content type must be application/grpc\n"));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

impl Calls {
    async fn answer(&self, parts: Parts, body: Body) -> Result<Response<Body>, Status> {
        let arrived = Instant::now();
        let serving = self
            .instance
            .admit()
            .map_err(|_| Status::new(Code::Unavailable, "the instance is stopping; try again"))?;
        if parts.method != http::Method::POST {
            return Err(Status::new(Code::Unimplemented, "a call is made with POST"));
        }
        let path = parts.uri.path();
        let (index, method) = self.service.method(path).ok_or_else(|| {
            Status::new(Code::Unimplemented, format!("{} has no method {path}", self.service.name))
        })?;
        let timeout = metadata::timeout(&parts.headers)?;
        metadata::check_binary(&parts.headers)?;
        let compressed = Encoding::of_request(&parts.headers)?;
        let head = Head {
            method: index,
            encoding: compressed.of_reply(&parts.headers),
            until: timeout.and_then(|timeout| arrived.checked_add(timeout)),
            headers: parts.headers,
            serving,
        };
        // Only a client that streams may be silent for as long as it likes, if nobody waits for it.
        let patient = method.reader.is_some() && self.kept.is_none();
        let idle = (!patient).then_some(self.instance.timeout);
        let messages = Messages::new(body, compressed, self.instance.message_bytes, idle);
        if method.streams() {
            self.stream(head, method, messages).await
        } else {
            self.unary(head, messages).await
        }
    }

    async fn unary(&self, head: Head, mut messages: Messages) -> Result<Response<Body>, Status> {
        let request = before(head.until, messages.only()).await?;
        let mut call = Call::new(head.headers, self.instance.message_bytes, head.encoding);
        let finished = self.call(head.method, &mut call, head.until, request).await?;
        drop(head.serving);
        Ok(replies::whole(finished, head.encoding))
    }

    /// A call of one message, which is protobuf, and one reply.
    ///
    /// # Errors
    /// How it failed where its guest did not end; a guest's own status is in what is given.
    pub(crate) async fn call(
        &self,
        index: usize,
        call: &mut Call,
        until: Option<Instant>,
        request: Bytes,
    ) -> Result<Finished, Status> {
        let instance = &self.instance;
        let most = codec::value_bytes(instance.message_bytes);
        let method = self.method(index)?;
        let (value, size) = self
            .service
            .codec
            .decode(method.input, &request, most)
            .map_err(|malformed| Status::of_malformed(&malformed))?;
        drop(request);
        let held = instance.hold(size).ok_or_else(no_memory)?;
        let limit = Instant::now() + instance.timeout;
        let deadline = match until {
            Some(until) if until < limit => Deadline { at: until, by_client: true },
            _ => Deadline { at: limit, by_client: false },
        };
        call.deadline = Some(deadline.at);
        let call = std::mem::replace(call, Call::new(HeaderMap::new(), 0, Encoding::Identity));
        // One that waits for its turn has its own time from then on.
        let at = if self.kept.is_some() { until } else { Some(deadline.at) };
        let running = self.run(index, call, Some(value), held);
        let outcome = tokio::select! {
            biased;
            outcome = running => Ok(outcome),
            () = over(at) => Err(()),
            () = instance.stopped().cancelled() => return Err(stopped()),
        };
        match outcome {
            Ok(Ok(finished)) => {
                self.note(&finished);
                Ok(finished)
            }
            Ok(Err(failure)) => {
                instance.log_failure(&failure);
                Err(Status::of_failure(&failure, false))
            }
            Err(()) => {
                if !deadline.by_client {
                    instance.log_failure(&HandleError::Time);
                }
                Err(deadline.status(instance))
            }
        }
    }

    fn method(&self, index: usize) -> Result<&Method, Status> {
        self.service.method_at(index).ok_or_else(|| Status::new(Code::Internal, "the method is gone"))
    }

    /// The guest at work, in an instance of its own or the one that is kept.
    fn run(&self, index: usize, call: Call, request: Option<Val>, held: Held) -> Running {
        match &self.kept {
            Some(kept) => Box::pin(kept.clone().call(index, call, request, held)),
            None => {
                let (work, meter) = self.work(index, call, request, held);
                Box::pin(self.instance.guest(work, meter))
            }
        }
    }

    /// The guest's work: an instance of its own, and the call in it.
    fn work(
        &self,
        index: usize,
        call: Call,
        request: Option<Val>,
        held: Held,
    ) -> (Work<Finished>, Arc<Meter>) {
        let meter = Arc::new(Meter::new(self.instance.timeout));
        let (mut store, outputs) = self.instance.store(&meter);
        store.data_mut().call = Some(Box::new(call));
        let service = Arc::clone(&self.service);
        let work = Box::pin(async move {
            let result = match service.method_at(index) {
                Some(method) => match service.pre.instantiate_async(&mut store).await {
                    Ok(instance) => invoke::invoke(&mut store, &instance, &service, method, request).await,
                    Err(error) => Err(error),
                },
                None => Err(wasmtime::format_err!("the method is gone")),
            };
            // Its memory goes back before the log is waited for.
            drop((store, held));
            outputs.finish().await;
            result
        });
        (work, meter)
    }

    fn note(&self, finished: &Finished) {
        if let Some(note) = &finished.note {
            self.instance.note(note);
        }
    }

    /// A call of which either side streams. Its guest runs in a task of its own: a client that does not read would
    /// otherwise keep it beyond its deadline.
    async fn stream(
        &self,
        head: Head,
        method: &Method,
        mut messages: Messages,
    ) -> Result<Response<Body>, Status> {
        let instance = &self.instance;
        let mut call = Call::new(head.headers, instance.message_bytes, head.encoding);
        let (request, size) = if method.reader.is_some() {
            call.requests = Some(messages);
            (None, 0)
        } else {
            let bytes = before(head.until, messages.only()).await?;
            let most = codec::value_bytes(instance.message_bytes);
            let decoded = self.service.codec.decode(method.input, &bytes, most);
            let (value, size) = decoded.map_err(|malformed| Status::of_malformed(&malformed))?;
            (Some(value), size)
        };
        let held = instance.hold(size).ok_or_else(no_memory)?;
        let (replies, sent) = mpsc::channel(WAITING_REPLIES);
        call.replies = method.writer.is_some().then_some(replies);
        call.deadline = head.until;
        call.patience = self.kept.is_some().then_some(instance.timeout);
        let guest = self.run(head.method, call, request, held);
        let (finish, finished) = oneshot::channel();
        let running = Arc::clone(instance);
        let task = tokio::spawn(async move {
            let outcome = tokio::select! {
                biased;
                outcome = guest => outcome.map_err(|failure| {
                    running.log_failure(&failure);
                    Status::of_failure(&failure, true)
                }),
                () = over(head.until) => Err(Status::new(Code::DeadlineExceeded, "the call's deadline is over")),
                () = running.stopped().cancelled() => Err(stopped()),
            };
            let _ = finish.send(outcome.unwrap_or_else(Finished::failed));
        });
        let mut replies = Replies {
            sent,
            finished,
            task: Some(task.abort_handle()),
            _serving: head.serving,
            complete: false,
        };
        match replies.sent.recv().await {
            Some(Sent::Head(headers)) => {
                let body = http_body_util::BodyExt::boxed_unsync(replies);
                Ok(replies::head(headers, head.encoding, body))
            }
            // It has ended without a streamed reply.
            _ => {
                let finished = (&mut replies.finished).await.unwrap_or_else(|_| replies::gone());
                self.note(&finished);
                Ok(replies::whole(finished, head.encoding))
            }
        }
    }
}

async fn before<T>(
    until: Option<Instant>,
    reading: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let over = || Err(Status::new(Code::DeadlineExceeded, "the call's deadline is over"));
    tokio::select! {
        biased;
        result = reading => if until.is_some_and(|until| until <= Instant::now()) { over() } else { result },
        () = self::over(until) => over(),
    }
}

/// Resolves at that time, or never.
async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn stopped() -> Status {
    Status::new(Code::Unavailable, "the instance was stopped")
}

fn no_memory() -> Status {
    Status::new(Code::ResourceExhausted, "this node has no memory for a request of this size now")
}
