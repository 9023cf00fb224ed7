//! One request over HTTP/2, sent so that it can be had back for as long as it surely was not worked on.

use crate::Replay;
use http::{Request, request::Parts};
use http_body::Body as _;
use tutti_base::Body;

/// What is kept of a request that is being sent.
pub(crate) struct Attempt {
    parts: Parts,
    /// `None` if there is no body.
    replay: Option<Replay>,
}

impl Attempt {
    /// Splits a request into what is kept of it and what is sent. The extensions stay here.
    pub(crate) fn new(request: Request<Body>) -> (Attempt, Request<Body>) {
        let (parts, body) = request.into_parts();
        let (replay, body) = if body.is_end_stream() {
            (None, body)
        } else {
            let (replay, body) = Replay::brief(body);
            (Some(replay), body)
        };
        let mut sent = Request::new(body);
        *sent.method_mut() = parts.method.clone();
        *sent.uri_mut() = parts.uri.clone();
        *sent.version_mut() = parts.version;
        *sent.headers_mut() = parts.headers.clone();
        (Attempt { parts, replay }, sent)
    }

    /// The whole request, if all of what was sent of it is kept.
    pub(crate) fn take_back(self) -> Option<Request<Body>> {
        let body = match self.replay {
            None => tutti_base::body::empty(),
            Some(replay) => replay.try_take_back()?,
        };
        Some(Request::from_parts(self.parts, body))
    }

    /// It was taken: nothing needs to be kept any more.
    pub(crate) fn admit(self) {
        if let Some(replay) = self.replay {
            replay.admit();
        }
    }
}

/// Why a request surely was not worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The connection ends, and had taken its last request before this one (RFC 9113, 6.8).
    Ending,
    /// The peer wants no further request on this connection now (RFC 9113, 8.7).
    Stream,
}

/// Whether an error means that the peer surely did not work on the request.
pub(crate) fn refusal(error: &hyper::Error) -> Option<Refusal> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        match error.downcast_ref::<h2::Error>() {
            Some(error) if !error.is_remote() => return None,
            Some(error) if error.is_go_away() => return Some(Refusal::Ending),
            Some(error) => {
                return (error.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Refusal::Stream);
            }
            None => cause = error.source(),
        }
    }
    None
}
