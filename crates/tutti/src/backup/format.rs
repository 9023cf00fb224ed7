//! The form of a backup: a line of JSON in the clear, then lines that are sealed.
//!
//! ```text
//! {"tutti_backup":1,"id":…,"key":…,"recovery":…}
//! tutti1.…                                        a piece, base64
//! ```
//!
//! `key` is the key of this file alone, sealed under the cluster's; `recovery` is the cluster's, sealed under the recovery
//! key. Each piece is sealed for its place: the digest of the first line, its number, and whether it is the last one. So
//! a file that was cut off, or whose lines were changed, exchanged or taken from another, does not open. What is in them is
//! [`super::pieces`]'. Form 2 is written where there are artifacts in it, and form 1 else, so that releases which know no
//! other read that.

use super::pieces::Piece;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read as _, Write};
use tutti_base::{Random, sha256};
use tutti_model::{Digest, ErrorCode, Problem};
use tutti_seal::{OpenError, SealingKey};
use zeroize::Zeroizing;

/// The form of backups without artifacts.
pub(super) const PLAIN: u32 = 1;
/// That of those with them.
pub(super) const WITH_ARTIFACTS: u32 = 2;
/// Most bytes of a piece before it is sealed: a page of the largest values fits.
pub(super) const PIECE_BYTES: usize = 20 * 1024 * 1024;
/// Most bytes of a line: a piece in base64, and what sealing adds.
const LINE_BYTES: u64 = 28 * 1024 * 1024;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    #[serde(rename = "tutti_backup")]
    pub(super) form: u32,
    /// Tells this backup from others.
    pub(super) id: String,
    key: String,
    /// The cluster's key as the recovery key opens it; `None` if there was no recovery key.
    pub(super) recovery: Option<String>,
}

pub(super) fn damaged(why: impl std::fmt::Display) -> Problem {
    Problem::invalid(format!("the backup is not whole: {why}"))
        .hint("take another copy of the file, or an older backup")
}

/// What a key of a file is sealed for.
fn key_of(id: &str) -> String {
    format!("key of backup {id}")
}

fn place(header: &Digest, number: u64, last: bool) -> String {
    format!("backup {header} piece {number}{}", if last { ", the last" } else { "" })
}

/// What the disk said about the file that is written.
pub(super) fn unwritten(error: &io::Error) -> Problem {
    let problem = Problem::unavailable(format!("the backup cannot be written: {error}"));
    match error.kind() {
        io::ErrorKind::StorageFull => problem.hint("free some space, or write it elsewhere"),
        _ => problem.hint("make the folder writable, or write it elsewhere"),
    }
}

/// Writes pieces.
pub(super) struct Writer<W> {
    out: W,
    key: SealingKey,
    header: Digest,
    number: u64,
    form: u32,
}

impl<W: Write> Writer<W> {
    /// Begins a file of this form that `cluster` opens.
    pub(super) fn begin(
        mut out: W,
        form: u32,
        cluster: &SealingKey,
        recovery: Option<String>,
        random: &Random,
    ) -> Result<Self, Problem> {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(bytes.as_mut_slice());
        let id = random.uid().to_string();
        let key = cluster.seal(&key_of(&id), bytes.as_slice())?;
        let header = Header { form, id, key, recovery };
        let line = serde_json::to_string(&header).map_err(|error| Problem::internal(error.to_string()))?;
        writeln!(out, "{line}").map_err(|error| unwritten(&error))?;
        let (key, header) = (SealingKey::new(&bytes)?, sha256::digest(line.as_bytes()));
        Ok(Writer { out, key, header, number: 0, form })
    }

    /// Adds the first piece.
    pub(super) fn first(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.add(bytes, false)
    }

    /// Adds a piece.
    pub(super) fn piece(&mut self, piece: &Piece) -> Result<(), Problem> {
        self.add(&piece.encode(self.form)?, false)
    }

    /// Adds the last piece, and gives back what was written to.
    pub(super) fn last(mut self, bytes: &[u8]) -> Result<W, Problem> {
        self.add(bytes, true)?;
        self.out.flush().map_err(|error| unwritten(&error))?;
        Ok(self.out)
    }

    fn add(&mut self, bytes: &[u8], last: bool) -> Result<(), Problem> {
        if bytes.len() > PIECE_BYTES {
            return Err(Problem::internal(format!("a piece of {} bytes is too large", bytes.len())));
        }
        let sealed = self.key.seal(&place(&self.header, self.number, last), bytes)?;
        self.number += 1;
        writeln!(self.out, "{sealed}").map_err(|error| unwritten(&error))
    }
}

/// Reads pieces.
pub(super) struct Reader<R> {
    from: R,
    key: SealingKey,
    header: Digest,
    number: u64,
}

/// Reads the first line.
pub(super) fn header(from: &mut impl BufRead) -> Result<(Header, Digest), Problem> {
    let line = line(from)?.ok_or_else(|| damaged("it is empty"))?;
    let none = || Problem::invalid("this is no backup of Tutti");
    let version: serde_json::Value = serde_json::from_str(&line).map_err(|_| none())?;
    match version.get("tutti_backup").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(PLAIN) || version == u64::from(WITH_ARTIFACTS) => {}
        Some(version) => {
            let text = format!(
                "the backup has form {version}, and this release knows form {PLAIN} and {WITH_ARTIFACTS} only"
            );
            return Err(Problem::invalid(text).hint("use the release that wrote it"));
        }
        None => return Err(none()),
    }
    let header = serde_json::from_value(version).map_err(damaged)?;
    Ok((header, sha256::digest(line.as_bytes())))
}

impl<R: BufRead> Reader<R> {
    /// Goes on behind the first line.
    pub(super) fn begin(
        from: R,
        (header, digest): &(Header, Digest),
        cluster: &SealingKey,
    ) -> Result<Self, Problem> {
        let bytes = cluster.open(&key_of(&header.id), &header.key).map_err(|error| match error {
            OpenError::OtherKey { .. } => Problem::new(ErrorCode::Forbidden, format!("the backup: {error}"))
                .hint(
                    "name that key with --key FILE, or give the recovery key with --recovery-key-file FILE",
                ),
            error => damaged(error),
        })?;
        let bytes = <[u8; 32]>::try_from(bytes.reveal().as_slice()).map(Zeroizing::new);
        let key = SealingKey::new(&bytes.map_err(|_| damaged("its key is none"))?)?;
        Ok(Reader { from, key, header: digest.clone(), number: 0 })
    }

    /// The next piece, and whether it is the last.
    pub(super) fn next(&mut self) -> Result<(Zeroizing<Vec<u8>>, bool), Problem> {
        let line = line(&mut self.from)?.ok_or_else(|| damaged("its end is missing"))?;
        let last = self.from.fill_buf().map_err(|error| unread(&error))?.is_empty();
        let opened = self.key.open(&place(&self.header, self.number, last), &line);
        let opened = opened
            .map_err(|_| damaged(format!("piece {} was changed, or its end is missing", self.number)))?;
        self.number += 1;
        Ok((opened.reveal().clone(), last))
    }
}

fn unread(error: &io::Error) -> Problem {
    Problem::unavailable(format!("the backup cannot be read: {error}"))
}

fn line(from: &mut impl BufRead) -> Result<Option<String>, Problem> {
    let mut line = String::new();
    let read = from.take(LINE_BYTES).read_line(&mut line);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => damaged("it is not text"),
        _ => unread(&error),
    })?;
    match line.pop() {
        None => Ok(None),
        Some('\n') => Ok(Some(line)),
        Some(_) => Err(damaged("a line has no end")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(&Zeroizing::new([byte; 32])).unwrap()
    }

    fn written() -> Vec<u8> {
        let mut writer = Writer::begin(Vec::new(), PLAIN, &key(1), None, &Random::seeded(1)).unwrap();
        writer.first(b"one").unwrap();
        writer.first(b"two").unwrap();
        writer.last(b"end").unwrap()
    }

    fn read(mut bytes: &[u8], cluster: &SealingKey) -> Result<Vec<Vec<u8>>, Problem> {
        let first = header(&mut bytes)?;
        let mut reader = Reader::begin(bytes, &first, cluster)?;
        let mut pieces = Vec::new();
        loop {
            let (piece, last) = reader.next()?;
            pieces.push(piece.to_vec());
            if last {
                return Ok(pieces);
            }
        }
    }

    #[test]
    fn what_was_written_is_read_by_its_key_alone() {
        let file = written();
        assert_eq!(read(&file, &key(1)).unwrap(), [b"one", b"two", b"end"]);
        let problem = read(&file, &key(2)).unwrap_err();
        assert_eq!(problem.code, ErrorCode::Forbidden);
        assert!(problem.detail.contains(key(1).id()), "{problem}");
    }

    #[test]
    fn no_file_that_is_cut_off_or_changed_opens() {
        let file = written();
        for length in 0..file.len() {
            assert!(read(&file[..length], &key(1)).is_err(), "{length}");
        }
        for at in 0..file.len() {
            for bit in [1, 0x10, 0x80] {
                let mut changed = file.clone();
                changed[at] ^= bit;
                assert!(read(&changed, &key(1)).is_err(), "{at} {bit}");
            }
        }
    }

    #[test]
    fn no_lines_in_another_order_open() {
        let file = String::from_utf8(written()).unwrap();
        let lines: Vec<&str> = file.lines().collect();
        for order in
            [&[0, 2, 1, 3][..], &[0, 1, 3], &[0, 1, 2], &[0, 1, 1, 2, 3], &[0, 1, 2, 3, 3], &[0, 3], &[0]]
        {
            let other: String = order.iter().map(|line| format!("{}\n", lines[*line])).collect();
            assert!(read(other.as_bytes(), &key(1)).is_err(), "{order:?}");
        }
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let problem = Writer::begin(Full, PLAIN, &key(1), None, &Random::seeded(1)).err().unwrap();
        assert_eq!(problem.code, ErrorCode::Unavailable);
        assert!(problem.hint.unwrap().contains("free some space"));
        let mut writer = Writer::begin(Vec::new(), PLAIN, &key(1), None, &Random::seeded(1)).unwrap();
        assert!(writer.first(&vec![0; PIECE_BYTES + 1]).is_err());
    }
}
