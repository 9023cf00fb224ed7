//! Secrets: values that versions are given in their environment, and that nothing and nobody else is shown.
//!
//! What is stored of a value is sealed; this module knows neither the value nor how it is sealed.

use crate::{DomainName, Kind, Problem, Timestamp, resource::Object};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The name of a secret inside its domain: 1 to 63 of a-z, 0-9 and inner hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

impl SecretName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if crate::name::is_dns_label(text) {
            return Ok(SecretName(text.to_owned()));
        }
        // What does not fit may be the value, given in the wrong place: it is not said again.
        Err(Problem::invalid(
            "the name of a secret is 1 to 63 of a-z, 0-9 and inner hyphens, such as api-key",
        ))
    }
}

impl TryFrom<String> for SecretName {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> String {
        name.0
    }
}

/// A secret with its domain: `example.com:api-key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretRef {
    /// The domain.
    pub domain: DomainName,
    /// The secret's name in it.
    pub name: SecretName,
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.domain, self.name)
    }
}

impl FromStr for SecretRef {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let Some((domain, name)) = text.split_once(':') else {
            return Err(Problem::invalid("a secret is named DOMAIN:NAME, such as example.com:api-key"));
        };
        Ok(SecretRef { domain: domain.parse()?, name: name.parse()? })
    }
}

impl TryFrom<String> for SecretRef {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(secret: SecretRef) -> String {
        secret.to_string()
    }
}

/// What was asked of a secret. Its generation counts how often its value was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSpec {
    /// Its full name; the object's `name` is this as text.
    pub secret: SecretRef,
    /// The value, sealed. The API never shows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sealed: String,
}

/// When a secret was set last, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SecretStatus {
    /// When.
    #[serde(default)]
    pub changed_at: Timestamp,
    /// By whom: `user NAME` or `token NAME`.
    #[serde(default)]
    pub changed_by: String,
}

impl Object for SecretSpec {
    type Status = SecretStatus;
    const KIND: Kind = Kind::Secret;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_or_are_refused_without_being_repeated() {
        let secret: SecretRef = "example.com:api-key".parse().unwrap();
        assert_eq!((secret.domain.as_str(), secret.name.as_str()), ("example.com", "api-key"));
        assert_eq!(secret.to_string(), "example.com:api-key");
        for bad in
            ["hunter2!", "", "example.com:", "example.com:API_KEY", "example.com:-a", "example.com:a:b"]
        {
            let problem = bad.parse::<SecretRef>().unwrap_err();
            assert!(!problem.detail.contains("hunter2"), "{problem}");
        }
        assert!("a".repeat(63).parse::<SecretName>().is_ok());
        assert!("a".repeat(64).parse::<SecretName>().is_err());
    }
}
