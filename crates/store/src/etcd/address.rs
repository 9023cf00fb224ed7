//! Where an etcd cluster is, and which of its keys are the store's: `etcd://HOST:PORT[,HOST:PORT…][?prefix=NAME]`.

use std::{fmt, str::FromStr};
use tonic::codegen::http::uri::Authority;

/// Members that may be named. etcd advises at most seven; more are a mistake in the list.
const MEMBERS: usize = 16;
/// Where etcd listens for clients unless told otherwise.
const PORT: &str = "2379";
/// What stands before the store's keys unless told otherwise, so that a cluster can be shared.
const PREFIX: &str = "tutti";
/// Longest prefix, in bytes.
const PREFIX_BYTES: usize = 128;

/// Where an etcd cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdAddress {
    /// `HOST:PORT` of its members, at least one; the first that answers is used.
    pub members: Vec<String>,
    /// What stands, with a slash after it, before each of the store's keys.
    pub prefix: String,
}

impl fmt::Display for EtcdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}", self.members.join(","))?;
        if self.prefix == PREFIX { Ok(()) } else { write!(f, "?prefix={}", self.prefix) }
    }
}

impl FromStr for EtcdAddress {
    type Err = String;

    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("etcd://").ok_or("write etcd://HOST:PORT[,HOST:PORT…]")?;
        let (places, options) = rest.split_once('?').unwrap_or((rest, ""));
        let places = places.strip_suffix('/').unwrap_or(places);
        if places.contains('@') {
            return Err("this release reaches etcd without a user and password".into());
        }
        if places.contains('/') {
            return Err("write what stands before the keys as ?prefix=NAME".into());
        }
        let members = places.split(',').map(member).collect::<Result<Vec<_>, _>>()?;
        if members.len() > MEMBERS {
            return Err(format!("{} members are named; at most {MEMBERS} are allowed", members.len()));
        }
        let mut prefix = PREFIX.to_owned();
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("prefix", name)) => prefix = self::prefix(name)?,
                _ => return Err(format!("\"{option}\" is not known; there is ?prefix=NAME")),
            }
        }
        Ok(EtcdAddress { members, prefix })
    }
}

fn member(text: &str) -> Result<String, String> {
    let whole = match text.rsplit_once(':') {
        Some((host, _)) if !host.is_empty() && !text.ends_with(']') => text.to_owned(),
        None if !text.is_empty() => format!("{text}:{PORT}"),
        _ if text.starts_with('[') => format!("{text}:{PORT}"),
        _ => return Err(format!("\"{text}\" is not HOST:PORT")),
    };
    let authority: Authority = whole.parse().map_err(|_| format!("\"{text}\" is not HOST:PORT"))?;
    match authority.port_u16() {
        Some(1..) => Ok(whole),
        _ => Err(format!("\"{text}\" has no port from 1 to 65535")),
    }
}

fn prefix(name: &str) -> Result<String, String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    if name.is_empty() || name.len() > PREFIX_BYTES || !name.chars().all(fits) || name.ends_with('/') {
        return Err(format!(
            "the prefix \"{name}\" is not 1 to {PREFIX_BYTES} letters, digits, and - _ . / between them"
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_members_and_prefix() {
        let address: EtcdAddress = "etcd://a:1,10.0.0.1,[::1]:2,[::1]?prefix=team/prod".parse().unwrap();
        assert_eq!(address.members, ["a:1", "10.0.0.1:2379", "[::1]:2", "[::1]:2379"]);
        assert_eq!(address.prefix, "team/prod");
        assert_eq!(address.to_string(), "etcd://a:1,10.0.0.1:2379,[::1]:2,[::1]:2379?prefix=team/prod");
        let address: EtcdAddress = "etcd://a/".parse().unwrap();
        assert_eq!((address.to_string().as_str(), address.prefix.as_str()), ("etcd://a:2379", "tutti"));
    }

    #[test]
    fn says_what_is_wrong() {
        let many = format!("etcd://{}", vec!["a"; MEMBERS + 1].join(","));
        let long = format!("etcd://a?prefix={}", "p".repeat(PREFIX_BYTES + 1));
        for (text, part) in [
            ("http://a", "write etcd://"),
            ("etcd://", "is not HOST:PORT"),
            ("etcd://a:1,", "is not HOST:PORT"),
            ("etcd://:2379", "is not HOST:PORT"),
            ("etcd://a:b", "has no port"),
            ("etcd://a:0", "has no port"),
            ("etcd://a:70000", "has no port"),
            ("etcd://user:password@a:1", "without a user and password"),
            ("etcd://a:1/prod", "?prefix=NAME"),
            ("etcd://a?prefx=b", "\"prefx=b\" is not known"),
            ("etcd://a?prefix=", "the prefix \"\""),
            ("etcd://a?prefix=a/", "the prefix \"a/\""),
            (many.as_str(), "17 members"),
            (long.as_str(), "the prefix"),
        ] {
            let error = EtcdAddress::from_str(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
