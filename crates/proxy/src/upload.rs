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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use http_body_util::StreamBody;

    /// An upload of so many pieces with this pause before each, and an answer after it.
    async fn answered(pieces: u32, pause: Duration, limit: Duration) -> Option<usize> {
        let frames = futures_util::stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x")))
        });
        let (body, progress) = Progress::watch(StreamBody::new(frames).boxed_unsync());
        assert!(!is_finished(progress.as_ref()));
        let answer = async {
            let length = body.collect().await.map_or(0, |whole| whole.to_bytes().len());
            assert!(is_finished(progress.as_ref()));
            length
        };
        within(limit, progress.as_ref(), answer).await
    }

    #[tokio::test(start_paused = true)]
    async fn time_runs_only_while_the_body_stands_still() {
        let second = Duration::from_secs(1);
        assert_eq!(answered(100, second, 3 * second).await, Some(100));
        assert_eq!(answered(100, 7 * second, 3 * second).await, None);
        let (_, none) = Progress::watch(tutti_base::body::empty());
        assert!(is_finished(none.as_ref()));
        assert_eq!(within(second, none.as_ref(), tokio::time::sleep(2 * second)).await, None);
    }
}
