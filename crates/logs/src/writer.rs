//! Appends lines to the segments of one instance. Synchronous and small: it also runs inside the shim.

use crate::{segment, split};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};
use tutti_model::{InstanceId, Timestamp, limits::LOG_LINE_BYTES, log::Output};

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// A segment that has reached this many bytes is closed and the next one begun.
    pub segment_bytes: u64,
    /// So many segments are kept, the one being written among them; the oldest are removed.
    pub segments: usize,
}

impl Default for Bounds {
    /// 16 MiB an instance: about a day of a service that writes two lines a second, and 16 GiB at most for the
    /// thousand instances of a large node. Four segments, so that a quarter goes at a time.
    fn default() -> Self {
        Bounds { segment_bytes: 4 << 20, segments: 4 }
    }
}

/// The one writer of an instance's log. Nothing is kept in memory: a line is in its file when `append` returns.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    instance: InstanceId,
    bounds: Bounds,
    number: u64,
    file: File,
    written: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Opens the log in `folder`, which is made if need be, and goes on after what is there.
    ///
    /// # Errors
    /// What the host says, with the instance's id.
    pub fn open(folder: &Path, instance: InstanceId) -> io::Result<Writer> {
        Writer::open_bounded(folder, instance, Bounds::default())
    }

    /// The same with other bounds.
    ///
    /// # Errors
    /// What the host says, with the instance's id.
    pub fn open_bounded(folder: &Path, instance: InstanceId, bounds: Bounds) -> io::Result<Writer> {
        let open = || {
            std::fs::create_dir_all(folder)?;
            let number = segment::list(folder)?.last().copied().unwrap_or(0);
            let (file, written) = open_segment(folder, number)?;
            Ok((number, file, written))
        };
        let (number, file, written) = open().map_err(|error| named(&instance, &error))?;
        Ok(Writer { folder: folder.to_owned(), instance, bounds, number, file, written, buffer: Vec::new() })
    }

    /// Appends one line, or several if it is longer than [`LOG_LINE_BYTES`].
    ///
    /// # Errors
    /// What the host says, with the instance's id. The line is then not there, or only its first pieces are, and later
    /// lines can be appended when the host has recovered.
    pub fn append(&mut self, output: Output, at: Timestamp, line: &[u8]) -> io::Result<()> {
        self.add(output, at, line)?;
        self.flush()
    }

    /// Takes one line in, to be written with others by [`Writer::flush`]; or before, when many have come together.
    ///
    /// # Errors
    /// As for [`Writer::append`]; lines taken in before may be lost with it.
    pub fn add(&mut self, output: Output, at: Timestamp, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        while rest.len() > LOG_LINE_BYTES {
            let (piece, more) = rest.split_at_checked(split::cut(rest)).unwrap_or((rest, &[]));
            segment::encode(&mut self.buffer, output, at, piece);
            rest = more;
        }
        segment::encode(&mut self.buffer, output, at, rest);
        // A batch may not outgrow a segment, nor this buffer the memory of a shim.
        if self.buffer.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what was taken in, at once.
    ///
    /// # Errors
    /// As for [`Writer::append`]. What was taken in is then lost, so that a full disk does not fill the memory too.
    pub fn flush(&mut self) -> io::Result<()> {
        let result = self.write().map_err(|error| named(&self.instance, &error));
        self.buffer.clear();
        result
    }

    fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.written >= self.bounds.segment_bytes {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            // A part may have been written. The next record must start on a line of its own.
            self.written = end_torn_record(&mut self.file).unwrap_or(self.written);
            return Err(error);
        }
        self.written = self.written.saturating_add(self.buffer.len() as u64);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = self.number.saturating_add(1);
        let (file, written) = open_segment(&self.folder, next)?;
        (self.file, self.written, self.number) = (file, written, next);
        let numbers = segment::list(&self.folder)?;
        let surplus = numbers.len().saturating_sub(self.bounds.segments.max(1));
        for number in numbers.into_iter().take(surplus) {
            std::fs::remove_file(segment::path(&self.folder, number))?;
        }
        Ok(())
    }
}

/// What is written at once, at most about this much.
const BATCH_BYTES: usize = 64 * 1024;

fn named(instance: &InstanceId, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("log of {instance}: {error}"))
}

fn open_segment(folder: &Path, number: u64) -> io::Result<(File, u64)> {
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).open(segment::path(folder, number))?;
    let written = end_torn_record(&mut file)?;
    Ok((file, written))
}

/// Ends a record that an earlier writer was killed in, and gives the file's length. What it had written of the line is
/// kept, since it is true; a reader skips what is not even a head.
fn end_torn_record(file: &mut File) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 {
        return Ok(0);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    file.write_all(b"\n")?;
    Ok(length.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_and_gotten_over() {
        let folder = tempfile::tempdir().unwrap();
        let id = InstanceId::from_bits(1);
        let mut writer = Writer::open(folder.path(), id.clone()).unwrap();
        writer.append(Output::Stdout, Timestamp(1), b"before").unwrap();
        // A device on which nothing has room.
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut writer.file, full);
        let error = writer.append(Output::Stdout, Timestamp(2), b"lost").unwrap_err();
        assert!(error.to_string().starts_with(&format!("log of {id}: No space left")), "{error}");
        writer.file = file;
        writer.append(Output::Stdout, Timestamp(3), b"after").unwrap();
        assert_eq!(crate::last_lines(folder.path(), 9), ["before", "after"]);
    }
}
