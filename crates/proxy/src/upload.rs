//! How far a request's body has got: it decides whether a connection may be used again, and whether silence is the
//! other side's or only a slow upload.

use crate::grpc;
use bytes::Bytes;
use http::HeaderMap;
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
    /// Whether the client may be silent within its request for as long as it likes: only in gRPC is that a stream of
    /// messages rather than a slow upload.
    may_pause: bool,
    /// Whether whoever serves the request has asked for more of its body, and the client has not sent it.
    awaited: AtomicBool,
}

impl Progress {
    /// Starts to watch the body of a request with these headers; `None` for an empty one, which needs no watching.
    #[must_use]
    pub fn watch(headers: &HeaderMap, body: Body) -> (Body, Option<Arc<Progress>>) {
        if http_body::Body::is_end_stream(&body) {
            return (body, None);
        }
        let progress = Arc::new(Progress { may_pause: grpc::is_grpc(headers), ..Progress::default() });
        let watched = Watched { body, progress: Arc::clone(&progress) };
        (watched.boxed_unsync(), Some(progress))
    }

    /// Whether the other side owes nothing now: it waits for a client that may be silent.
    fn is_paused(&self) -> bool {
        self.may_pause && self.awaited.load(Ordering::Relaxed)
    }
}

/// Whether the whole body was handed to the connection.
#[must_use]
pub fn is_finished(progress: Option<&Arc<Progress>>) -> bool {
    progress.is_none_or(|progress| progress.finished.load(Ordering::Acquire))
}

/// Waits for the head of an answer. The time starts again while the body still moves: the other side cannot be blamed
/// for a slow upload. It stands still while a gRPC stream waits for its client's next message, the first one included.
/// `None` when it ran out.
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
            Err(_) if frames() == before && !progress.is_some_and(|progress| progress.is_paused()) => {
                return None;
            }
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
        self.progress.awaited.store(polled.is_pending(), Ordering::Relaxed);
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                self.progress.frames.fetch_add(1, Ordering::Relaxed);
                if self.body.is_end_stream() {
                    self.progress.finished.store(true, Ordering::Release);
                }
            }
            Poll::Ready(None) => {
                // An end is progress as well: from here on the answer is owed.
                self.progress.frames.fetch_add(1, Ordering::Relaxed);
                self.progress.finished.store(true, Ordering::Release);
            }
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
    async fn answered(headers: &HeaderMap, pieces: u32, pause: Duration, limit: Duration) -> Option<usize> {
        let frames = futures_util::stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x")))
        });
        let (body, progress) = Progress::watch(headers, StreamBody::new(frames).boxed_unsync());
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
        let plain = HeaderMap::new();
        assert_eq!(answered(&plain, 100, second, 3 * second).await, Some(100));
        assert_eq!(answered(&plain, 100, 7 * second, 3 * second).await, None);
        let (_, none) = Progress::watch(&plain, tutti_base::body::empty());
        assert!(is_finished(none.as_ref()));
        assert_eq!(within(second, none.as_ref(), tokio::time::sleep(2 * second)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_of_grpc_may_be_silent_but_the_other_side_may_not() {
        let hour = Duration::from_secs(3600);
        let grpc = HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/grpc"),
        )]);
        assert_eq!(answered(&grpc, 3, hour, Duration::from_secs(3)).await, Some(3));
        // Nobody reads on, so that it is not the client who is waited for: before its end and after it.
        for read in [1, 3] {
            let frames = futures_util::stream::iter(0..2)
                .map(|_| Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x"))));
            let (mut body, progress) = Progress::watch(&grpc, StreamBody::new(frames).boxed_unsync());
            let deaf = async {
                for _ in 0..read {
                    let _ = body.frame().await;
                }
                tokio::time::sleep(hour).await;
            };
            let began = tokio::time::Instant::now();
            assert_eq!(within(Duration::from_secs(3), progress.as_ref(), deaf).await, None);
            assert!(began.elapsed() < Duration::from_secs(7), "{read}: {:?}", began.elapsed());
        }
    }
}
