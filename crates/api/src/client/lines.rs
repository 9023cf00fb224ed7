//! An answer as lines, for as long as it goes on: watches and followed logs.

use super::{SILENCE, fault};
use bytes::{Buf as _, Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tutti_model::{Problem, limits};

/// Longest line, in bytes: one transaction of the store at its largest, with room for its frame.
const LINE_BYTES: usize = limits::STORE_TXN_OPERATIONS * limits::STORE_VALUE_BYTES + 64 * 1024;

/// Reads an answer line by line.
pub(super) struct Lines {
    base: String,
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer is known to have no line end.
    searched: usize,
    /// Whether silence means that the source is lost.
    lively: bool,
}

impl Lines {
    /// The lines of an answer. A `lively` one sends something at least every [`SILENCE`]; others may stay silent for
    /// as long as they like.
    pub(super) fn new(base: &str, response: Response<Incoming>, lively: bool) -> Self {
        let body = response.into_body();
        Lines { base: base.to_owned(), body, buffer: BytesMut::new(), searched: 0, lively }
    }

    /// The next line without its end; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            if let Some(line) = self.buffered() {
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES {
                return Err(Problem::internal(format!(
                    "{} sent a line longer than {LINE_BYTES} bytes",
                    self.base
                )));
            }
            let frame = if self.lively {
                let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
                frame.map_err(|_| fault::late(&self.base, SILENCE))?
            } else {
                self.body.frame().await
            };
            match frame {
                None if self.buffer.is_empty() => return Ok(None),
                // A last line without its end was cut off, or is whole; its reader finds out.
                None => return Ok(Some(self.buffer.split().freeze())),
                Some(Err(error)) => return Err(fault::cut_off(&self.base, &error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn buffered(&mut self) -> Option<Bytes> {
        loop {
            let unsearched = self.buffer.get(self.searched..)?;
            let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + end).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if !line.is_empty() {
                return Some(line);
            }
        }
    }
}
