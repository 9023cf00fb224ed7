//! The text that lets a machine join: which root it may trust, and a secret that works once.

use std::{fmt, str::FromStr};
use tutti_base::{Random, Secret, sha256};
use tutti_model::{Digest, Problem};

/// What every one begins with, so that people and scanners of secrets know it.
const PREFIX: &str = "tuttijoin_";
/// Bytes of the secret.
const SECRET_BYTES: usize = 32;

/// A token to join with: `tuttijoin_FINGERPRINT_SECRET`, both as 64 hexadecimal digits. It never prints; its text is
/// taken with [`JoinToken::to_text`], once, for the person who asked for it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    root: Digest,
    secret: Secret<String>,
}

impl JoinToken {
    /// A new one, for the cluster of this root's fingerprint. `random` must be fit for secrets.
    #[must_use]
    pub fn make(root: Digest, random: &Random) -> JoinToken {
        let mut bytes = [0; SECRET_BYTES];
        random.fill(&mut bytes);
        JoinToken { root, secret: Secret::new(hex::encode(bytes)) }
    }

    /// The fingerprint of the cluster's root: who shows another is not the cluster.
    #[must_use]
    pub const fn root(&self) -> &Digest {
        &self.root
    }

    /// What is stored of it: nobody makes the secret of this.
    #[must_use]
    pub fn hash(&self) -> Digest {
        sha256::digest(self.secret.reveal().as_bytes())
    }

    /// The text that a joining machine is given.
    #[must_use]
    pub fn to_text(&self) -> Secret<String> {
        Secret::new(format!("{PREFIX}{}_{}", self.root.hex(), self.secret.reveal()))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("root", &self.root).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = Problem;

    /// Reads its text. What is wrong is said without the text, which may be most of a secret.
    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| {
            Problem::invalid(format!("the join token {why}"))
                .hint("copy it whole, or make another with: tutti token create --node")
        };
        let rest = text.trim().strip_prefix(PREFIX).ok_or_else(|| wrong("does not begin with tuttijoin_"))?;
        let (root, secret) = rest.split_once('_').ok_or_else(|| wrong("is cut off"))?;
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if root.len() != 64 || secret.len() != 2 * SECRET_BYTES || !is_hex(root) || !is_hex(secret) {
            return Err(wrong("is cut off, or has characters that none has"));
        }
        let root = format!("sha256:{root}").parse().map_err(|_| wrong("has a fingerprint that is none"))?;
        Ok(JoinToken { root, secret: Secret::new(secret.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken::make(sha256::digest(b"root"), &Random::seeded(1))
    }

    #[test]
    fn a_token_is_read_back_and_never_printed() {
        let token = token();
        let text = token.to_text().reveal().clone();
        let read: JoinToken = format!(" {text}\n").parse().unwrap();
        assert_eq!(read, token);
        assert_eq!((read.root(), read.hash()), (&sha256::digest(b"root"), token.hash()));
        let secret = text.rsplit('_').next().unwrap();
        assert_eq!(secret.len(), 64);
        assert!(!format!("{token:?} {:?}", token.to_text()).contains(secret));
        assert!(!token.hash().as_str().contains(secret));
        assert_ne!(JoinToken::make(token.root().clone(), &Random::seeded(2)), token);
    }

    proptest! {
        #[test]
        fn what_is_cut_off_or_changed_is_refused_and_not_repeated(cut in 0usize..139, to in "[G-Z_ ]") {
            let text = token().to_text().reveal().clone();
            let cut = cut.min(text.len() - 1);
            for wrong in [text[..cut].to_owned(), format!("{}{to}{}", &text[..cut], &text[cut + 1..])] {
                prop_assume!(wrong.trim() != text);
                if let Err(problem) = wrong.parse::<JoinToken>() {
                    let secret = text.rsplit('_').next().unwrap();
                    prop_assert!(!problem.to_string().contains(&secret[..16]));
                } else {
                    // Only the separators themselves may be typed over by what they are.
                    prop_assert_eq!(wrong, text.clone());
                }
            }
        }
    }
}
