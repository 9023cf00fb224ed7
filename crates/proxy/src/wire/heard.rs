//! When a connection was last heard: whether it ended of silence.

use super::{Io, PING, PONG};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Timers fire up to a millisecond early by our clock; this is far above it and far below a ping.
const SLACK: Duration = Duration::from_millis(100);

/// When the other side last sent anything, its end included.
#[derive(Debug)]
pub(super) struct Heard {
    began: Instant,
    last_ms: AtomicU64,
    introduced: AtomicBool,
}

impl Heard {
    pub(super) fn new() -> Heard {
        Heard { began: Instant::now(), last_ms: AtomicU64::new(0), introduced: AtomicBool::new(false) }
    }

    fn note(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// The node at the other end has said who it is: from now on its silence means something.
    pub(super) fn introduce(&self) {
        self.introduced.store(true, Ordering::Relaxed);
    }

    /// Whether a node was there, and nothing was heard of it for as long as a ping and its answer may take.
    pub(super) fn is_silent(&self) -> bool {
        if !self.introduced.load(Ordering::Relaxed) {
            return false;
        }
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last) + SLACK >= PING + PONG
    }
}

/// A connection's bytes, noted as they come.
pub(super) struct Listening {
    io: Box<dyn Io>,
    heard: Arc<Heard>,
}

impl Listening {
    pub(super) fn new(io: Box<dyn Io>, heard: Arc<Heard>) -> Listening {
        Listening { io, heard }
    }
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, into);
        if polled.is_ready() {
            self.heard.note();
        }
        polled
    }
}

impl AsyncWrite for Listening {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
