//! The recovery key: a second way to the cluster's key, for who has lost the first.
//!
//! It is made at random, shown once and kept nowhere. The store keeps the cluster's key sealed under it, and a backup
//! takes that along; so whoever has both a backup and this key has the cluster.

use std::io::Read as _;
use tutti_base::{Random, sha256};
use tutti_model::{ErrorCode, Problem};
use tutti_seal::{Keyring, SealingKey};
use tutti_store::{Compare, Store, Txn, TxnOutcome};
use zeroize::Zeroizing;

/// Where the store has the cluster's key, sealed under the recovery key.
pub(crate) const STORED: &str = "recovery";
/// What it is sealed for.
const IDENTITY: &str = "the cluster's key";
/// As in RFC 4648: no 0, 1 and 8, which look like others.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Bytes of the key, and with those that find a mistake in typing.
const BYTES: (usize, usize) = (32, 35);
/// Characters of a group.
const GROUP: usize = 4;
/// Most that is read of what somebody typed.
const TEXT_BYTES: u64 = 4096;

/// Makes a recovery key and gives it, to be shown once. With `first`, only if there has been none: `None` else.
///
/// # Errors
/// If the cluster's key cannot be read, and the store's own.
pub(crate) async fn make(
    store: &dyn Store,
    keyring: &Keyring,
    random: &Random,
    first: bool,
) -> Result<Option<Zeroizing<String>>, Problem> {
    let cluster = keyring.hand_over().await?;
    let mut bytes = Zeroizing::new([0; BYTES.0]);
    random.fill(bytes.as_mut_slice());
    let sealed = SealingKey::new(&bytes)?.seal(IDENTITY, cluster.as_bytes())?;
    let mut txn = Txn::new().put(STORED, sealed.into_bytes());
    if first {
        txn = txn.when(Compare::Absent(STORED.into()));
    }
    match store.txn(txn).await? {
        TxnOutcome::Committed(_) => Ok(Some(shown(&bytes))),
        TxnOutcome::Refused { .. } => Ok(None),
    }
}

/// The cluster's key out of what the recovery key opens.
///
/// # Errors
/// `forbidden` if this is another recovery key.
pub(crate) fn open(sealed: &str, typed: &str) -> Result<Zeroizing<String>, Problem> {
    let key = SealingKey::new(&parse(typed)?)?;
    let opened = key.open(IDENTITY, sealed).map_err(|_| {
        Problem::new(ErrorCode::Forbidden, "the backup was made under another recovery key").hint(
            "give the one that was valid when the backup was made, or the cluster's key with --key FILE",
        )
    })?;
    let text = String::from_utf8(opened.reveal().to_vec());
    text.map(Zeroizing::new).map_err(|_| Problem::internal("what the recovery key opens is no key"))
}

/// Reads what was typed into a file, or on standard input for `-`.
///
/// # Errors
/// `unavailable` if it cannot be read.
pub(crate) fn read(file: &str) -> Result<Zeroizing<String>, Problem> {
    let mut text = Zeroizing::new(String::new());
    let read = match file {
        "-" => std::io::stdin().take(TEXT_BYTES).read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|file| file.take(TEXT_BYTES).read_to_string(&mut text)),
    };
    read.map_err(|error| {
        Problem::unavailable(format!("the recovery key in {file} cannot be read: {error}"))
    })?;
    Ok(text)
}

fn shown(bytes: &Zeroizing<[u8; BYTES.0]>) -> Zeroizing<String> {
    let mut all = Zeroizing::new(bytes.to_vec());
    let sum = checksum(bytes.as_slice());
    all.extend_from_slice(&sum);
    let mut text = Zeroizing::new(String::new());
    // Five bytes are eight characters.
    for (index, five) in all.chunks(5).enumerate() {
        let number = five.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        for at in 0..8usize {
            if at.is_multiple_of(GROUP) && (index, at) != (0, 0) {
                text.push('-');
            }
            let digit = usize::try_from(number >> (35 - 5 * at) & 31).unwrap_or_default();
            text.push(char::from(ALPHABET.get(digit).copied().unwrap_or(b'A')));
        }
    }
    text
}

/// Finds every mistake of one character, and all others but one in 16 million.
fn checksum(bytes: &[u8]) -> [u8; BYTES.1 - BYTES.0] {
    let mut named = Zeroizing::new(b"tutti recovery key ".to_vec());
    named.extend_from_slice(bytes);
    let digest = hex_bytes(sha256::digest(&named).hex());
    [digest[0], digest[1], digest[2]]
}

/// The first three bytes of hex digits.
fn hex_bytes(hex: &str) -> [u8; 3] {
    let number = hex.get(..6).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default();
    let [_, one, two, three] = number.to_be_bytes();
    [one, two, three]
}

fn parse(typed: &str) -> Result<Zeroizing<[u8; BYTES.0]>, Problem> {
    let wrong = |why: &str| {
        Problem::invalid(format!("this is no recovery key: {why}"))
            .hint("it has 14 groups of 4 letters and digits, such as ABCD-2345-…")
    };
    let (mut all, mut number, mut bits) = (Zeroizing::new(Vec::new()), 0u64, 0u32);
    for letter in typed.chars().filter(|letter| *letter != '-' && !letter.is_whitespace()) {
        let letter = letter.to_ascii_uppercase();
        let digit = ALPHABET.iter().position(|known| char::from(*known) == letter);
        let digit = digit.ok_or_else(|| wrong("it has a character that none has"))?;
        number = number << 5 | u64::try_from(digit).unwrap_or_default();
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            all.push(u8::try_from(number >> bits & 0xff).unwrap_or_default());
        }
        number &= (1 << bits) - 1;
    }
    let Some((key, sum)) = all.split_at_checked(BYTES.0).filter(|_| all.len() == BYTES.1 && bits == 0) else {
        return Err(wrong("it is too short or too long"));
    };
    if checksum(key) != sum {
        return Err(wrong("a character is mistyped"));
    }
    <[u8; BYTES.0]>::try_from(key).map(Zeroizing::new).map_err(|_| wrong("it is too short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_typed_again_in_any_case_and_a_mistake_is_found() {
        let bytes = Zeroizing::new(std::array::from_fn(|at| u8::try_from(at * 7).unwrap()));
        let text = shown(&bytes);
        assert_eq!((text.len(), text.split('-').count()), (56 + 13, 14));
        assert_eq!(*parse(&text).unwrap(), *bytes);
        assert_eq!(*parse(&format!(" {}\n", text.replace('-', " ").to_lowercase())).unwrap(), *bytes);
        for at in 0..text.len() {
            let mut typed = text.to_string();
            let other = if typed[at..].starts_with('Q') { "R" } else { "Q" };
            typed.replace_range(at..=at, other);
            assert!(parse(&typed).is_err(), "{typed}");
        }
        for typed in ["", "AAAA", "1", &format!("{}A", text.as_str())] {
            assert!(parse(typed).is_err(), "{typed}");
        }
    }
}
