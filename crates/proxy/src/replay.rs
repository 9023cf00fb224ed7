//! Request bodies that can be had back.
//!
//! A request that a node's proxy refuses may go elsewhere, with its whole body. Until the proxy has admitted it, the
//! first [`REPLAY_BODY_BYTES`] of the body are kept, and no more than these are sent; so whatever was refused is
//! complete, however long the body is. Where a server admits nothing before it has seen more, [`Replay::brief`] lets go
//! instead of holding the body back: only what was refused early is complete.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};
use tutti_base::{Body, body::BodyError};
use tutti_model::limits::REPLAY_BODY_BYTES;

/// The handle on a body that was sent and may be wanted back.
#[derive(Debug)]
pub struct Replay(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The rest of the body, not yet read. `None` once it was taken back.
    rest: Option<Body>,
    /// What was read and would be gone otherwise; emptied on admission.
    kept: VecDeque<Frame<Bytes>>,
    kept_bytes: usize,
    /// A frame that was read but did not fit any more: it is sent after admission.
    held: Option<Frame<Bytes>>,
    /// Whether a body too long to be kept flows on rather than being held back.
    brief: bool,
    /// Whether something was sent that is not kept.
    gone: bool,
    admitted: bool,
    sender: Option<Waker>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // The state is consistent between any two statements, so a panic elsewhere does not spoil it.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replay {
    /// Splits a body into the part to send and the handle to have it back.
    #[must_use]
    pub fn new(body: Body) -> (Replay, Body) {
        Replay::split(body, false)
    }

    /// The same, but a body that is too long to be kept is sent on and cannot be had back any more.
    #[must_use]
    pub fn brief(body: Body) -> (Replay, Body) {
        Replay::split(body, true)
    }

    fn split(body: Body, brief: bool) -> (Replay, Body) {
        let state = State {
            rest: Some(body),
            kept: VecDeque::new(),
            kept_bytes: 0,
            held: None,
            brief,
            gone: false,
            admitted: false,
            sender: None,
        };
        let shared = Arc::new(Mutex::new(state));
        (Replay(Arc::clone(&shared)), Sent(shared).boxed_unsync())
    }

    /// The request was admitted: what was kept is let go, and the rest flows.
    pub fn admit(self) {
        let mut state = lock(&self.0);
        state.admitted = true;
        state.kept.clear();
        if let Some(sender) = state.sender.take() {
            sender.wake();
        }
    }

    /// The request was refused: the whole body, from its first byte. Whoever still reads the sent part finds it broken.
    #[must_use]
    pub fn take_back(self) -> Body {
        self.restore()
    }

    /// The whole body, from its first byte, if all of what was sent is kept.
    #[must_use]
    pub fn try_take_back(self) -> Option<Body> {
        if lock(&self.0).gone {
            return None;
        }
        Some(self.restore())
    }

    fn restore(self) -> Body {
        let mut state = lock(&self.0);
        let mut first = std::mem::take(&mut state.kept);
        first.extend(state.held.take());
        let rest = state.rest.take().unwrap_or_else(tutti_base::body::empty);
        if first.is_empty() { rest } else { Restored { first, rest }.boxed_unsync() }
    }
}

/// A copy of a frame, without copying its bytes.
fn copy(frame: &Frame<Bytes>) -> Option<Frame<Bytes>> {
    match (frame.data_ref(), frame.trailers_ref()) {
        (Some(data), _) => Some(Frame::data(data.clone())),
        (None, Some(trailers)) => Some(Frame::trailers(trailers.clone())),
        (None, None) => None,
    }
}

struct Sent(Arc<Mutex<State>>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut guard = lock(&self.0);
        let state = &mut *guard;
        if state.held.is_some() {
            if state.admitted {
                return Poll::Ready(state.held.take().map(Ok));
            }
            state.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(rest) = state.rest.as_mut() else {
            return Poll::Ready(Some(Err("the request is being sent elsewhere".into())));
        };
        let frame = match Pin::new(rest).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            other => return other,
        };
        if state.admitted {
            return Poll::Ready(Some(Ok(frame)));
        }
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        if state.gone {
            return Poll::Ready(Some(Ok(frame)));
        }
        if state.kept_bytes + bytes > REPLAY_BODY_BYTES {
            if state.brief {
                state.gone = true;
                state.kept = VecDeque::new();
                return Poll::Ready(Some(Ok(frame)));
            }
            state.held = Some(frame);
            state.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.kept_bytes += bytes;
        state.kept.extend(copy(&frame));
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.0);
        state.held.is_none() && state.rest.as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.0);
        let held = state.held.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        state.rest.as_ref().map_or_else(SizeHint::default, |rest| longer(rest.size_hint(), held))
    }
}

fn longer(hint: SizeHint, bytes: usize) -> SizeHint {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    match hint.exact() {
        Some(exact) => SizeHint::with_exact(exact.saturating_add(bytes)),
        None => SizeHint::default(),
    }
}

struct Restored {
    first: VecDeque<Frame<Bytes>>,
    rest: Body,
}

impl http_body::Body for Restored {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
        longer(self.rest.size_hint(), first)
    }
}

#[cfg(test)]
mod tests;
