//! What the hop says beside the request and the answer, in fields whose names begin with `tutti-hop`. Only the two ends
//! of the hop write them: both take out whatever came from elsewhere.
//!
//! On a request: for which node, service, version and instance it is; on an upgrade, which is an extended CONNECT
//! (RFC 8441), also its own method. On an answer: `tutti-hop: KIND: REASON` if there is none and why; on an upgrade its
//! own status, since a CONNECT is answered by 200 if and only if its tunnel begins.

use crate::{HopError, HopTarget, headers};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body as _;
use std::str::FromStr;
use tutti_base::{Body, body};
use tutti_model::{Millis, name::NodeName};

const PREFIX: &str = "tutti-hop";
const ERROR: HeaderName = HeaderName::from_static("tutti-hop");
const NODE: HeaderName = HeaderName::from_static("tutti-hop-node");
const SERVICE: HeaderName = HeaderName::from_static("tutti-hop-service");
const VERSION: HeaderName = HeaderName::from_static("tutti-hop-version");
const INSTANCE: HeaderName = HeaderName::from_static("tutti-hop-instance");
const METHOD: HeaderName = HeaderName::from_static("tutti-hop-method");
const STATUS: HeaderName = HeaderName::from_static("tutti-hop-status");
const UPGRADE: HeaderName = HeaderName::from_static("tutti-hop-upgrade");
/// Longest reason, in bytes: a sentence and an error's chain.
const REASON_BYTES: usize = 1000;

/// Why there is no answer, as it is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Misdirected(String),
    Overloaded(String),
    Full(String),
    Failed(String),
    Timeout(Millis),
}

/// Takes out every field of the hop.
pub(super) fn strip(headers: &mut HeaderMap) {
    let found: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

fn text(text: &str) -> HeaderValue {
    // Names are ASCII; a reason may be anything, of which a field takes all but control characters.
    let mut end = text.len().min(REASON_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let plain: String = text
        .get(..end)
        .unwrap_or_default()
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    HeaderValue::from_bytes(plain.as_bytes()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// A request that asks a peer whether it is this node and serves.
pub(super) fn hello(node: &NodeName) -> Request<Body> {
    let mut request = Request::new(body::empty());
    *request.uri_mut() = over_http2(None);
    request.headers_mut().insert(NODE, text(node.as_str()));
    request
}

fn over_http2(path: Option<PathAndQuery>) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    // Whom the request is for is in `host`, as it came; this only makes the form complete.
    parts.authority = Some(Authority::from_static("node"));
    parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}

/// Gives a request the form in which it goes over the wire. Gives the protocol that it asks to switch to.
pub(super) fn request(
    request: &mut Request<Body>,
    node: &NodeName,
    target: &HopTarget,
) -> Option<HeaderValue> {
    let asked = if request.version() == Version::HTTP_11 && request.body().is_end_stream() {
        headers::upgrade_of(request.headers())
    } else {
        None
    };
    let asked = asked.filter(|protocol| protocol.to_str().is_ok());
    headers::strip_request(request.headers_mut(), Version::HTTP_2);
    strip(request.headers_mut());
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = over_http2(path);
    *request.version_mut() = Version::HTTP_2;
    let fields = request.headers_mut();
    fields.insert(NODE, text(node.as_str()));
    fields.insert(SERVICE, text(&target.service.to_string()));
    fields.insert(VERSION, text(target.version.as_str()));
    fields.insert(INSTANCE, text(target.instance.as_str()));
    if let Some(protocol) = asked.as_ref().and_then(|protocol| protocol.to_str().ok()) {
        let method = std::mem::replace(request.method_mut(), Method::CONNECT);
        request.headers_mut().insert(METHOD, text(method.as_str()));
        request.extensions_mut().insert(hyper::ext::Protocol::from(protocol));
    }
    asked
}

/// For whom a request came.
#[derive(Debug)]
pub(super) enum For {
    /// Not over the hop.
    Others,
    /// To ask who is here.
    Hello(String),
    /// An instance of this node, as its sender says.
    Instance { node: String, target: Box<HopTarget> },
}

/// Whether a request has any field of the hop.
pub(super) fn is_hop(headers: &HeaderMap) -> bool {
    headers.contains_key(NODE) || headers.contains_key(SERVICE)
}

fn field(headers: &HeaderMap, name: &HeaderName) -> Result<String, String> {
    let value = headers.get(name).ok_or_else(|| format!("the request has no field {name}"))?;
    value.to_str().map(str::to_owned).map_err(|_| format!("the request's field {name} is not text"))
}

fn parsed<T: FromStr<Err = impl std::fmt::Display>>(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<T, String> {
    let text = field(headers, name)?;
    text.parse().map_err(|error| format!("the request's field {name} is wrong: {error}"))
}

/// Takes the hop's fields out of a request and gives it back the form in which it was sent.
///
/// # Errors
/// Which of them is wrong.
pub(super) fn take_request(request: &mut Request<Body>) -> Result<For, String> {
    if !is_hop(request.headers()) {
        return Ok(For::Others);
    }
    let node = field(request.headers(), &NODE)?;
    if !request.headers().contains_key(SERVICE) {
        return Ok(For::Hello(node));
    }
    let target = HopTarget {
        service: parsed(request.headers(), &SERVICE)?,
        version: parsed(request.headers(), &VERSION)?,
        instance: parsed(request.headers(), &INSTANCE)?,
    };
    if *request.method() == Method::CONNECT {
        restore_upgrade(request)?;
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    strip(request.headers_mut());
    Ok(For::Instance { node, target: Box::new(target) })
}

fn restore_upgrade(request: &mut Request<Body>) -> Result<(), String> {
    let protocol = request.extensions_mut().remove::<hyper::ext::Protocol>();
    let protocol = protocol.ok_or("a CONNECT without a protocol is not served")?;
    let protocol = HeaderValue::from_str(protocol.as_str()).map_err(|_| "the protocol is not text")?;
    *request.method_mut() = parsed(request.headers(), &METHOD)?;
    *request.version_mut() = Version::HTTP_11;
    *request.body_mut() = body::empty();
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(header::UPGRADE, protocol);
    Ok(())
}

/// Gives an answer the form in which it goes over the wire; `connect` says that its request was a CONNECT.
pub(super) fn answer(response: &mut Response<Body>, connect: bool) {
    strip(response.headers_mut());
    let status = response.status();
    let protocol = response.headers().get(header::UPGRADE).cloned();
    headers::strip_response(response.headers_mut(), StatusCode::OK);
    if !connect {
        return;
    }
    let switched = status == StatusCode::SWITCHING_PROTOCOLS;
    if !switched && !status.is_success() {
        return;
    }
    response.headers_mut().insert(STATUS, HeaderValue::from(status.as_u16()));
    if switched {
        response.headers_mut().remove(header::CONTENT_LENGTH);
        if let Some(protocol) = protocol {
            response.headers_mut().insert(UPGRADE, protocol);
        }
        *response.body_mut() = body::empty();
        *response.status_mut() = StatusCode::OK;
    } else {
        // An answer like any other: on a CONNECT only a failure has a body.
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
}

/// The answer to [`hello`] by this node.
pub(super) fn present() -> Response<Body> {
    Response::new(body::empty())
}

/// The answer that says why there is none.
pub(super) fn refusal(error: &HopError) -> Response<Body> {
    let (status, kind) = match error {
        HopError::Misdirected { .. } => (StatusCode::MISDIRECTED_REQUEST, "misdirected"),
        HopError::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        HopError::Full(_) => (StatusCode::SERVICE_UNAVAILABLE, "full"),
        HopError::Failed(_) => (StatusCode::BAD_GATEWAY, "failed"),
        HopError::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
    };
    let value = match error {
        HopError::Timeout(after) => format!("{kind}: {}", after.0),
        other => format!("{kind}: {other}"),
    };
    refused(status, &value)
}

/// The answer to a request that is not for this node.
pub(super) fn misdirected(reason: &str) -> Response<Body> {
    refused(StatusCode::MISDIRECTED_REQUEST, &format!("misdirected: {reason}"))
}

fn refused(status: StatusCode, value: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(ERROR, text(value));
    response
}

/// Takes the hop's fields out of an answer; `asked` is the protocol that its request asked to switch to.
///
/// # Errors
/// Why there is no answer.
pub(super) fn take_answer<B>(response: &mut Response<B>, asked: Option<&HeaderValue>) -> Result<(), Refusal> {
    if let Some(value) = response.headers().get(ERROR) {
        return Err(take_refusal(&String::from_utf8_lossy(value.as_bytes())));
    }
    let own = response.headers().get(STATUS).and_then(|value| StatusCode::from_bytes(value.as_bytes()).ok());
    if let Some(own) = own {
        *response.status_mut() = own;
    }
    if own == Some(StatusCode::SWITCHING_PROTOCOLS) {
        let protocol = response.headers().get(UPGRADE).or(asked).cloned();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            response.headers_mut().insert(header::UPGRADE, protocol);
        }
        *response.version_mut() = Version::HTTP_11;
    } else if asked.is_some() && response.status() == StatusCode::OK && own.is_none() {
        return Err(Refusal::Failed("the node began a tunnel without saying so".to_owned()));
    }
    strip(response.headers_mut());
    Ok(())
}

fn take_refusal(value: &str) -> Refusal {
    let (kind, reason) = value.split_once(": ").unwrap_or((value, ""));
    let reason = reason.to_owned();
    match kind {
        "misdirected" => Refusal::Misdirected(reason),
        "overloaded" => Refusal::Overloaded(reason),
        "full" => Refusal::Full(reason),
        "timeout" => Refusal::Timeout(Millis(reason.parse().unwrap_or_default())),
        // What a later release may call otherwise surely gave no answer, and who knows where it got to.
        _ => Refusal::Failed(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_reason_arrives_and_never_breaks_the_field(reason in "\\PC{0,400}|[\\x00-\\x7f]{0,400}|x{2000}") {
            let mut response = refusal(&HopError::Failed(reason.clone()));
            let Err(Refusal::Failed(told)) = take_answer(&mut response, None) else { panic!("it was a failure") };
            let plain: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            prop_assert!(plain.starts_with(&told) && told.len() <= REASON_BYTES);
            prop_assert!(told == plain || reason.len() > REASON_BYTES - 20);
        }
    }

    #[test]
    fn every_kind_arrives_as_itself_and_an_unknown_one_as_a_failure() {
        let request = || Box::new(Request::new(body::empty()));
        let reason = || "it is so: yes".to_owned();
        let all = [
            (
                HopError::Misdirected { reason: reason(), request: request() },
                421,
                Refusal::Misdirected(reason()),
            ),
            (
                HopError::Overloaded { reason: reason(), request: request() },
                503,
                Refusal::Overloaded(reason()),
            ),
            (HopError::Full(reason()), 503, Refusal::Full(reason())),
            (HopError::Failed(reason()), 502, Refusal::Failed(reason())),
            (HopError::Timeout(Millis(1500)), 504, Refusal::Timeout(Millis(1500))),
        ];
        for (error, status, told) in all {
            let mut response = refusal(&error);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(take_answer(&mut response, None), Err(told));
        }
        assert_eq!(take_refusal("melted: all of it"), Refusal::Failed("all of it".into()));
    }
}
