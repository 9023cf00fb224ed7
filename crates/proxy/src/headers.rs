//! What may be passed on: fields that belong to one connection only are taken out, both ways (RFC 9110, 7.6.1), and
//! who the client was is said anew.

use crate::grpc;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};
use std::net::IpAddr;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Removed whenever they appear. `Trailer` stays: it describes the message, and trailers are passed on.
const HOP_BY_HOP: [HeaderName; 7] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HTTP2_SETTINGS,
];

/// Readies a request's fields for the next hop. A request to switch protocols keeps exactly that; `h2c` is never
/// passed on, as the upgrade would take the connection out of our sight. `TE: trailers` stays for gRPC, which demands it.
pub fn strip_request(headers: &mut HeaderMap, version: Version) {
    let upgrade = if version == Version::HTTP_11 { upgrade_of(headers) } else { None };
    let trailers = headers.contains_key(TE) && grpc::is_grpc(headers) && lists(headers, &TE, "trailers");
    strip(headers);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, TRAILERS);
    }
    keep_upgrade(headers, upgrade);
}

/// Readies an answer's fields for the way back.
pub fn strip_response(headers: &mut HeaderMap, status: StatusCode) {
    let upgrade = if status == StatusCode::SWITCHING_PROTOCOLS { upgrade_of(headers) } else { None };
    strip(headers);
    keep_upgrade(headers, upgrade);
}

/// The protocol a message asks to switch to, if it may be passed on.
#[must_use]
pub fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let is_http = protocol.to_str().map_or(true, |text| {
        text.split(',').any(|one| one.trim().get(..2).is_some_and(|start| start.eq_ignore_ascii_case("h2")))
    });
    (!is_http && lists(headers, &CONNECTION, "upgrade")).then(|| protocol.clone())
}

fn keep_upgrade(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .into_iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
            // A sender must not list these (RFC 9110, 7.6.1), and without them the message would be another.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH && *name != TE)
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Who the client is, made once for each connection; see [`ClientAddress::stamp`].
#[derive(Debug, Clone)]
pub struct ClientAddress {
    plain: HeaderValue,
    node: String,
}

impl ClientAddress {
    /// For a client at this address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let plain =
            HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        let node = match address {
            IpAddr::V4(address) => format!("for={address}"),
            IpAddr::V6(address) => format!("for=\"[{address}]\""),
        };
        ClientAddress { plain, node }
    }

    /// Says in `X-Forwarded-*` and `Forwarded` (RFC 7239) who asked, by which protocol, for which host. What a client
    /// said itself is dropped: it is not trusted.
    pub fn stamp(&self, headers: &mut HeaderMap, protocol: &'static str) {
        let host = headers.get(HOST).cloned();
        let mut forwarded = String::with_capacity(96);
        forwarded.push_str(&self.node);
        if let Some(host) = host.as_ref().and_then(|host| host.to_str().ok()) {
            forwarded.push_str(";host=\"");
            forwarded.extend(host.chars().filter(|letter| !matches!(letter, '"' | '\\')));
            forwarded.push('"');
        }
        forwarded.push_str(";proto=");
        forwarded.push_str(protocol);
        if let Ok(value) = HeaderValue::try_from(forwarded) {
            headers.insert(FORWARDED, value);
        }
        headers.insert(X_FORWARDED_FOR, self.plain.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(protocol));
        match host {
            Some(host) => headers.insert(X_FORWARDED_HOST, host),
            None => headers.remove(X_FORWARDED_HOST),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn takes_out_what_belongs_to_the_connection() {
        let mut headers = map(&[
            ("host", "a.com"),
            ("connection", "close, X-Secret"),
            ("connection", "host"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "basic x"),
            ("trailer", "x-sum"),
            ("accept", "*/*"),
        ]);
        strip_request(&mut headers, Version::HTTP_11);
        assert_eq!(headers, map(&[("host", "a.com"), ("trailer", "x-sum"), ("accept", "*/*")]));
    }

    #[test]
    fn keeps_an_upgrade_but_never_to_h2c() {
        let mut headers = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        strip_request(&mut headers, Version::HTTP_11);
        assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket")]));
        for protocol in ["h2c", "H2C", "websocket, h2c"] {
            let mut headers = map(&[
                ("connection", "Upgrade, HTTP2-Settings"),
                ("upgrade", protocol),
                ("http2-settings", "x"),
            ]);
            strip_request(&mut headers, Version::HTTP_11);
            assert!(headers.is_empty(), "{headers:?}");
        }
    }

    #[test]
    fn keeps_te_trailers_for_grpc() {
        let mut headers = map(&[("te", "gzip, trailers"), ("content-type", "application/grpc")]);
        strip_request(&mut headers, Version::HTTP_2);
        assert_eq!(headers.get("te").unwrap(), "trailers");
    }

    #[test]
    fn says_who_asked_and_believes_no_client() {
        let mut headers = map(&[
            ("host", "a.com:80"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "7.7.7.7"),
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-proto", "https"),
        ]);
        ClientAddress::new("::ffff:10.0.0.1".parse().unwrap()).stamp(&mut headers, "http");
        let fields = [
            ("host", "a.com:80"),
            ("forwarded", "for=10.0.0.1;host=\"a.com:80\";proto=http"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a.com:80"),
        ];
        assert_eq!(headers, map(&fields));
    }
}
