//! What the process writes, line by line into its log.

use super::now;
use crate::record::ShimSpec;
use std::{
    io::{self, Read as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use tutti_logs::{LineSplitter, Writer};
use tutti_model::log::Output;

/// Read at once: what a pipe holds by default.
const CHUNK_BYTES: usize = 64 * 1024;

/// The log, and the pipes that lead to it.
pub(super) struct Outputs {
    writer: Writer,
    pipes: Vec<Pipe>,
    /// Lines that could not be written since the last that could.
    lost: u64,
    why: String,
}

struct Pipe {
    output: Output,
    file: std::fs::File,
    splitter: LineSplitter,
}

impl Outputs {
    pub(super) fn open(spec: &ShimSpec) -> io::Result<Outputs> {
        let writer = Writer::open(&spec.logs, spec.instance.clone())?;
        Ok(Outputs { writer, pipes: Vec::new(), lost: 0, why: String::new() })
    }

    /// Takes a pipe to read from, which becomes non-blocking.
    pub(super) fn add(&mut self, output: Output, pipe: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        self.pipes.push(Pipe { output, file: pipe.into(), splitter: LineSplitter::new() });
        Ok(())
    }

    /// The pipes that are still open, to wait for.
    pub(super) fn waits(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().map(|pipe| pipe.file.as_fd())
    }

    /// Reads each pipe once and writes its lines. A pipe at its end is closed.
    pub(super) fn read(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        let mut pipes = std::mem::take(&mut self.pipes);
        pipes.retain_mut(|pipe| {
            let at = now();
            match pipe.file.read(&mut chunk) {
                Ok(0) => {
                    let mut splitter = std::mem::take(&mut pipe.splitter);
                    splitter.finish(|line| self.add_line(pipe.output, at, line));
                    false
                }
                Ok(count) => {
                    let bytes = chunk.get(..count).unwrap_or_default();
                    pipe.splitter.push(bytes, |line| self.add_line(pipe.output, at, line));
                    true
                }
                Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
            }
        });
        self.pipes = pipes;
        self.flush();
    }

    /// Writes a line of Tutti's own.
    pub(super) fn say(&mut self, text: &str) {
        self.add_line(Output::Tutti, now(), text.as_bytes());
        self.flush();
    }

    fn add_line(&mut self, output: Output, at: tutti_model::Timestamp, line: &[u8]) {
        if self.lost > 0 {
            let text = format!("{} or more lines could not be written here: {}", self.lost, self.why);
            if self.writer.append(Output::Tutti, at, text.as_bytes()).is_ok() {
                self.lost = 0;
            }
        }
        let added = self.writer.add(output, at, line);
        self.note(added);
    }

    fn flush(&mut self) {
        let flushed = self.writer.flush();
        self.note(flushed);
    }

    /// A full disk does not stop the instance, but is told in its log once there is room.
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.lost = self.lost.saturating_add(1);
            self.why = error.to_string();
        }
    }
}
