//! Routes: host and path prefix to service.

use crate::{Kind, Problem, ServiceRef, limits, resource::Object};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What a request must match: a host, and a path prefix that ends at a segment's border.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteMatch {
    /// Host in lower case without a port, or `*` for any.
    pub host: String,
    /// Path prefix: `/`, or `/` and segments without a trailing slash.
    pub path: String,
}

impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if self.path == "/" { Ok(()) } else { f.write_str(&self.path) }
    }
}

impl FromStr for RouteMatch {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| Problem::invalid(format!("route \"{text}\" {why}"));
        let (host, path) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, "/"),
        };
        if host.is_empty() {
            return Err(wrong("has no host: write HOST or HOST/PATH, such as shop.example.com/api"));
        }
        if host.contains("://") || text.contains("://") {
            return Err(wrong("has a scheme: leave out \"http://\""));
        }
        if host.contains(':') {
            return Err(wrong("has a port: a route matches a host on every port"));
        }
        let host = host.to_ascii_lowercase();
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(letters)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if host != "*" && (host.len() > limits::DOMAIN_NAME_BYTES || !host.split('.').all(label)) {
            return Err(wrong("has a host that is not a DNS name"));
        }
        let path = match path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let visible = |byte: u8| (0x21..=0x7e).contains(&byte) && !matches!(byte, b'?' | b'#' | b'%' | b'\\');
        if path.len() > 512 || !path.bytes().all(visible) || path.contains("//") {
            return Err(wrong("has a path that is not plain segments of at most 512 characters"));
        }
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(wrong("has a path with . or .. in it"));
        }
        Ok(RouteMatch { host, path: path.to_owned() })
    }
}

impl TryFrom<String> for RouteMatch {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

impl From<RouteMatch> for String {
    fn from(route: RouteMatch) -> String {
        route.to_string()
    }
}

/// What was asked of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// What requests it takes; the object's `name` is this as text.
    pub r#match: RouteMatch,
    /// Where they go.
    pub service: ServiceRef,
}

/// Nothing is known of a route beyond its spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouteStatus {}

impl Object for RouteSpec {
    type Status = RouteStatus;
    const KIND: Kind = Kind::Route;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_read_back_or_are_refused() {
        for (text, host, path) in [
            ("Shop.Example.com", "shop.example.com", "/"),
            ("shop.example.com/", "shop.example.com", "/"),
            ("shop.example.com/api/v1/", "shop.example.com", "/api/v1"),
            ("*/com.example.HelloWorld", "*", "/com.example.HelloWorld"),
        ] {
            let route: RouteMatch = text.parse().unwrap();
            assert_eq!((route.host.as_str(), route.path.as_str()), (host, path));
            assert_eq!(route.to_string().parse::<RouteMatch>().unwrap(), route);
        }
        for bad in [
            "",
            "/api",
            "http://a.com",
            "a.com:80",
            "a_b.com",
            "a.com/../b",
            "a.com//b",
            "a.com/x?y",
            "-a.com",
        ] {
            assert!(bad.parse::<RouteMatch>().is_err(), "{bad}");
        }
    }
}
