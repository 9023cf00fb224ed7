//! A method's answer as it goes out: with an end for streams that would have none, and its place among the open ones.

use crate::server::streams::Place;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// The body of an answer that ends at its deadline, and when the API does, with a status that says so.
pub(super) struct Bounded {
    inner: tonic::body::Body,
    deadline: Option<Pin<Box<Sleep>>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
    _place: Place,
}

impl Bounded {
    pub(super) fn new(
        inner: tonic::body::Body,
        deadline: Option<Instant>,
        stopping: CancellationToken,
        place: Place,
    ) -> Bounded {
        Bounded {
            inner,
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
            stopping: Box::pin(stopping.cancelled_owned()),
            over: false,
            _place: place,
        }
    }

    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.over = true;
        // What is left of it is of no use to anyone, and may hold a watch.
        self.inner = tonic::body::Body::empty();
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            return self.end(&Status::deadline_exceeded("the time for this stream is over"));
        }
        match Pin::new(&mut self.inner).poll_frame(context) {
            // What is ready is finished first: a call that is done is not lost.
            Poll::Pending if self.stopping.as_mut().poll(context).is_ready() => {
                self.end(&Status::unavailable("the API is ending"))
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
