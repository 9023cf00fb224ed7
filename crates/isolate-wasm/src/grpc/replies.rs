//! Answers: one reply and how it ended, or a stream of replies while they come.

use super::{
    call::Sent,
    frame::Encoding,
    invoke::Finished,
    status::{Code, Status},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tutti_base::{Body, body, body::BodyError};

/// The answer of a call that has ended: its reply between head and trailers, or its status alone.
pub(super) fn whole(finished: Finished, encoding: Encoding) -> Response<Body> {
    let Finished { status, reply, headers, mut trailers, .. } = finished;
    if reply.is_none() && headers.is_empty() {
        return alone(&status, trailers);
    }
    status.write(&mut trailers);
    let whole = Whole { reply: reply.filter(|_| status.is_ok()), trailers: Some(trailers) };
    head(headers, encoding, whole.boxed_unsync())
}

/// An answer that is only a head, with the status in it.
pub(super) fn alone(status: &Status, trailers: HeaderMap) -> Response<Body> {
    let mut headers = trailers;
    status.write(&mut headers);
    head(headers, Encoding::Identity, body::empty())
}

/// The head of an answer.
pub(super) fn head(headers: HeaderMap, encoding: Encoding, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if encoding == Encoding::Gzip {
        headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    }
    response
}

struct Whole {
    reply: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let reply = self.reply.take().map(Frame::data);
        Poll::Ready(reply.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_none() && self.trailers.is_none()
    }
}

/// A stream of replies, with the call that makes them. Dropping it ends the call.
pub(super) struct Replies {
    pub(super) sent: mpsc::Receiver<Sent>,
    pub(super) finished: oneshot::Receiver<Finished>,
    /// Ends the call, where nothing is lost by it.
    pub(super) task: Option<AbortHandle>,
    /// The call counts as being served until this is dropped.
    pub(super) _serving: TaskTrackerToken,
    pub(super) complete: bool,
}

impl HttpBody for Replies {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.complete {
            return Poll::Ready(None);
        }
        loop {
            match ready!(self.sent.poll_recv(context)) {
                Some(Sent::Message(frame)) => return Poll::Ready(Some(Ok(Frame::data(frame)))),
                // The head is taken before there is a body.
                Some(Sent::Head(_)) => {}
                None => break,
            }
        }
        let finished = ready!(Pin::new(&mut self.finished).poll(context)).unwrap_or_else(|_| gone());
        self.complete = true;
        let mut trailers = finished.trailers;
        finished.status.write(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.complete
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The task that made the call has gone without a word, as it does when the agent ends.
pub(super) fn gone() -> Finished {
    Finished::failed(Status::new(Code::Unavailable, "the call was broken off"))
}
