//! The format of what is sealed.
//!
//! Each value has a data key of its own, which is sealed under the key-encryption key; so that the latter is used for
//! little, and can be exchanged by sealing data keys anew. Both are sealed for an *identity*, the name and life of the
//! object they belong to: moved to another object they do not open. As text, so that it fits into an object:
//!
//! ```text
//! tutti1.KEYID.base64(nonce ‖ sealed data key ‖ tag).base64(nonce ‖ sealed value ‖ tag)
//! ```
//!
//! The cipher is AES-256-GCM-SIV (RFC 8452) with random nonces of 96 bits: one that came twice by a broken source of
//! randomness would tell at most that two values are equal.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use std::fmt;
use tutti_base::{Secret, sha256};
use tutti_model::Problem;
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// What begins everything sealed in this format.
const FORMAT: &str = "tutti1";
/// Hex digits of a key's id: enough to tell keys apart, too few to be of use to anyone.
const ID_DIGITS: usize = 16;

/// Why something sealed does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed under another key.
    #[error("it is sealed under the key {sealed_under}, and this is the key {this}")]
    OtherKey {
        /// The id of the key it needs.
        sealed_under: String,
        /// The id of the key at hand.
        this: String,
    },
    /// It is not whole, or belongs to another object.
    #[error("it was changed, or belongs to another object")]
    Damaged,
    /// It is in a form that this release does not know.
    #[error("it is in a form that this release does not know")]
    Format,
}

/// A key that seals and opens. It does not print.
pub struct SealingKey {
    id: String,
    key: RandomizedNonceKey,
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SealingKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// `internal` if the cipher does not take them.
    pub fn new(bytes: &Zeroizing<[u8; KEY_BYTES]>) -> Result<SealingKey, Problem> {
        let mut named = Zeroizing::new(b"tutti key id ".to_vec());
        named.extend_from_slice(bytes.as_slice());
        let id: String = sha256::digest(&named).hex().chars().take(ID_DIGITS).collect();
        Ok(SealingKey { id, key: cipher(bytes.as_slice())? })
    }

    /// Tells it from other keys, and nothing of it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a value for the object of this identity.
    ///
    /// # Errors
    /// `internal` if the cipher or the system's randomness fails.
    pub fn seal(&self, identity: &str, value: &[u8]) -> Result<String, Problem> {
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        aws_lc_rs::rand::fill(data_key.as_mut_slice()).map_err(|_| failed())?;
        let wrapped = encrypt(&self.key, &context("key", identity), data_key.as_slice())?;
        let sealed = encrypt(&cipher(data_key.as_slice())?, &context("value", identity), value)?;
        Ok([FORMAT, &self.id, &BASE64.encode(wrapped), &BASE64.encode(sealed)].join("."))
    }

    /// Opens what was sealed for the object of this identity.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(&self, identity: &str, sealed: &str) -> Result<Secret<Zeroizing<Vec<u8>>>, OpenError> {
        let (id, wrapped, value) = parts(sealed).ok_or(OpenError::Format)?;
        if id != self.id {
            return Err(OpenError::OtherKey { sealed_under: id.to_owned(), this: self.id.clone() });
        }
        let data_key = decrypt(&self.key, &context("key", identity), wrapped).ok_or(OpenError::Damaged)?;
        let data_key = cipher(&data_key).map_err(|_| OpenError::Damaged)?;
        decrypt(&data_key, &context("value", identity), value).map(Secret::new).ok_or(OpenError::Damaged)
    }
}

/// The id of the key that something is sealed under; `None` if it is in no form that this release knows.
#[must_use]
pub fn sealed_under(sealed: &str) -> Option<&str> {
    parts(sealed).map(|(id, _, _)| id)
}

fn parts(sealed: &str) -> Option<(&str, &str, &str)> {
    let mut parts = sealed.split('.');
    match (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        (FORMAT, id, wrapped, value, None) => Some((id, wrapped, value)),
        _ => None,
    }
}

/// What is authenticated beside the bytes: the format, which of both it is, and the object.
fn context(part: &str, identity: &str) -> Vec<u8> {
    format!("{FORMAT} {part} {identity}").into_bytes()
}

fn cipher(key: &[u8]) -> Result<RandomizedNonceKey, Problem> {
    RandomizedNonceKey::new(&AES_256_GCM_SIV, key).map_err(|_| failed())
}

fn encrypt(key: &RandomizedNonceKey, context: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut plain = Zeroizing::new(bytes.to_vec());
    let tag = key.seal_in_place_separate_tag(Aad::from(context), plain.as_mut_slice());
    let (nonce, tag) = tag.map_err(|_| failed())?;
    // From here on these bytes are no secret.
    Ok([nonce.as_ref().as_slice(), plain.as_slice(), tag.as_ref()].concat())
}

fn decrypt(key: &RandomizedNonceKey, context: &[u8], text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = BASE64.decode(text).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut opened = Zeroizing::new(sealed.to_vec());
    let length = key.open_in_place(nonce, Aad::from(context), opened.as_mut_slice()).ok()?.len();
    opened.truncate(length);
    Some(opened)
}

fn failed() -> Problem {
    Problem::internal("the cipher failed: the system gives no randomness, or the key is none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&Zeroizing::new([byte; KEY_BYTES])).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_object_and_key_alone() {
        let sealed = key(1).seal("secret a", b"hunter2").unwrap();
        assert!(!sealed.contains("hunter2"));
        assert_eq!(key(1).open("secret a", &sealed).unwrap().reveal().as_slice(), b"hunter2");
        assert_eq!(key(1).open("secret b", &sealed).unwrap_err(), OpenError::Damaged);
        let other = key(2).open("secret a", &sealed).unwrap_err();
        let (sealed_under_id, this) = (key(1).id().to_owned(), key(2).id().to_owned());
        assert_eq!(other, OpenError::OtherKey { sealed_under: sealed_under_id, this });
        assert_eq!(sealed_under(&sealed), Some(key(1).id()));
        // The same again is other bytes.
        assert_ne!(sealed, key(1).seal("secret a", b"hunter2").unwrap());
        assert_eq!(key(1).open("e", &key(1).seal("e", b"").unwrap()).unwrap().reveal().as_slice(), b"");
    }

    #[test]
    fn no_changed_byte_opens() {
        let sealed = key(1).seal("secret a", b"hunter2").unwrap();
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(key(1).open("secret a", &changed).is_err(), "{at}: {changed}");
        }
        for text in ["", "tutti1", "tutti1.x.y", "tutti2.a.b.c", "tutti1.a.b.c.d", "..."] {
            assert_eq!(key(1).open("secret a", text).unwrap_err(), OpenError::Format, "{text}");
        }
    }

    #[test]
    fn parts_of_two_values_do_not_mix() {
        let (one, two) = (key(1).seal("a", b"one").unwrap(), key(1).seal("a", b"two").unwrap());
        let (one, two): (Vec<_>, Vec<_>) = (one.split('.').collect(), two.split('.').collect());
        let mixed = [one[0], one[1], one[2], two[3]].join(".");
        assert_eq!(key(1).open("a", &mixed).unwrap_err(), OpenError::Damaged);
    }

    #[test]
    fn a_key_does_not_print() {
        let printed = format!("{:?}", key(7));
        assert!(printed.contains(key(7).id()) && !printed.contains("07"), "{printed}");
    }
}
