//! The answer of a call as JSON: one object, or an object a line while the call streams.

use super::failure::{self, Failure};
use crate::grpc::{
    about::Opened,
    frame::{Encoding, Messages},
    status::{Code, Status},
    streamed,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use prost_reflect::{DescriptorPool, FieldDescriptor, MethodDescriptor};
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};
use tutti_base::{Body, body, body::BodyError};
use tutti_proto::json::{Unwritable, details_to_json, field_to_json, to_json};

/// Turns the answer of a gRPC call into that of a JSON call.
pub(super) async fn answer(
    opened: Arc<Opened>,
    method: MethodDescriptor,
    field: Option<FieldDescriptor>,
    response: Response<Body>,
) -> Response<Body> {
    let (parts, body) = response.into_parts();
    if let Some(status) = failure::status(&parts.headers) {
        // It has ended, or has not begun.
        return match status.code {
            Code::Ok if method.is_server_streaming() => lines(metadata(parts.headers), body::empty()),
            Code::Ok => Failure::new(Code::Internal, "the call gave no reply").respond(),
            _ => failed(&opened.pool, status).respond_with(metadata(parts.headers)),
        };
    }
    let trailers = Arc::new(OnceLock::new());
    let body = KeepTrailers { body, trailers: Arc::clone(&trailers) }.boxed_unsync();
    // What it may be was bounded when it was made.
    let messages = Messages::new(body, Encoding::Identity, usize::MAX, None);
    let streams = method.is_server_streaming();
    let writing = Writing { pool: opened.pool.clone(), method, field, messages, trailers };
    if streams {
        return lines(metadata(parts.headers), streamed::body(|writer| writing.lines(writer)));
    }
    writing.one(metadata(parts.headers)).await
}

struct Writing {
    pool: DescriptorPool,
    method: MethodDescriptor,
    field: Option<FieldDescriptor>,
    messages: Messages,
    trailers: Arc<OnceLock<HeaderMap>>,
}

impl Writing {
    /// The one reply of a call.
    async fn one(mut self, mut headers: HeaderMap) -> Response<Body> {
        let message = match self.messages.next().await {
            Ok(message) => message,
            Err(status) => return Failure::from(status).respond(),
        };
        // Reads to the end, where the trailers are.
        let _ = self.messages.next().await;
        let status = self.status();
        headers.extend(metadata(self.trailers.get().cloned().unwrap_or_default()));
        let text = match (status, message) {
            (Status { code: Code::Ok, .. }, Some(message)) => self.json(&message),
            (Status { code: Code::Ok, .. }, None) => {
                Err(Failure::new(Code::Internal, "the call gave no reply"))
            }
            (status, _) => Err(failed(&self.pool, status)),
        };
        match text {
            Err(failure) => failure.respond_with(headers),
            Ok(mut text) => {
                text.push('\n');
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let mut response = Response::new(body::full(text));
                *response.headers_mut() = headers;
                response
            }
        }
    }

    /// A line for each reply, and one for the failure, if it ends with one.
    async fn lines(mut self, writer: streamed::Writer) {
        let failure = loop {
            match self.messages.next().await {
                Ok(Some(message)) => match self.json(&message) {
                    Ok(text) => {
                        if !streamed::data(&writer, text + "\n").await {
                            return;
                        }
                    }
                    Err(failure) => break failure,
                },
                Ok(None) => match self.status() {
                    Status { code: Code::Ok, .. } => return,
                    status => break failed(&self.pool, status),
                },
                Err(status) => break failed(&self.pool, status),
            }
        };
        streamed::data(&writer, format!("{{\"error\":{}}}\n", failure.json())).await;
    }

    fn status(&self) -> Status {
        let status = self.trailers.get().and_then(failure::status);
        status.unwrap_or_else(|| Status::new(Code::Unknown, "the call ended without a status"))
    }

    fn json(&self, message: &[u8]) -> Result<String, Failure> {
        let output = self.method.output();
        let text = match &self.field {
            Some(field) => field_to_json(&output, field, message),
            None => to_json(&output, message),
        };
        text.map_err(|why| match why {
            Unwritable::Long | Unwritable::Deep => {
                Failure::new(Code::ResourceExhausted, format!("the reply: {why}"))
            }
            Unwritable::Malformed(_) | Unwritable::NoForm(_) => {
                Failure::new(Code::Internal, format!("the reply: {why}"))
            }
        })
    }
}

fn failed(pool: &DescriptorPool, status: Status) -> Failure {
    let details = details_to_json(pool, &status.details);
    Failure::from(status).details(details)
}

fn lines(mut headers: HeaderMap, body: Body) -> Response<Body> {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

/// What the service itself has added.
fn metadata(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(header::CONTENT_TYPE);
    for name in
        ["grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-encoding", "grpc-accept-encoding"]
    {
        headers.remove(name);
    }
    headers
}

/// A body whose trailers are kept for who reads its data.
struct KeepTrailers {
    body: Body,
    trailers: Arc<OnceLock<HeaderMap>>,
}

impl HttpBody for KeepTrailers {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    let _ = self.trailers.set(trailers);
                    None
                }
                Err(frame) => Some(Ok(frame)),
            },
            other => other,
        })
    }
}
