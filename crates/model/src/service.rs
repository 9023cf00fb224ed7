//! Services: what is served, inside a domain.

use crate::{DeploymentId, Kind, Problem, ServiceRef, Share, Split, limits, resource::Object};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What was asked of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its full name; the object's `name` is this as text.
    pub service: ServiceRef,
    /// Plain addresses that serve it, instead of versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
    /// How many workers serve it at its whole traffic; `None` leaves it to the manifest's `min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
}

/// What is decided for a service; written with its deployment, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// How its versions are to share the traffic now.
    #[serde(default)]
    pub split: Split,
    /// The split before the last finished change, for `rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Split>,
    /// The unfinished deployment, which is the service's lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Raised whenever `split` or `hold` changes; zones report the round they act on.
    #[serde(default)]
    pub round: u64,
    /// Whether zones are to make everything ready for `split` but leave the weights as they are: a deployment that was
    /// paused before its weights shifted.
    #[serde(default)]
    pub hold: bool,
}

impl Object for ServiceSpec {
    type Status = ServiceStatus;
    const KIND: Kind = Kind::Service;
}

impl ServiceStatus {
    /// The share that the last decision gives `version`.
    #[must_use]
    pub fn share(&self, version: &crate::VersionName) -> Share {
        self.split.share(version)
    }
}

/// A plain upstream address, `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Upstream {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Port, from 1.
    pub port: u16,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Upstream {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            Problem::invalid(format!(
                "upstream \"{text}\" is not HOST:PORT, such as 10.0.0.7:8080 or [::1]:8080"
            ))
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(wrong()),
            None => host,
        };
        let bare_v6 = host.contains(':') && !text.starts_with('[');
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || bare_v6 || host.len() > limits::DOMAIN_NAME_BYTES || !host.bytes().all(letters)
        {
            return Err(wrong());
        }
        Ok(Upstream { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for Upstream {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

impl From<Upstream> for String {
    fn from(upstream: Upstream) -> String {
        upstream.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_read_back_or_are_refused() {
        for good in ["10.0.0.7:8080", "db.internal:5432", "[::1]:80"] {
            assert_eq!(good.parse::<Upstream>().unwrap().to_string(), good);
        }
        for bad in ["", "host", "host:", ":80", "host:0", "host:70000", "::1:80", "[zz]:80", "a b:80"] {
            assert!(bad.parse::<Upstream>().is_err(), "{bad}");
        }
    }
}
