//! gRPC's framing: a byte that says whether a message is compressed, four for its length, and the message.

use super::status::{Code, Status};
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::HeaderMap;
use http_body::Body as _;
use std::{
    future::poll_fn,
    io::{Read as _, Write as _},
    pin::Pin,
    time::Duration,
};
use tutti_base::Body;

/// The flag and the length.
pub(crate) const PREFIX_BYTES: usize = 5;
/// Replies that are shorter are not compressed: they would not get smaller.
const COMPRESSED_AT_LEAST: usize = 256;

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    /// That of the request.
    ///
    /// # Errors
    /// `UNIMPLEMENTED`, as the protocol wants it, for one that is not known here.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Encoding, Status> {
        match headers.get("grpc-encoding").map(|value| value.as_bytes()) {
            None | Some(b"identity") => Ok(Encoding::Identity),
            Some(b"gzip") => Ok(Encoding::Gzip),
            Some(other) => {
                let name = String::from_utf8_lossy(other.get(..32).unwrap_or(other));
                Err(Status::new(
                    Code::Unimplemented,
                    format!("messages compressed with \"{name}\" are not understood: gzip and identity are"),
                ))
            }
        }
    }

    /// That of the reply: compressed if the request is, and the client has not said that it takes no such replies. Most
    /// clients say that they would take it, without wanting the work done for every small message.
    pub(crate) fn of_reply(self, headers: &HeaderMap) -> Encoding {
        let accepted = headers.get("grpc-accept-encoding").and_then(|value| value.to_str().ok());
        match accepted {
            Some(list) if !list.split(',').any(|name| name.trim() == "gzip") => Encoding::Identity,
            _ => self,
        }
    }
}

/// The messages of a request's body, one at a time: the body is read no further than the next message.
pub(crate) struct Messages {
    body: Body,
    encoding: Encoding,
    /// Longest message, in bytes, compressed or not.
    most: usize,
    /// Longest wait for the client's next bytes.
    idle: Option<Duration>,
    buffer: BytesMut,
    ended: bool,
}

impl Messages {
    pub(crate) fn new(body: Body, encoding: Encoding, most: usize, idle: Option<Duration>) -> Messages {
        Messages { body, encoding, most, idle, buffer: BytesMut::new(), ended: false }
    }

    /// Waits for the next message; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.ended {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(Status::new(Code::InvalidArgument, "the request ends within a message"))
                };
            }
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
            let frame = match self.idle {
                None => frame.await,
                Some(idle) => tokio::time::timeout(idle, frame)
                    .await
                    .map_err(|_| Status::new(Code::DeadlineExceeded, "the client sends no more"))?,
            };
            match frame {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => {
                    self.ended = true;
                    self.buffer.clear();
                    return Err(Status::new(Code::Cancelled, "the client broke its request off"));
                }
            }
        }
    }

    /// The one message of a call without a stream of requests.
    pub(crate) async fn only(&mut self) -> Result<Bytes, Status> {
        // The protocol's own code for a wrong number of messages.
        let wrong = |why| Err(Status::new(Code::Unimplemented, why));
        let Some(message) = self.next().await? else {
            return wrong("this method takes one request, and none was sent");
        };
        match self.next().await? {
            None => Ok(message),
            Some(_) => wrong("this method takes one request, and more were sent"),
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((&flag, rest)) = self.buffer.split_first() else { return Ok(None) };
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if flag > 1 {
            return Err(Status::new(Code::InvalidArgument, format!("a message has the flag {flag}")));
        }
        if length > self.most {
            return Err(too_large(self.most));
        }
        let Some(whole) = length.checked_add(PREFIX_BYTES).filter(|whole| *whole <= self.buffer.len()) else {
            return Ok(None);
        };
        let message = self.buffer.split_to(whole).freeze().slice(PREFIX_BYTES..);
        match (flag, self.encoding) {
            (0, _) => Ok(Some(message)),
            (_, Encoding::Gzip) => inflate(&message, self.most).map(Some),
            (_, Encoding::Identity) => Err(Status::new(
                Code::Internal,
                "a message is compressed, and grpc-encoding does not say how",
            )),
        }
    }
}

fn too_large(most: usize) -> Status {
    Status::new(
        Code::ResourceExhausted,
        format!("a message is longer than {most} bytes, which is the most that this service takes"),
    )
}

/// Never more than is allowed, whatever a few bytes say that they unfold to.
fn inflate(bytes: &[u8], most: usize) -> Result<Bytes, Status> {
    let mut message = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    match GzDecoder::new(bytes).take(limit).read_to_end(&mut message) {
        Ok(_) if message.len() > most => Err(too_large(most)),
        Ok(_) => Ok(Bytes::from(message)),
        Err(_) => Err(Status::new(Code::Internal, "a message could not be decompressed")),
    }
}

/// A reply that is being written: room for the prefix first.
pub(crate) fn begin() -> Vec<u8> {
    vec![0; PREFIX_BYTES]
}

/// Makes a frame of what was written after [`begin`].
pub(crate) fn finish(mut written: Vec<u8>, encoding: Encoding) -> Bytes {
    let message = written.get(PREFIX_BYTES..).unwrap_or_default();
    if encoding == Encoding::Gzip
        && message.len() >= COMPRESSED_AT_LEAST
        && let Some(compressed) = deflate(message)
    {
        return compressed;
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = written.get_mut(1..PREFIX_BYTES) {
        place.copy_from_slice(&length);
    }
    Bytes::from(written)
}

/// The compressed frame, if it is smaller.
fn deflate(message: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(begin(), Compression::fast());
    encoder.write_all(message).ok()?;
    let mut frame = encoder.finish().ok()?;
    let length = frame.len().checked_sub(PREFIX_BYTES).filter(|length| *length < message.len())?;
    let mut prefix = frame.get_mut(..PREFIX_BYTES)?;
    prefix.put_u8(1);
    prefix.put_u32(u32::try_from(length).ok()?);
    Some(Bytes::from(frame))
}

/// The messages of a whole body of which each may be so long, and what was wrong at last: for those who try strangers' bytes
/// on it.
#[doc(hidden)]
pub async fn messages_of(body: Body, gzip: bool, most: usize) -> (Vec<Bytes>, Option<String>) {
    let encoding = if gzip { Encoding::Gzip } else { Encoding::Identity };
    let mut messages = Messages::new(body, encoding, most, None);
    let mut read = Vec::new();
    loop {
        match messages.next().await {
            Ok(Some(message)) => read.push(message),
            Ok(None) => return (read, None),
            Err(status) => return (read, Some(status.message)),
        }
    }
}

#[cfg(test)]
mod tests;
