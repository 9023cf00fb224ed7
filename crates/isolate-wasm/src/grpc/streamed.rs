//! A body that a task writes, at most a frame ahead of its reader.

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{sync::mpsc, task::AbortHandle};
use tutti_base::{Body, body::BodyError};

/// Where the task writes.
pub(super) type Writer = mpsc::Sender<Result<Frame<Bytes>, BodyError>>;

struct Streamed {
    frames: mpsc::Receiver<Result<Frame<Bytes>, BodyError>>,
    task: AbortHandle,
}

/// The body that this task writes; the task ends with it.
pub(super) fn body<F>(task: impl FnOnce(Writer) -> F) -> Body
where
    F: Future<Output = ()> + Send + 'static,
{
    let (writer, frames) = mpsc::channel(1);
    let task = tokio::spawn(task(writer)).abort_handle();
    Streamed { frames, task }.boxed_unsync()
}

/// Writes data; `false` once nobody reads.
pub(super) async fn data(writer: &Writer, bytes: impl Into<Bytes>) -> bool {
    writer.send(Ok(Frame::data(bytes.into()))).await.is_ok()
}

/// Writes trailers.
pub(super) async fn trailers(writer: &Writer, trailers: HeaderMap) {
    let _ = writer.send(Ok(Frame::trailers(trailers))).await;
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.frames.poll_recv(context)
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
