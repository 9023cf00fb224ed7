//! How far a request's body has got: it decides whether a connection may be used again, and whether silence is the
//! other side's or only a slow upload.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tutti_base::{Body, body::BodyError};

/// The way of one request's body.
#[derive(Debug, Default)]
pub struct Progress {
    frames: AtomicUsize,
    finished: AtomicBool,
}

impl Progress {
    /// Starts to watch a body; `None` for an empty one, which needs no watching.
    #[must_use]
    pub fn watch(body: Body) -> (Body, Option<Arc<Progress>>) {
        if http_body::Body::is_end_stream(&body) {
            return (body, None);
        }
        let progress = Arc::new(Progress::default());
        let watched = Watched { body, progress: Arc::clone(&progress) };
        (watched.boxed_unsync(), Some(progress))
    }
}

/// Whether the whole body was handed to the connection.
#[must_use]
pub fn is_finished(progress: Option<&Arc<Progress>>) -> bool {
    progress.is_none_or(|progress| progress.finished.load(Ordering::Acquire))
}

/// Waits for the head of an answer. The time starts again while the body still moves: the other side cannot be blamed
/// for a slow upload. `None` when it ran out.
pub async fn within<F: Future>(
    limit: Duration,
    progress: Option<&Arc<Progress>>,
    answer: F,
) -> Option<F::Output> {
    let mut answer = std::pin::pin!(answer);
    let frames = || progress.map_or(0, |progress| progress.frames.load(Ordering::Relaxed));
    loop {
        let before = frames();
        match tokio::time::timeout(limit, answer.as_mut()).await {
            Ok(output) => return Some(output),
            Err(_) if frames() == before => return None,
            Err(_) => {}
        }
    }
}

struct Watched {
    body: Body,
    progress: Arc<Progress>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                self.progress.frames.fetch_add(1, Ordering::Relaxed);
                if self.body.is_end_stream() {
                    self.progress.finished.store(true, Ordering::Release);
                }
            }
            Poll::Ready(None) => self.progress.finished.store(true, Ordering::Release),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
