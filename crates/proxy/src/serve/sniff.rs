//! Seeing from a connection's first bytes whether HTTP/2 is spoken on it (RFC 9113, 3.4).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// What every HTTP/2 client sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

/// A connection whose first bytes were read and are read once more.
#[derive(Debug)]
pub(crate) struct Sniffed<S> {
    first: [u8; PREFACE.len()],
    /// What of `first` is still to be read again.
    from: usize,
    to: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> Sniffed<S> {
    /// Reads until it is sure.
    pub(crate) async fn new(mut stream: S) -> io::Result<(Sniffed<S>, Spoken)> {
        let mut first = [0; PREFACE.len()];
        let mut to = 0;
        loop {
            let read = match first.get_mut(to..) {
                Some(free) => stream.read(free).await?,
                None => 0,
            };
            to += read;
            let seen = first.get(..to).unwrap_or_default();
            let spoken = match (PREFACE.starts_with(seen), to == PREFACE.len()) {
                (true, true) => Spoken::Http2,
                (true, false) if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                (true, false) => continue,
                (false, _) => Spoken::Http1,
            };
            return Ok((Sniffed { first, from: 0, to, stream }, spoken));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sniffed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.from < self.to {
            let until = self.to.min(self.from + into.remaining());
            into.put_slice(self.first.get(self.from..until).unwrap_or_default());
            self.from = until;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sniffed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
