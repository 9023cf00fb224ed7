//! What is done with an answer: it is counted, to its end, and says who gave it.

use crate::{
    balance::{Busy, Place, Service, Version},
    stats::Running,
};
use bytes::Bytes;
use http::{HeaderName, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::{
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, ready},
    time::Duration,
};
use tutti_base::{Body, body::BodyError};
use tutti_proxy::{Caller, grpc, upgrade};

const TUTTI_SERVICE: HeaderName = HeaderName::from_static("tutti-service");
const TUTTI_VERSION: HeaderName = HeaderName::from_static("tutti-version");
const TUTTI_INSTANCE: HeaderName = HeaderName::from_static("tutti-instance");

/// Says who answered. A node's proxy may have used another instance than the one picked; then it has said so.
pub(super) fn name(response: &mut Response<Body>, service: &Service, by: Option<(&Version, &Place)>) {
    let headers = response.headers_mut();
    headers.insert(TUTTI_SERVICE, service.header.clone());
    match by {
        Some((version, place)) => {
            headers.insert(TUTTI_VERSION, version.header.clone());
            headers.entry(TUTTI_INSTANCE).or_insert_with(|| place.header.clone());
        }
        None => {
            headers.remove(TUTTI_VERSION);
            headers.remove(TUTTI_INSTANCE);
        }
    }
}

/// Counts an answer whose head came after `latency`, and sees to it that the rest is counted as it passes.
pub(super) fn finish(
    mut response: Response<Body>,
    caller: Caller,
    latency: Duration,
    running: Running,
    busy: Busy,
) -> Response<Body> {
    let status = response.status();
    let trailers_only = grpc::status(response.headers());
    let (error, settled) = match (caller, trailers_only) {
        _ if status.is_server_error() => (true, true),
        (Caller::Grpc, Some(code)) => (grpc::blames_server(Some(code)), true),
        (Caller::Grpc, None) => (false, false),
        (Caller::Http, _) => (false, true),
    };
    running.counters().answer(latency, error);
    if status == StatusCode::SWITCHING_PROTOCOLS {
        upgrade::hold(&mut response, Mutex::new((running, busy)));
        return response;
    }
    if response.body().is_end_stream() {
        if !settled {
            running.counters().error();
        }
        return response;
    }
    response.map(|body| Counted { body, settled, failed: error, running, _busy: busy }.boxed_unsync())
}

/// A body that is counted as it passes: it runs until its end or until nobody wants it any more.
struct Counted {
    body: Body,
    /// Whether it is known if this is an error.
    settled: bool,
    failed: bool,
    running: Running,
    _busy: Busy,
}

impl Counted {
    fn fail(&mut self) {
        if !self.failed {
            self.failed = true;
            self.running.counters().error();
        }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref().filter(|_| !self.settled) {
                    self.settled = true;
                    if grpc::blames_server(grpc::status(trailers)) {
                        self.fail();
                    }
                }
            }
            // It broke off, or ended without the status that gRPC owes.
            Some(Err(_)) => self.fail(),
            None if !self.settled => self.fail(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
