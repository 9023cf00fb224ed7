//! A position in one instance's log, and reading on from it. Synchronous; the reader runs it off the executor.

use crate::segment;
use std::{collections::VecDeque, fs::File, io, os::unix::fs::FileExt as _, path::PathBuf};
use tutti_model::{
    InstanceId, Timestamp,
    log::{LogLine, Output},
};

/// What is read from a file at once: large enough that a whole log is a few hundred reads, small enough that a hundred
/// followed instances hold a few MiB.
const CHUNK_BYTES: usize = 64 * 1024;

/// Reads one instance's lines in order, each exactly once, through rotation and while they are being written.
#[derive(Debug)]
pub(crate) struct Cursor {
    instance: InstanceId,
    folder: PathBuf,
    open: Option<Open>,
    /// Lines read and not taken yet.
    ready: VecDeque<LogLine>,
    /// Whether the folder was seen.
    seen: bool,
    /// Whether the folder was seen and is there no more.
    gone: bool,
    /// Whether there was nothing more when last asked.
    at_end: bool,
}

#[derive(Debug)]
struct Open {
    number: u64,
    file: File,
    /// Where the first byte that is not consumed yet stands.
    offset: u64,
}

impl Cursor {
    /// At the oldest line that is kept.
    pub(crate) fn at_start(folder: PathBuf, instance: InstanceId) -> Self {
        Cursor {
            instance,
            folder,
            open: None,
            ready: VecDeque::new(),
            seen: false,
            gone: false,
            at_end: false,
        }
    }

    /// Before the last `count` lines.
    pub(crate) fn at_tail(folder: PathBuf, instance: InstanceId, count: usize) -> io::Result<Self> {
        let mut cursor = Cursor::at_start(folder, instance);
        let mut wanted = count;
        for number in segment::list(&cursor.folder)?.into_iter().rev() {
            let Some(file) = open(&cursor.folder, number)? else { break };
            let (offset, found) = tail_offset(&file, wanted)?;
            cursor.open = Some(Open { number, file, offset });
            wanted = wanted.saturating_sub(found);
            if wanted == 0 {
                break;
            }
        }
        Ok(cursor)
    }

    /// The next line's time, if one is ready.
    pub(crate) fn peek(&self) -> Option<Timestamp> {
        self.ready.front().map(|line| line.at)
    }

    /// Takes the next line, if one is ready.
    pub(crate) fn take(&mut self) -> Option<LogLine> {
        self.ready.pop_front()
    }

    /// Whether there was nothing more when last asked.
    pub(crate) fn at_end(&self) -> bool {
        self.at_end
    }

    /// Whether nothing will ever come: the log was there and was removed.
    pub(crate) fn gone(&self) -> bool {
        self.gone && self.ready.is_empty()
    }

    /// Reads on until a line is ready or there is nothing more for now.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        self.at_end = false;
        while self.ready.is_empty() {
            if self.open.is_none() && !self.advance()? {
                break;
            }
            if self.read_chunk()? {
                continue;
            }
            // The end of this segment, for now. Its writer writes to it no more once there is a later one, but it may
            // have done so between our read and our look, so look first and read once more.
            let current = self.open.as_ref().map_or(0, |open| open.number);
            let later = segment::list(&self.folder)?.into_iter().any(|number| number > current);
            if self.read_chunk()? {
                continue;
            }
            if !later {
                self.gone = self.seen && !self.folder.exists();
                break;
            }
            self.advance()?;
        }
        self.at_end = self.ready.is_empty();
        Ok(())
    }

    /// Opens the first segment after the present one; `false` if there is none yet.
    fn advance(&mut self) -> io::Result<bool> {
        let after = self.open.as_ref().map(|open| open.number);
        for number in segment::list(&self.folder)? {
            if after.is_some_and(|after| number <= after) {
                continue;
            }
            // One that was removed since it was listed is passed over like those before it.
            let Some(file) = open(&self.folder, number)? else { continue };
            if after.is_some_and(|after| number > after.saturating_add(1)) {
                self.ready.push_back(self.skipped());
            }
            self.open = Some(Open { number, file, offset: 0 });
            self.seen = true;
            return Ok(true);
        }
        self.gone = self.seen && !self.folder.exists();
        Ok(false)
    }

    /// Reads one chunk and keeps the lines in it; `false` if there is no complete record after the position.
    fn read_chunk(&mut self) -> io::Result<bool> {
        let Some(open) = &mut self.open else { return Ok(false) };
        self.seen = true;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut filled = 0;
        while let Some(space) = chunk.get_mut(filled..).filter(|space| !space.is_empty()) {
            match open.file.read_at(space, open.offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        chunk.truncate(filled);
        let Some(end) = chunk.iter().rposition(|byte| *byte == b'\n') else {
            // More than any record can hold and no line feed: damage. Step over it.
            if filled == CHUNK_BYTES {
                open.offset = open.offset.saturating_add(filled as u64);
            }
            return Ok(filled == CHUNK_BYTES);
        };
        open.offset = open.offset.saturating_add(end as u64 + 1);
        for record in chunk.get(..end).unwrap_or_default().split(|byte| *byte == b'\n') {
            if let Some((at, output, line)) = segment::decode(record) {
                self.ready.push_back(LogLine {
                    at,
                    instance: self.instance.clone(),
                    output,
                    line: segment::text(line),
                });
            }
        }
        Ok(true)
    }

    /// Says that lines were removed before they could be read, rather than passing over them in silence.
    fn skipped(&self) -> LogLine {
        let at = self
            .open
            .as_ref()
            .and_then(|open| open.file.metadata().ok())
            .and_then(|data| data.modified().ok());
        let since = at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        LogLine {
            at: Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            instance: self.instance.clone(),
            output: Output::Tutti,
            line: "lines were removed here before they were read: the log is written faster than it is read"
                .into(),
        }
    }
}

fn open(folder: &std::path::Path, number: u64) -> io::Result<Option<File>> {
    match File::open(segment::path(folder, number)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last `wanted` complete records of a segment begin, and how many there really are from there on.
fn tail_offset(file: &File, wanted: usize) -> io::Result<(u64, usize)> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut found = 0;
    // The line feed that ends the last record is before no record: one more is needed.
    while end > 0 {
        let start = end.saturating_sub(CHUNK_BYTES as u64);
        let mut chunk = vec![0; usize::try_from(end - start).unwrap_or(CHUNK_BYTES)];
        file.read_exact_at(&mut chunk, start)?;
        for (at, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if found == wanted {
                return Ok((start.saturating_add(at as u64 + 1), found));
            }
            found += 1;
        }
        end = start;
    }
    Ok((0, found))
}
