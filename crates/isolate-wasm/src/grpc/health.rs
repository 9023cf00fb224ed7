//! `grpc.health.v1.Health`: an instance that takes calls is serving, and knows of no service but its own.

use super::{
    about::About,
    frame::{self, Encoding, Messages},
    replies,
    status::{Code, Status},
    streamed,
};
use crate::instance::Instance;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use std::{sync::Arc, time::Duration};
use tutti_base::{Body, body};
use tutti_proto::health::{self, Health, REQUEST_BYTES, SERVICE};

/// Longest wait for the request.
const IDLE: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Check,
    Watch,
}

/// The method of a path, if it is one of health's.
pub(super) fn method(path: &str) -> Option<Method> {
    match path.strip_prefix('/')?.strip_prefix(SERVICE)?.strip_prefix('/')? {
        "Check" => Some(Method::Check),
        "Watch" => Some(Method::Watch),
        _ => None,
    }
}

/// Says how the service is; to one that watches, until the instance is stopped.
pub(super) async fn answer(
    method: Method,
    about: Arc<About>,
    instance: Arc<Instance>,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let compressed = Encoding::of_request(&parts.headers)?;
    let message = Messages::new(body, compressed, REQUEST_BYTES, Some(IDLE)).only().await?;
    let asked =
        health::asked(&message).ok_or_else(|| Status::new(Code::InvalidArgument, "not a health request"))?;
    let known = asked.is_empty() || asked == about.service;
    let now = match instance.admit() {
        _ if !known => Health::Unknown,
        Ok(_) => Health::Serving,
        Err(_) => Health::NotServing,
    };
    match method {
        Method::Check if !known => Err(Status::new(Code::NotFound, "this service is not known here")),
        Method::Check => Ok(replies::head(HeaderMap::new(), Encoding::Identity, once(now))),
        Method::Watch => {
            let stopped = instance.stopped().clone();
            let body = streamed::body(|writer| async move {
                if streamed::data(&writer, framed(now)).await {
                    stopped.cancelled().await;
                    if known {
                        streamed::data(&writer, framed(Health::NotServing)).await;
                    }
                    let status = Status::new(Code::Unavailable, "the instance was stopped");
                    streamed::trailers(&writer, trailers(&status)).await;
                }
            });
            Ok(replies::head(HeaderMap::new(), Encoding::Identity, body))
        }
    }
}

fn framed(health: Health) -> Bytes {
    let mut written = frame::begin();
    written.extend(health::response(health));
    frame::finish(written, Encoding::Identity)
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    status.write(&mut trailers);
    trailers
}

fn once(health: Health) -> Body {
    use http_body_util::BodyExt as _;
    let trailers = trailers(&Status::ok());
    body::full(framed(health)).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync()
}
