//! Where a role of the cluster is reached: a socket file of the same machine, or a port that speaks TLS.

use crate::Problem;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

/// Where a role of the same cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RoleAddress {
    /// A socket file on this machine that only its owner can open, as `unix:/PATH`.
    Socket(PathBuf),
    /// A port, as `HOST:PORT`; what is spoken there is TLS between members.
    Port(HostPort),
}

/// A host and a port, as `HOST:PORT`, where the host is an IPv4 address, an IPv6 address in brackets, or a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    /// In lower case.
    Name(String),
}

/// Longest path of a socket file: `sun_path` of unix(7) less its closing zero.
const SOCKET_PATH_BYTES: usize = 107;
/// Longest name of a host (RFC 1035, 2.3.4).
const HOST_BYTES: usize = 253;
/// Longest label of one.
const LABEL_BYTES: usize = 63;

impl HostPort {
    /// The host, without an IPv6 address's brackets: as a certificate and a resolver take it.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::V4(address) => address.to_string(),
            Host::V6(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// The port; never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl From<std::net::SocketAddr> for HostPort {
    fn from(address: std::net::SocketAddr) -> HostPort {
        let host = match address.ip() {
            std::net::IpAddr::V4(address) => Host::V4(address),
            std::net::IpAddr::V6(address) => Host::V6(address),
        };
        HostPort { host, port: address.port() }
    }
}

impl FromStr for HostPort {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(HOST_BYTES).collect();
            Problem::invalid(format!("address \"{shown}\" {why}")).hint("write it as HOST:PORT")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0);
        let port = port.ok_or_else(|| wrong("has a port that is not 1 to 65535"))?;
        let host = if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| wrong("has a bracket that is not closed"))?;
            Host::V6(inner.parse().map_err(|_| wrong("has no IPv6 address between its brackets"))?)
        } else if host.contains(':') {
            return Err(wrong("has an IPv6 address without brackets").hint("write it as [ADDRESS]:PORT"));
        } else if let Ok(address) = host.parse() {
            Host::V4(address)
        } else if is_host(host) {
            Host::Name(host.to_ascii_lowercase())
        } else {
            return Err(wrong("has a host that is neither an IP address nor a name"));
        };
        Ok(HostPort { host, port })
    }
}

/// Whether a text is a host's name: labels of letters, digits and inner hyphens, of which the last is no number, as
/// that would be an address misspelt.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= HOST_BYTES
        && text.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::V4(address) => write!(f, "{address}:{}", self.port),
            Host::V6(address) => write!(f, "[{address}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl TryFrom<String> for HostPort {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> String {
        address.to_string()
    }
}

impl FromStr for RoleAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let Some(path) = text.strip_prefix("unix:") else {
            return match text.parse() {
                Ok(address) => Ok(RoleAddress::Port(address)),
                Err(problem) => {
                    let problem: Problem = problem;
                    Err(problem.hint("write it as unix:/PATH or HOST:PORT"))
                }
            };
        };
        let wrong =
            |why: &str| Problem::invalid(format!("address \"{text}\" {why}")).hint("write it as unix:/PATH");
        if !path.starts_with('/') {
            return Err(wrong("is not a whole path"));
        }
        if path.len() > SOCKET_PATH_BYTES {
            return Err(wrong(&format!(
                "is longer than the {SOCKET_PATH_BYTES} bytes that a socket's may have"
            ))
            .hint("choose a shorter path with --socket"));
        }
        Ok(RoleAddress::Socket(PathBuf::from(path)))
    }
}

impl fmt::Display for RoleAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoleAddress::Socket(path) => write!(f, "unix:{}", path.display()),
            RoleAddress::Port(address) => address.fmt(f),
        }
    }
}

impl TryFrom<String> for RoleAddress {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

impl From<RoleAddress> for String {
    fn from(address: RoleAddress) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_read_back_as_it_was_written() {
        for text in [
            "unix:/run/tutti/agent.sock",
            "127.0.0.1:7071",
            "[::1]:7071",
            "[fe80::1:2]:1",
            "node-1:65535",
            "n1.example.com:7071",
        ] {
            let address: RoleAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let stored = serde_json::to_string(&address).unwrap();
            assert_eq!(stored, format!("\"{text}\""), "as it was always stored");
            assert_eq!(serde_json::from_str::<RoleAddress>(&stored).unwrap(), address);
        }
        let RoleAddress::Port(address) = "[::1]:7071".parse().unwrap() else { panic!("a port") };
        assert_eq!((address.host().as_str(), address.port()), ("::1", 7071));
        assert_eq!("N1.Example.COM:1".parse::<HostPort>().unwrap().to_string(), "n1.example.com:1");
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is() {
        let long = |bytes: usize| format!("{}:1", vec!["a".repeat(49); bytes / 50 + 1].join("."));
        for wrong in [
            "",
            "agent.sock",
            "unix:agent.sock",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:+1",
            "127.0.0.1:",
            ":7071",
            "300.0.0.1:1",
            "1.2.3:1",
            "::1:7071",
            "[::1:7071",
            "[n1]:7071",
            "[fe80::1%eth0]:1",
            "n 1:1",
            "-a:1",
            "a-:1",
            "a..b:1",
            "a/b:1",
            "http://a:1",
            &format!("{}:1", "a".repeat(64)),
            &long(300),
        ] {
            let problem = wrong.parse::<RoleAddress>().unwrap_err();
            assert!(problem.hint.is_some(), "{wrong}");
        }
        let long = format!("unix:/{}", "a".repeat(107));
        assert!(long.parse::<RoleAddress>().unwrap_err().detail.contains("107"));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_so_that_it_is_read_again(text in "\\[?[a-z0-9.:-]{0,30}\\]?:[0-9]{0,6}") {
            if let Ok(address) = text.parse::<RoleAddress>() {
                prop_assert_eq!(address.to_string().parse::<RoleAddress>().unwrap(), address);
            }
        }
    }
}
