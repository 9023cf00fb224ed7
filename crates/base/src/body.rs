//! The one HTTP body type that crosses crates: a stream of frames, trailers included.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};

/// Whatever a body's producer says went wrong.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body whose producer is not known.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// No body.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of these bytes.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
