//! The form of a log on disk: numbered segment files of text, one record a line.
//!
//! A record is `MILLISECONDS LETTER LINE\n`: the time since the epoch in decimal, a letter for the output, the line's
//! own bytes. A line never holds a line feed, so a reader finds the next record after any damage, a record without its
//! line feed is known to be unfinished, and an operator can read a segment with `cat` and `grep`.

use std::{
    io,
    path::{Path, PathBuf},
};
use tutti_model::{Timestamp, log::Output};

/// Ends every segment's file name.
const SUFFIX: &str = ".log";

/// The longest possible head of a record: twenty digits, a space, a letter, a space.
pub(crate) const HEAD_BYTES: usize = 23;

/// The letter of an output in a record.
const fn letter(output: Output) -> u8 {
    match output {
        Output::Stdout => b'o',
        Output::Stderr => b'e',
        Output::Tutti => b't',
    }
}

/// The file of segment `number`.
#[must_use]
pub(crate) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}{SUFFIX}"))
}

/// The numbers of the segments in `folder`, ascending; none if there is no such folder.
///
/// # Errors
/// What the host says when it cannot list the folder.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if let Some(number) =
            name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|stem| stem.parse().ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Appends one record to `buffer`. Line feeds within `line` become spaces, so that a record stays one.
pub(crate) fn encode(buffer: &mut Vec<u8>, output: Output, at: Timestamp, line: &[u8]) {
    buffer.reserve(HEAD_BYTES + line.len() + 1);
    buffer.extend_from_slice(at.0.to_string().as_bytes());
    buffer.extend_from_slice(&[b' ', letter(output), b' ']);
    buffer.extend(line.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
    buffer.push(b'\n');
}

/// Takes a record, without its line feed, apart; `None` for what no writer wrote whole.
#[must_use]
pub(crate) fn decode(record: &[u8]) -> Option<(Timestamp, Output, &[u8])> {
    let digits = record.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = record.split_at_checked(digits)?;
    let at = std::str::from_utf8(number).ok()?.parse().ok()?;
    let (head, line) = rest.split_at_checked(3)?;
    let output = match head {
        b" o " => Output::Stdout,
        b" e " => Output::Stderr,
        b" t " => Output::Tutti,
        _ => return None,
    };
    Some((Timestamp(at), output, line))
}

/// A line's bytes as text: what is not UTF-8 becomes U+FFFD, and so do zero bytes, which no terminal shows.
#[must_use]
pub(crate) fn text(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_read_back(at in any::<u64>(), line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = Vec::new();
            encode(&mut buffer, Output::Stderr, Timestamp(at), &line);
            prop_assert_eq!(buffer.pop(), Some(b'\n'));
            prop_assert!(!buffer.contains(&b'\n'));
            let (when, output, found) = decode(&buffer).unwrap();
            prop_assert_eq!((when, output), (Timestamp(at), Output::Stderr));
            let wanted: Vec<u8> = line.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
            prop_assert_eq!(found, &wanted[..]);
        }

        #[test]
        fn rubbish_is_no_record_and_no_panic(record in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&record);
        }
    }

    #[test]
    fn a_torn_head_is_no_record() {
        for torn in [
            "",
            "17",
            "1732172172123",
            "1732172172123 ",
            "1732172172123 o",
            "\0\0\0\0",
            "99999999999999999999 o x",
        ] {
            assert!(decode(torn.as_bytes()).is_none(), "{torn}");
        }
        assert!(decode(b"1 o ").is_some_and(|(_, _, line)| line.is_empty()));
    }

    #[test]
    fn text_is_always_text() {
        assert_eq!(text(b"a\0b\xff"), "a\u{fffd}b\u{fffd}");
    }
}
