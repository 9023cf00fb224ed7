//! What is in the pieces of a backup, behind the first, which says when it was taken.
//!
//! In form 1 each is a page of the store: keys and values, each behind its length. In form 2, which is that of backups with
//! artifacts, the first byte says what it is; a blob's head is followed by its bytes in order and by its end.

use super::format::{WITH_ARTIFACTS, damaged};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;
use tutti_model::{Digest, Problem, ServiceRef};
use tutti_store::backup::Pair;

/// Most bytes of a blob in one piece.
pub(super) const BLOB_PIECE: usize = 1024 * 1024;

const KEYS: u8 = b'k';
const BLOB: u8 = b'b';
const BYTES: u8 = b'd';
const BLOB_END: u8 = b'e';
const SHOWN: u8 = b's';

/// One piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A page of the store.
    Keys(Vec<Pair>),
    /// A blob begins.
    Blob(Head),
    /// Bytes of it.
    Bytes(Vec<u8>),
    /// It ends, and was whole when it was read.
    BlobEnd {
        /// Else it counts as if it were not here.
        whole: bool,
    },
    /// An artifact all blobs of which have come, and which repository shows it.
    Shown(Shown),
}

/// What a blob is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Its digest.
    pub(super) digest: Digest,
    /// Its bytes.
    pub(super) size: u64,
}

/// What a repository shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shown {
    /// The repository.
    pub(super) service: ServiceRef,
    /// The artifact's manifest, and all that it refers to.
    pub(super) blobs: Vec<Digest>,
}

impl Piece {
    /// As bytes, in this form of backup.
    pub(super) fn encode(&self, form: u32) -> Result<Vec<u8>, Problem> {
        match self {
            Piece::Keys(pairs) if form < WITH_ARTIFACTS => Ok(encode(Vec::new(), pairs)),
            _ if form < WITH_ARTIFACTS => Err(Problem::internal("this form of backup has no artifacts")),
            Piece::Keys(pairs) => Ok(encode(vec![KEYS], pairs)),
            Piece::Blob(head) => written(BLOB, head),
            Piece::Bytes(bytes) => Ok([&[BYTES], bytes.as_slice()].concat()),
            Piece::BlobEnd { whole } => Ok(vec![BLOB_END, u8::from(*whole)]),
            Piece::Shown(shown) => written(SHOWN, shown),
        }
    }

    /// What the bytes are.
    pub(super) fn decode(bytes: &[u8], form: u32) -> Result<Piece, Problem> {
        let unknown = || Problem::invalid("a piece of the backup has another form");
        if form < WITH_ARTIFACTS {
            return decode(bytes).map(Piece::Keys).ok_or_else(unknown);
        }
        let (kind, rest) = bytes.split_first().ok_or_else(unknown)?;
        match (*kind, rest) {
            (KEYS, rest) => decode(rest).map(Piece::Keys).ok_or_else(unknown),
            (BLOB, rest) => read(rest).map(Piece::Blob),
            (BYTES, rest) => Ok(Piece::Bytes(rest.to_vec())),
            (BLOB_END, [whole @ (0 | 1)]) => Ok(Piece::BlobEnd { whole: *whole == 1 }),
            (SHOWN, rest) => read(rest).map(Piece::Shown),
            _ => Err(unknown()),
        }
    }
}

fn written(kind: u8, value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    let mut bytes = vec![kind];
    serde_json::to_writer(&mut bytes, value).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(bytes)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| damaged(format!("a piece has another form: {error}")))
}

/// Keys and values, each behind its length.
fn encode(mut bytes: Vec<u8>, pairs: &[Pair]) -> Vec<u8> {
    for part in pairs.iter().flat_map(|(key, value)| [key.as_bytes(), value]) {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Vec<Pair>> {
    let mut part = || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        bytes = rest;
        Some((part, rest.is_empty()))
    };
    let mut pairs = Vec::new();
    let mut end = false;
    while !end {
        let Some((key, _)) = part() else { return pairs.is_empty().then_some(pairs) };
        let (value, is_last) = part()?;
        pairs.push((String::from_utf8(key.to_vec()).ok()?, Arc::from(value)));
        end = is_last;
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_and_half_of_them_do_not() {
        let pairs: Vec<Pair> = vec![("k".into(), Arc::from(*b"v")), ("é".into(), Arc::from(*b""))];
        let bytes = encode(Vec::new(), &pairs);
        assert_eq!(decode(&bytes), Some(pairs));
        assert_eq!(decode(b""), Some(Vec::new()));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode(&bytes[..7]), None);
    }

    #[test]
    fn every_piece_comes_back() {
        let digest = tutti_base::sha256::digest(b"x");
        let pieces = [
            Piece::Keys(vec![("k".into(), Arc::from(*b"v"))]),
            Piece::Blob(Head { digest: digest.clone(), size: 3 }),
            Piece::Bytes(b"abc".to_vec()),
            Piece::BlobEnd { whole: true },
            Piece::BlobEnd { whole: false },
            Piece::Shown(Shown { service: "example.com:web".parse().unwrap(), blobs: vec![digest] }),
        ];
        for piece in pieces {
            let bytes = piece.encode(WITH_ARTIFACTS).unwrap();
            assert_eq!(Piece::decode(&bytes, WITH_ARTIFACTS).unwrap(), piece);
            let old = piece.encode(1);
            assert_eq!(old.is_ok(), matches!(piece, Piece::Keys(_)), "{piece:?}");
        }
        for wrong in [&b""[..], b"z", b"e", b"e\x02", b"b{}", b"s[]"] {
            assert!(Piece::decode(wrong, WITH_ARTIFACTS).is_err(), "{wrong:?}");
        }
    }
}
