//! Chunks of output in, lines out. No I/O: whoever reads the output feeds it.

use tutti_model::limits::LOG_LINE_BYTES;

/// Collects the pieces of a line that came in several chunks.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The start of a line whose end has not come yet; shorter than [`LOG_LINE_BYTES`].
    kept: Vec<u8>,
}

impl LineSplitter {
    /// Nothing kept.
    #[must_use]
    pub const fn new() -> Self {
        LineSplitter { kept: Vec::new() }
    }

    /// Takes the next chunk and calls `line` for each line that it completes, without its line feed or its carriage
    /// return and line feed. A line longer than [`LOG_LINE_BYTES`] is given in several pieces, none of which cuts a
    /// character.
    pub fn push(&mut self, chunk: &[u8], mut line: impl FnMut(&[u8])) {
        let mut pieces = chunk.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let ended = pieces.peek().is_some();
            if ended && self.kept.is_empty() {
                whole(piece, &mut line);
                continue;
            }
            self.keep(piece, &mut line);
            if ended {
                whole(&std::mem::take(&mut self.kept), &mut line);
            }
        }
    }

    /// The output has ended: what is left is a line, even without its end.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.kept.is_empty() {
            whole(&std::mem::take(&mut self.kept), &mut line);
        }
    }

    fn keep(&mut self, piece: &[u8], line: &mut impl FnMut(&[u8])) {
        self.kept.extend_from_slice(piece);
        // One more byte than a line may have, so that a line of exactly the limit is not cut before its end is seen,
        // and another, since the byte before a line feed may be a carriage return that does not count.
        while self.kept.len() > LOG_LINE_BYTES + 1 {
            let rest = self.kept.split_off(cut(&self.kept));
            line(&self.kept);
            self.kept = rest;
        }
    }
}

/// Gives one complete line, in pieces if it is too long.
fn whole(text: &[u8], line: &mut impl FnMut(&[u8])) {
    let mut rest = text.strip_suffix(b"\r").unwrap_or(text);
    while rest.len() > LOG_LINE_BYTES {
        let (piece, more) = rest.split_at_checked(cut(rest)).unwrap_or((rest, &[]));
        line(piece);
        rest = more;
    }
    line(rest);
}

/// Where a line that is too long is cut: at [`LOG_LINE_BYTES`], or up to three bytes before, where a UTF-8 character
/// begins.
pub(crate) fn cut(line: &[u8]) -> usize {
    let continues = |at: usize| line.get(at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    (LOG_LINE_BYTES - 3..=LOG_LINE_BYTES).rev().find(|at| !continues(*at)).unwrap_or(LOG_LINE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::new();
        for chunk in chunks {
            splitter.push(chunk, |line| lines.push(line.to_vec()));
        }
        splitter.finish(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn lines_across_chunks() {
        assert_eq!(split(&[b"a\nb", b"c\r\n", b"\n", b"d"]), [&b"a"[..], b"bc", b"", b"d"]);
        assert!(split(&[b""]).is_empty());
        // A carriage return at the end of a chunk belongs to the line feed at the start of the next.
        assert_eq!(split(&[b"x\r", b"\ny"]), [&b"x"[..], b"y"]);
    }

    #[test]
    fn a_line_past_the_limit_goes_on_and_cuts_no_character() {
        let exact = vec![b'x'; LOG_LINE_BYTES];
        let with_end = [exact.clone(), b"\r\n".to_vec()].concat();
        assert_eq!(split(&[&with_end]), vec![exact.clone()]);
        assert_eq!(split(&[&with_end[..LOG_LINE_BYTES + 1], b"\n"]), vec![exact]);
        let long = "é".repeat(LOG_LINE_BYTES) + "x";
        let lines = split(&[long.as_bytes()]);
        assert!(lines.len() >= 2 && lines.iter().all(|line| line.len() <= LOG_LINE_BYTES + 1));
        assert!(lines.iter().all(|line| std::str::from_utf8(line).is_ok()));
        assert_eq!(lines.concat(), long.as_bytes());
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "[a-c\n]{0,200}", cuts in proptest::collection::vec(0usize..200, 0..8)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&chunks), split(&[bytes]));
            let wanted: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
            prop_assert_eq!(split(&[bytes]), wanted);
        }
    }
}
