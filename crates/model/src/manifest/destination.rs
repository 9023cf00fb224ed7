//! Where a component may send requests: an entry of `outgoing`.

use crate::{Problem, limits};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

/// A host, and a port unless it is that of the request's scheme. Text: `api.example.org`, `*.example.net:8080`,
/// `10.0.0.7`, `[fd00::1]:9000`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    /// Which hosts.
    pub host: Host,
    /// Which port; without one, 80 for `http` and 443 for `https`.
    pub port: Option<u16>,
}

/// One host, or those below a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// This name, in lower case.
    Name(String),
    /// Every name below this one, but not this one.
    Below(String),
    /// This address, which may also be a private one.
    Address(IpAddr),
}

impl Destination {
    /// Whether a request to this host and port may be sent. `default_port` is that of the request's scheme.
    #[must_use]
    pub fn allows(&self, host: &str, port: u16, default_port: u16) -> bool {
        self.port.unwrap_or(default_port) == port && self.host.is(host)
    }
}

impl Host {
    fn is(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Host::Name(name) => host.eq_ignore_ascii_case(name),
            Host::Below(name) => {
                let Some(split) = host.len().checked_sub(name.len()).filter(|split| *split > 1) else {
                    return false;
                };
                match (host.get(..split), host.get(split..)) {
                    (Some(front), Some(end)) => front.ends_with('.') && end.eq_ignore_ascii_case(name),
                    _ => false,
                }
            }
            Host::Address(address) => unbracketed(host).parse() == Ok(*address),
        }
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Below(name) => write!(f, "*.{name}")?,
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for Destination {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| Problem::invalid(format!("\"{text}\" {why}"));
        let shape = || wrong("is not a host: write a name, *.NAME or an address, and :PORT if need be");
        let (host, port) = match text.rsplit_once(':') {
            // An address of version 6 has colons of its own.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (text, None),
            Some((host, port)) => {
                let number = port.parse().ok().filter(|port| *port != 0);
                (host, Some(number.ok_or_else(|| wrong("has no port from 1 to 65535"))?))
            }
            None => (text, None),
        };
        let host = match unbracketed(host).parse() {
            Ok(address) => Host::Address(address),
            Err(_) => match host.strip_prefix("*.") {
                Some(below) => Host::Below(name(below).ok_or_else(shape)?),
                None => Host::Name(name(host).ok_or_else(shape)?),
            },
        };
        Ok(Destination { host, port })
    }
}

/// A host's name in lower case.
fn name(text: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next()?;
    // What looks like an address and is none must not be a name either.
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    let valid = text.len() <= limits::DOMAIN_NAME_BYTES && text.split('.').all(label) && !is_number;
    valid.then(|| text.to_ascii_lowercase())
}

impl TryFrom<String> for Destination {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> String {
        destination.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_what_it_names_and_nothing_else() {
        let allows =
            |entry: &str, host: &str, port: u16| entry.parse::<Destination>().unwrap().allows(host, port, 80);
        assert!(allows("api.example.org", "API.example.org", 80));
        assert!(allows("api.example.org", "api.example.org.", 80));
        assert!(!allows("api.example.org", "api.example.org", 81));
        assert!(!allows("api.example.org", "xapi.example.org", 80));
        assert!(!allows("api.example.org", "a.api.example.org", 80));
        assert!(allows("*.example.net:8080", "a.b.example.net", 8080));
        assert!(!allows("*.example.net:8080", "a.example.net", 80));
        assert!(!allows("*.example.net", "example.net", 80));
        assert!(!allows("*.example.net", ".example.net", 80));
        assert!(!allows("*.example.net", "aexample.net", 80));
        assert!(!allows("*.example.net", "é.example.net.evil", 80));
        assert!(allows("10.0.0.7", "10.0.0.7", 80));
        assert!(allows("[fd00::1]:9000", "[fd00:0::1]", 9000));
        assert!(allows("fd00::1", "fd00::1", 80));
    }

    #[test]
    fn is_read_as_it_is_written() {
        for text in ["api.example.org", "*.example.net:8080", "10.0.0.7", "[fd00::1]:9000", "localhost:1"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        for wrong in
            ["", "*", "*.", "http://a", "a b", "a:0", "a:70000", "a:", "1.2.3", "a..b", "-a", "a.*", "*.*.a"]
        {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }
}
