//! Ingresses: who must have seen a table before an instance may drain.

use crate::{Kind, resource::Object};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// A living ingress. The object is bound to the ingress's lease and goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IngressSpec {
    /// Where it listens for HTTP.
    pub http: String,
    /// Its release; empty for one that says none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub release: String,
    /// The addresses at which clients reach it, where they are others than the one it listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

impl IngressSpec {
    /// The addresses that names may lead to: those that it says, else the one that it listens on. None, if it listens on
    /// all of its machine's and says no more.
    #[must_use]
    pub fn reached_at(&self) -> Vec<IpAddr> {
        if !self.addresses.is_empty() {
            return self.addresses.clone();
        }
        let listens = self.http.parse::<SocketAddr>().ok().map(|listens| listens.ip());
        listens.filter(|address| !address.is_unspecified()).into_iter().collect()
    }
}

/// What an ingress reports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IngressStatus {
    /// The store revision up to which it has applied every table.
    #[serde(default)]
    pub reached: u64,
}

impl Object for IngressSpec {
    type Status = IngressStatus;
    const KIND: Kind = Kind::Ingress;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_ingress_says_comes_before_where_it_listens() {
        let of = |http: &str, addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            IngressSpec { http: http.into(), addresses, ..IngressSpec::default() }.reached_at()
        };
        assert_eq!(of("192.0.2.1:80", &[]), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(of("[2001:db8::1]:80", &[]), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(of("192.0.2.1:80", &["198.51.100.7"]), ["198.51.100.7".parse::<IpAddr>().unwrap()]);
        assert!(of("0.0.0.0:80", &[]).is_empty() && of("[::]:80", &[]).is_empty() && of("", &[]).is_empty());
    }
}
