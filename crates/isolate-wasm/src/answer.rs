//! The body of an answer. The guest that writes it runs when the body is read, so a slow client slows its guest, and a
//! client that goes away ends it.

use crate::{guest::Guest, instance::Instance};
use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tutti_base::body::BodyError;
use tutti_isolate::HandleError;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// A guest's body and the guest.
pub(crate) struct Answer {
    body: HyperOutgoingBody,
    guest: Option<Guest>,
    instance: Arc<Instance>,
    /// The request counts as being served until this is dropped.
    serving: Option<TaskTrackerToken>,
    /// How many bytes the client has yet to get, where the head said how many there are.
    missing: Option<u64>,
    /// Whether the guest's body has ended.
    ended: bool,
    /// Whether that has been read, so that all is well.
    complete: bool,
    failure: Option<HandleError>,
}

impl Answer {
    pub(crate) fn new(
        body: HyperOutgoingBody,
        guest: Option<Guest>,
        instance: Arc<Instance>,
        serving: TaskTrackerToken,
        length: Option<u64>,
    ) -> Self {
        Answer {
            body,
            guest,
            instance,
            serving: Some(serving),
            missing: length,
            ended: false,
            complete: false,
            failure: None,
        }
    }

    fn next_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return self.end(context);
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.missing = self.missing.map(|missing| missing.saturating_sub(length));
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.guest = None;
                Some(Err(error.into()))
            }
            None => {
                self.ended = true;
                return self.end(context);
            }
        })
    }

    /// The engine's body ends as if all were well when its guest has failed. One that is in the lane may just have done
    /// so: it is waited for.
    fn end(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.guest.as_ref().is_some_and(Guest::is_away) {
            self.turn(context);
            if self.guest.as_ref().is_some_and(Guest::is_away) {
                return Poll::Pending;
            }
        }
        Poll::Ready(match self.failure.take() {
            Some(failure) => Some(Err(failure.into())),
            None => {
                self.complete = true;
                self.let_finish();
                None
            }
        })
    }

    /// Lets the guest go on, and keeps what it failed with.
    fn turn(&mut self, context: &mut Context<'_>) {
        let Some(guest) = &mut self.guest else { return };
        if let Poll::Ready(result) = guest.poll(context) {
            self.guest = None;
            if let Err(failure) = result {
                self.instance.log_failure(&failure);
                self.failure = Some(failure);
            }
        }
    }

    /// The client has all it will get. What the guest still does (it may log, or tidy up) it may finish, for as long as
    /// it could have taken to answer.
    fn let_finish(&mut self) {
        let Some(guest) = self.guest.take() else { return };
        let Some(place) = self.instance.place_to_finish() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(finish(guest, Arc::clone(&self.instance), place, self.serving.take()));
    }
}

async fn finish(
    guest: Guest,
    instance: Arc<Instance>,
    _place: OwnedSemaphorePermit,
    _serving: Option<TaskTrackerToken>,
) {
    match tokio::time::timeout(instance.timeout, guest).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => instance.log_failure(&failure),
        Err(_) => instance.log_failure(&HandleError::Time),
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.complete {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = self.next_frame(context) {
            return Poll::Ready(frame);
        }
        if self.guest.is_none() {
            return Poll::Pending;
        }
        self.turn(context);
        // The guest has had a turn; see what it wrote.
        self.next_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.complete
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // A server that has sent all the bytes that were announced does not ask for more.
        if self.missing == Some(0) {
            self.let_finish();
        }
    }
}
