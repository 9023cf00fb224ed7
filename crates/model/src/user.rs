//! Users: people who belong to domains. Who has which role stands with each domain; what is here is that there is
//! such a person.

use crate::{DomainName, Kind, Problem, limits, resource::Object};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The name of a user: a handle (`ada`) or an address as of e-mail (`ada@example.com`), in lower case.
///
/// No handle has a dot, so that it is never a domain's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

impl UserName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for UserName {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> String {
        name.0
    }
}

impl FromStr for UserName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| Err(Problem::invalid(format!("user \"{text}\" {why}")));
        if text.is_empty() {
            return Err(Problem::invalid("a user's name is missing"));
        }
        if text.len() > limits::USER_NAME_BYTES {
            return wrong(&format!("is longer than {} characters", limits::USER_NAME_BYTES));
        }
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            // What is suggested must not be refused in its turn.
            return match text.to_ascii_lowercase().parse::<UserName>() {
                Ok(near) => wrong(&format!("has upper-case letters: write \"{near}\"")),
                Err(_) => wrong("has upper-case letters: write a-z"),
            };
        }
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = |part: &str| {
            part.bytes().next().is_some_and(alphanumeric) && part.bytes().last().is_some_and(alphanumeric)
        };
        match text.split_once('@') {
            None => {
                let letters = text.bytes().all(|byte| alphanumeric(byte) || byte == b'-');
                if text.len() > 63 || !letters || !ends(text) {
                    return wrong(
                        "is neither a handle (1 to 63 of a-z, 0-9 and inner hyphens) nor an address such as \
                         ada@example.com",
                    );
                }
            }
            Some((local, domain)) => {
                let letters =
                    local.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'.' | b'_' | b'+'));
                if local.len() > 64 || !letters || !ends(local) || local.contains("..") {
                    return wrong(
                        "has before its @ something else than 1 to 64 of a-z, 0-9 and inner . _ + -",
                    );
                }
                if let Err(problem) = domain.parse::<DomainName>() {
                    return wrong(&format!("has after its @ what is no domain: {}", problem.detail));
                }
            }
        }
        Ok(UserName(text.to_owned()))
    }
}

/// What was asked of a user. What it may do stands with the domains.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserSpec {}

/// Nothing is kept of what a user does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserStatus {}

impl Object for UserSpec {
    type Status = UserStatus;
    const KIND: Kind = Kind::User;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_or_say_what_is_wrong() {
        for good in ["ada", "a", "ada-2", "ada@example.com", "a.d+a_l@mail.example.co.uk"] {
            assert_eq!(good.parse::<UserName>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", "missing"),
            ("Ada", "write \"ada\""),
            ("ada lovelace", "neither a handle"),
            ("-ada", "neither a handle"),
            ("ada/2", "neither a handle"),
            ("example.com", "neither a handle"),
            ("@example.com", "before its @"),
            ("a..b@example.com", "before its @"),
            (".a@example.com", "before its @"),
            ("ada@example", "after its @"),
            ("ada@b@example.com", "after its @"),
            ("admin:x", "neither a handle"),
        ] {
            let problem = bad.parse::<UserName>().unwrap_err();
            assert!(problem.detail.contains(why), "{bad}: {}", problem.detail);
        }
        assert!("a".repeat(64).parse::<UserName>().is_err());
        assert!(format!("{}@example.com", "a".repeat(65)).parse::<UserName>().is_err());
    }
}
