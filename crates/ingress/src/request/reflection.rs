//! gRPC reflection on a host that several services share.
//!
//! A service on a host of its own answers reflection itself. Where services are told apart by their path, as on a domain's
//! host, nobody of them could speak for the others: so the ingress lists those that its tables have for the host, and asks
//! them about their descriptors, one question at a time, as any client would.
//!
//! Domains stay apart: services of several domains (on `*`, where callers come without a name for the platform) are not
//! listed, and only the one whose name a client knows already is asked.

use super::send;
use crate::{Edge, balance::Service};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::{sync::Arc, time::Duration};
use tutti_base::{Body, body, body::BodyError};
use tutti_proto::reflection::{Answer, METHOD, Question, REQUEST_BYTES, SERVICES, answer_of, decode, encode};
use tutti_proxy::Caller;

/// Longest answer of a service, in bytes: a file of the largest descriptor set.
const ANSWER_BYTES: usize = 4 * 1024 * 1024 + 64 * 1024;
/// Longest wait for a client's next question.
const IDLE: Duration = Duration::from_secs(30);
/// Longest wait for a service's answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most questions on one stream.
const QUESTIONS: usize = 4096;
/// Most services that one question is put to.
const ASKED: usize = 32;
/// A frame's flag and length.
const PREFIX_BYTES: usize = 5;

const INVALID_ARGUMENT: u32 = 3;
const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const UNIMPLEMENTED: u32 = 12;

/// Whether this is a path of reflection.
pub(super) fn is_for(path: &str) -> bool {
    let names = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    names.is_some_and(|(service, method)| SERVICES.contains(&service) && method == METHOD)
}

/// Answers the questions of one stream about these services.
pub(super) fn answer(
    edge: &Arc<Edge>,
    host: &str,
    services: Vec<Arc<Service>>,
    request: Request<Body>,
) -> Response<Body> {
    let uri = request.uri().clone();
    let asking = Asking {
        edge: Arc::clone(edge),
        host: host.to_owned(),
        uri,
        one_domain: services.windows(2).all(|pair| matches!(pair, [a, b] if a.name.domain == b.name.domain)),
        services,
        last: None,
        body: request.into_body(),
        buffer: BytesMut::new(),
        left: QUESTIONS,
        over: false,
    };
    let frames = stream::unfold(asking, |mut asking| async move {
        if asking.over {
            return None;
        }
        let frame = match asking.next().await {
            Ok(Some(answer)) => Frame::data(answer),
            Ok(None) => asking.end(0, ""),
            Err((code, message)) => asking.end(code, message),
        };
        Some((Ok::<_, BodyError>(frame), asking))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// One stream of questions.
struct Asking {
    edge: Arc<Edge>,
    host: String,
    /// The path, which says the version of reflection.
    uri: Uri,
    services: Vec<Arc<Service>>,
    /// Whether they are all of one domain.
    one_domain: bool,
    /// Who answered last: the next question is about the same as a rule.
    last: Option<Arc<Service>>,
    body: Body,
    buffer: BytesMut,
    left: usize,
    over: bool,
}

/// A stream's end: gRPC's code and why.
type End = (u32, &'static str);

impl Asking {
    fn end(&mut self, code: u32, message: &'static str) -> Frame<Bytes> {
        self.over = true;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(code));
        if !message.is_empty() {
            trailers.insert("grpc-message", HeaderValue::from_static(message));
        }
        Frame::trailers(trailers)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, End> {
        let Some(question) = self.question().await? else { return Ok(None) };
        self.left =
            self.left.checked_sub(1).ok_or((RESOURCE_EXHAUSTED, "too many questions on one stream"))?;
        let request = decode(&question).map_err(|_| (INVALID_ARGUMENT, "not a reflection request"))?;
        let answer = match &request.question {
            Some(Question::Services(_)) if !self.one_domain => Answer::failure(
                FAILED_PRECONDITION,
                "services of several domains are reached here: ask on the host of one domain",
            ),
            Some(Question::Services(_)) => {
                Answer::services(self.services.iter().map(|service| service.name.service.to_string()))
            }
            Some(Question::Symbol(symbol)) => self.ask(self.candidates(Some(symbol)), &question).await,
            _ => self.ask(self.candidates(None), &question).await,
        };
        Ok(Some(framed(&encode(&request.answered(answer)))))
    }

    /// Who may know about this.
    fn candidates(&self, symbol: Option<&str>) -> Vec<Arc<Service>> {
        let named = symbol.and_then(|symbol| {
            let symbol = symbol.strip_prefix('.').unwrap_or(symbol);
            self.services.iter().find(|service| {
                let rest = symbol.strip_prefix(service.name.service.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        });
        if let Some(named) = named {
            return vec![Arc::clone(named)];
        }
        let others = self.services.iter().filter(|_| self.one_domain);
        let others = others.filter(|service| self.last.as_ref().is_none_or(|last| last.name != service.name));
        self.last.iter().chain(others).take(ASKED).cloned().collect()
    }

    /// The first answer that is one.
    async fn ask(&mut self, services: Vec<Arc<Service>>, question: &Bytes) -> Answer {
        for service in services {
            let asked = tokio::time::timeout(PATIENCE, {
                let (edge, host, uri) = (Arc::clone(&self.edge), self.host.clone(), self.uri.clone());
                ask_one(edge, host, uri, Arc::clone(&service), question.clone())
            })
            .await;
            if let Ok(Some(answer)) = asked
                && !answer.is_not_found()
            {
                self.last = Some(service);
                return answer;
            }
        }
        Answer::not_found("no service that is reached here has it among its descriptors")
    }

    /// The client's next question.
    async fn question(&mut self) -> Result<Option<Bytes>, End> {
        loop {
            if let Some(question) = take(&mut self.buffer, REQUEST_BYTES)? {
                return Ok(Some(question));
            }
            let frame = tokio::time::timeout(IDLE, self.body.frame()).await;
            match frame.map_err(|_| (DEADLINE_EXCEEDED, "the client asks no more"))? {
                None => return Ok(None),
                Some(Err(_)) => return Err((INVALID_ARGUMENT, "the request broke off")),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// One service's answer, as any client would get it.
async fn ask_one(
    edge: Arc<Edge>,
    host: String,
    uri: Uri,
    service: Arc<Service>,
    question: Bytes,
) -> Option<Answer> {
    let mut request = Request::new(body::full(framed(&question)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::try_from(host.as_str()).ok()?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let response = send(&edge, Caller::Grpc, &host, service, request).await.ok()?;
    let (mut body, mut buffer) = (response.into_body(), BytesMut::new());
    loop {
        if let Some(answer) = take(&mut buffer, ANSWER_BYTES).ok()? {
            return answer_of(&answer);
        }
        let frame = body.frame().await?.ok()?;
        if let Ok(data) = frame.into_data() {
            buffer.extend_from_slice(&data);
        }
    }
}

/// Takes a whole message off the buffer, if one is there.
fn take(buffer: &mut BytesMut, most: usize) -> Result<Option<Bytes>, End> {
    let Some((&[flag, a, b, c, d], _)) = buffer.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if flag != 0 {
        return Err((UNIMPLEMENTED, "compressed messages are not understood here"));
    }
    if length > most {
        return Err((RESOURCE_EXHAUSTED, "a message is too long"));
    }
    if buffer.len() < length.saturating_add(PREFIX_BYTES) {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len().saturating_add(PREFIX_BYTES));
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(message);
    frame.freeze()
}
