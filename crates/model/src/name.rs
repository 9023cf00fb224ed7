//! Names of domains, services and versions: their rules, their texts, and the error for each way to get one wrong.
//!
//! A service is written `com.example.HelloWorld` (its domain is the reversed package, the longest registered one
//! wins) or, explicitly, `example.com:com.example.HelloWorld` or `example.com:web`. A version is a service and
//! `@VERSION`.

use crate::{Problem, limits};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

macro_rules! text_type {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = Problem;

            fn try_from(text: String) -> Result<Self, Problem> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.to_string()
            }
        }
    };
}

macro_rules! plain_name {
    ($name:ident) => {
        text_type!($name);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use {plain_name, text_type};

/// Letters, digits and inner hyphens, 1 to 63 of them, starting with a letter or digit (RFC 1123, 2.1).
pub(crate) fn is_dns_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A tenant's namespace, such as `example.com`: a DNS name in lower case of at least two labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);
plain_name!(DomainName);

impl FromStr for DomainName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| Err(Problem::invalid(format!("domain \"{text}\" {why}")));
        if text.is_empty() {
            return Err(Problem::invalid("a domain's name is missing"));
        }
        if text.len() > limits::DOMAIN_NAME_BYTES {
            return wrong(&format!("is longer than {} characters", limits::DOMAIN_NAME_BYTES));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            // What is suggested must not be refused in its turn.
            return match near_domain(text) {
                Some(near) => wrong(&format!("has upper-case letters: write \"{near}\"")),
                None => wrong(
                    "has upper-case letters: write labels of a-z, 0-9 and inner hyphens, such as example.com",
                ),
            };
        }
        if let Some(label) = text.split('.').find(|label| !is_dns_label(label)) {
            let rule = format!("has the label \"{label}\": a label is 1 to 63 of a-z, 0-9 and inner hyphens");
            return match near_domain(text) {
                Some(near) => wrong(&format!("{rule}, as in \"{near}\"")),
                None => wrong(&rule),
            };
        }
        if !text.contains('.') {
            return wrong("has one label: write at least two, such as example.com");
        }
        Ok(DomainName(text.to_owned()))
    }
}

/// The domain that a wrong name was probably meant to be, if there is one.
fn near_domain(text: &str) -> Option<DomainName> {
    let near = text.to_ascii_lowercase().replace('_', "-");
    if near == text { None } else { near.parse().ok() }
}

impl DomainName {
    /// The labels in package order: `example.com` is `com.example`.
    #[must_use]
    pub fn reversed(&self) -> String {
        self.0.split('.').rev().collect::<Vec<_>>().join(".")
    }
}

/// The name of a service inside its domain: an application label (`web`) or a full protobuf service name
/// (`com.example.HelloWorld`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);
plain_name!(ServiceName);

impl ServiceName {
    /// Whether this is a full protobuf service name, by which gRPC requests find it.
    #[must_use]
    pub fn is_qualified(&self) -> bool {
        self.0.contains('.')
    }

    /// Whether this lies in a domain's package: `com.example.shop.Cart` in that of `example.com`.
    #[must_use]
    pub fn is_of(&self, domain: &DomainName) -> bool {
        self.0.strip_prefix(&domain.reversed()).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Whether its package reads as that of a domain: it has two parts or more, versions at its end (`v1`, `v1beta2`)
    /// not counted. Whether there is such a domain does not matter, so that nobody learns it from a refusal.
    #[must_use]
    pub fn reads_as_a_domains(&self) -> bool {
        let is_version = |part: &str| {
            part.strip_prefix('v')
                .is_some_and(|rest| rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit()))
        };
        let mut package: Vec<&str> = self.0.split('.').collect();
        package.pop();
        while package.last().is_some_and(|part| is_version(part)) {
            package.pop();
        }
        package.len() >= 2
    }

    /// The last part, in lower case, as a DNS label for automatic hosts.
    #[must_use]
    pub fn host_label(&self) -> String {
        let last = self.0.rsplit('.').next().unwrap_or(&self.0);
        last.to_ascii_lowercase().replace('_', "-")
    }
}

impl FromStr for ServiceName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| Err(Problem::invalid(format!("service \"{text}\" {why}")));
        if text.is_empty() {
            return Err(Problem::invalid("a service's name is missing"));
        }
        if text.len() > limits::SERVICE_NAME_BYTES {
            return wrong(&format!("is longer than {} characters", limits::SERVICE_NAME_BYTES));
        }
        if !text.contains('.') {
            let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
            if !starts || !is_dns_label(text) {
                return wrong(
                    "is not an application's name: it starts with a-z, goes on with a-z, 0-9 and inner hyphens, \
                     and has at most 63 of them",
                );
            }
            return Ok(ServiceName(text.to_owned()));
        }
        let identifier = |part: &str| {
            part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if let Some(part) = text.split('.').find(|part| !identifier(part)) {
            return wrong(&format!(
                "has the part \"{part}\": each part starts with a letter or _ and goes on with letters, digits and _"
            ));
        }
        if !text
            .rsplit('.')
            .next()
            .is_some_and(|last| is_dns_label(&last.to_ascii_lowercase().replace('_', "-")))
        {
            return wrong(
                "ends in a part that cannot be a host name: at most 63 characters, no _ at either end",
            );
        }
        Ok(ServiceName(text.to_owned()))
    }
}

/// A service with its domain: `example.com:web`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceRef {
    /// The domain it lives in.
    pub domain: DomainName,
    /// Its name there.
    pub service: ServiceName,
}
text_type!(ServiceRef);

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.domain, self.service)
    }
}

impl FromStr for ServiceRef {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.parse::<ServiceText>()? {
            ServiceText { domain: Some(domain), service } => Ok(ServiceRef { domain, service }),
            ServiceText { domain: None, .. } => {
                Err(Problem::invalid(format!("\"{text}\" does not say its domain: write DOMAIN:{text}")))
            }
        }
    }
}

impl ServiceRef {
    /// This service at that version.
    #[must_use]
    pub fn at(&self, version: VersionName) -> VersionRef {
        VersionRef { service: self.clone(), version }
    }
}

/// A service as a person types it, whose domain may still have to be found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceText {
    /// The domain, where it was given.
    pub domain: Option<DomainName>,
    /// The service's name.
    pub service: ServiceName,
}
text_type!(ServiceText);

impl fmt::Display for ServiceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.domain {
            Some(domain) => write!(f, "{domain}:{}", self.service),
            None => write!(f, "{}", self.service),
        }
    }
}

impl FromStr for ServiceText {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if text.contains('@') {
            return Err(Problem::invalid(format!(
                "\"{text}\" names a version: a service is wanted, without \"@…\""
            )));
        }
        Ok(match text.split_once(':') {
            Some((domain, service)) => {
                ServiceText { domain: Some(domain.parse()?), service: service.parse()? }
            }
            None => ServiceText { domain: None, service: text.parse()? },
        })
    }
}

impl ServiceText {
    /// Finds the domain among the registered ones: the given one, else the longest whose reversed labels are a prefix
    /// of the service's package.
    ///
    /// # Errors
    /// `not_found` if the given domain is not registered, `invalid` if none fits.
    pub fn resolve(&self, registered: &BTreeSet<DomainName>) -> Result<ServiceRef, Problem> {
        if let Some(domain) = &self.domain {
            if registered.contains(domain) {
                return Ok(ServiceRef { domain: domain.clone(), service: self.service.clone() });
            }
            let near = crate::nearest::nearest(domain.as_str(), registered.iter().map(DomainName::as_str));
            let problem = Problem::not_found("domain", domain);
            return Err(match near {
                Some(near) => problem.hint(format!("did you mean \"{near}:{}\"?", self.service)),
                None => problem.hint(format!("create it with: tutti domain create {domain}")),
            });
        }
        if !self.service.is_qualified() {
            return Err(Problem::invalid(format!("service \"{}\" does not say its domain", self.service))
                .hint(match registered.first() {
                    Some(domain) => format!("write DOMAIN:{0}, such as {domain}:{0}", self.service),
                    None => format!("write DOMAIN:{}", self.service),
                }));
        }
        let package = self.service.as_str();
        registered
            .iter()
            .filter(|domain| {
                let prefix = domain.reversed();
                package.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('.'))
            })
            .max_by_key(|domain| domain.as_str().len())
            .map(|domain| ServiceRef { domain: domain.clone(), service: self.service.clone() })
            .ok_or_else(|| {
                Problem::new(
                    crate::ErrorCode::NotFound,
                    format!("no registered domain fits the package of service \"{package}\""),
                )
                .hint(format!("name one explicitly, as in example.com:{package}"))
            })
    }
}

/// The name of a version, such as `1.0` or `2.1.0-rc1`: one to three numbers, then an optional pre-release of one
/// identifier. At most 63 characters, no `+build`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionName(String);
plain_name!(VersionName);

impl FromStr for VersionName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| Err(Problem::invalid(format!("version \"{text}\" {why}")));
        if text.is_empty() {
            return Err(Problem::invalid(
                "a version is missing: write NAME@VERSION, such as example.com:web@1.0",
            ));
        }
        if text.len() > limits::VERSION_NAME_BYTES {
            return wrong(&format!("is longer than {} characters", limits::VERSION_NAME_BYTES));
        }
        if text.contains('+') {
            return wrong("has build metadata: leave out \"+…\"");
        }
        let (numbers, pre) = match text.split_once('-') {
            Some((numbers, pre)) => (numbers, Some(pre)),
            None => (text, None),
        };
        let number = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && (part == "0" || !part.starts_with('0'))
        };
        if numbers.split('.').count() > 3 || !numbers.split('.').all(number) {
            return wrong(
                "does not start with one to three numbers without leading zeros, such as 1.0 or 1.0.2",
            );
        }
        if let Some(pre) = pre {
            let letters =
                pre.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            if pre.is_empty() || !letters || pre.ends_with('-') {
                return wrong(
                    "has a pre-release that is not one identifier: use a-z, 0-9 and inner hyphens, as in 1.0-rc1",
                );
            }
        }
        Ok(VersionName(text.to_owned()))
    }
}

/// A version with its service: `example.com:web@1.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRef {
    /// The service.
    pub service: ServiceRef,
    /// The version's name.
    pub version: VersionName,
}
text_type!(VersionRef);

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.service, self.version)
    }
}

impl FromStr for VersionRef {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (service, version) = split_version(text)?;
        Ok(VersionRef { service: service.parse()?, version })
    }
}

/// A version as a person types it: `com.example.HelloWorld@1.0` or `example.com:web@1.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionText {
    /// The service, whose domain may still have to be found.
    pub service: ServiceText,
    /// The version's name.
    pub version: VersionName,
}
text_type!(VersionText);

impl fmt::Display for VersionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.service, self.version)
    }
}

impl FromStr for VersionText {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let (service, version) = split_version(text)?;
        Ok(VersionText { service: service.parse()?, version })
    }
}

fn split_version(text: &str) -> Result<(&str, VersionName), Problem> {
    let Some((service, version)) = text.split_once('@') else {
        return Err(Problem::invalid(format!(
            "\"{text}\" has no version: write NAME@VERSION, such as {text}@1.0"
        )));
    };
    Ok((service, version.parse()?))
}

/// The name of a node: a DNS label, by default the machine's host name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);
plain_name!(NodeName);

impl FromStr for NodeName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if is_dns_label(text) {
            return Ok(NodeName(text.to_owned()));
        }
        Err(Problem::invalid(format!("node \"{text}\" is not 1 to 63 of a-z, 0-9 and inner hyphens")))
    }
}

/// The name of a zone: `provider/name`, such as `aws/us-east-1-bos-1a`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(String);
plain_name!(ZoneName);

impl FromStr for ZoneName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.split_once('/') {
            Some(("all", _)) => Err(Problem::invalid(format!(
                "zone \"{text}\": the provider \"all\" names regions, never zones"
            ))),
            Some((provider, name)) if is_dns_label(provider) && is_dns_label(name) => {
                Ok(ZoneName(text.to_owned()))
            }
            _ => Err(Problem::invalid(format!(
                "zone \"{text}\" is not PROVIDER/NAME, each 1 to 63 of a-z, 0-9 and inner hyphens"
            ))),
        }
    }
}

impl ZoneName {
    /// The one zone of a single machine.
    #[must_use]
    pub fn local() -> Self {
        ZoneName("local/main".to_owned())
    }
}

#[cfg(test)]
mod tests;
