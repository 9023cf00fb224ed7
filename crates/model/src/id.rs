//! Typed identifiers. Their randomness is handed in, since this crate has none.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Crockford's base 32 without i, l, o and u: no look-alikes when read aloud at night.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn base32(mut bits: u128, letters: usize) -> String {
    let mut text = String::with_capacity(letters);
    for _ in 0..letters {
        let letter = ALPHABET.get((bits & 31) as usize).copied().unwrap_or(b'0');
        text.push(char::from(letter));
        bits >>= 5;
    }
    text
}

fn is_base32(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// Identifies one life of an object: a name that is deleted and created again gets another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(String);

impl Uid {
    /// A uid from 128 random bits.
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        Uid(base32(bits, 26))
    }

    /// The uid as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! short_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// An id from random bits, of which 50 are used.
            #[must_use]
            pub fn from_bits(bits: u64) -> Self {
                $name(format!("{}{}", $prefix, base32(u128::from(bits), 10)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = crate::Problem;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                match text.strip_prefix($prefix) {
                    Some(rest) if rest.len() == 10 && is_base32(rest) => Ok($name(text)),
                    _ => Err(crate::Problem::invalid(format!(
                        "\"{text}\" is not an id of this kind: it is \"{}\" and ten letters or digits", $prefix
                    ))),
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::Problem;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

short_id!(
    /// Names a deployment: `d-` and ten characters.
    DeploymentId, "d-"
);
short_id!(
    /// Names an instance: `i-` and ten characters.
    InstanceId, "i-"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_refuse_strangers() {
        let id = InstanceId::from_bits(0x1234_5678_9abc_def0);
        assert_eq!(id.as_str().parse::<InstanceId>().unwrap(), id);
        assert!("i-short".parse::<InstanceId>().is_err());
        assert!(id.as_str().parse::<DeploymentId>().is_err());
        assert_eq!(Uid::from_bits(7).as_str().len(), 26);
    }
}
