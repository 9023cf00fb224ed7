//! What guests write, on its way to the instance's log: cut into lines by request and stream, then handed to one
//! writer through a queue that guests wait at when it is full.

use bytes::Bytes;
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot};
use tutti_base::Clock;
use tutti_logs::Writer;
use tutti_model::{Timestamp, limits::LOG_LINE_BYTES, log::Output};
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError},
};

/// Chunks that wait for the writer: with the two below, less than 2 MiB an instance if its disk hangs.
const QUEUED_CHUNKS: usize = 64;
/// Bytes that a guest writes at once.
const WRITE_BYTES: usize = 8 << 10;

/// Whole lines, or a piece of one that is too long.
struct Chunk {
    at: Timestamp,
    output: Output,
    bytes: Bytes,
}

enum Entry {
    Chunk(Chunk),
    /// Answered when all before it is written.
    Flush(oneshot::Sender<()>),
}

/// The log of one instance.
#[derive(Debug)]
pub(crate) struct Log {
    queue: mpsc::Sender<Entry>,
    lost: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl Log {
    /// Starts the task that writes; it ends when the log is dropped.
    pub(crate) fn start(writer: Writer, clock: Arc<dyn Clock>) -> Self {
        let (queue, entries) = mpsc::channel(QUEUED_CHUNKS);
        let lost = Arc::new(AtomicU64::new(0));
        tokio::spawn(write(writer, entries, Arc::clone(&lost), Arc::clone(&clock)));
        Log { queue, lost, clock }
    }

    /// Adds a line of Tutti's own. If the queue is full it is lost, and counted.
    pub(crate) fn note(&self, line: &str) {
        self.offer(Output::Tutti, Bytes::from(line.replace('\n', " ")));
    }

    /// Returns when all that was written before is on its way to the disk.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Entry::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    fn offer(&self, output: Output, bytes: Bytes) {
        if let Err(_full) = self.try_offer(output, &bytes) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn try_offer(&self, output: Output, bytes: &Bytes) -> Result<(), Full> {
        let permit = self.queue.try_reserve().map_err(|_| Full)?;
        permit.send(Entry::Chunk(self.chunk(output, bytes.clone())));
        Ok(())
    }

    fn chunk(&self, output: Output, bytes: Bytes) -> Chunk {
        Chunk { at: self.clock.now(), output, bytes }
    }
}

struct Full;

async fn write(
    mut writer: Writer,
    mut entries: mpsc::Receiver<Entry>,
    lost: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
) {
    let mut batch = Vec::with_capacity(QUEUED_CHUNKS);
    while entries.recv_many(&mut batch, QUEUED_CHUNKS).await > 0 {
        let taken = std::mem::take(&mut batch);
        let losses = lost.swap(0, Ordering::Relaxed);
        let now = clock.now();
        let written = tokio::task::spawn_blocking(move || {
            let failed = write_batch(&mut writer, taken, losses, now);
            (writer, failed)
        });
        let Ok((back, failed)) = written.await else { return };
        writer = back;
        lost.fetch_add(failed, Ordering::Relaxed);
    }
}

/// Writes what it can and says how many chunks it could not.
fn write_batch(writer: &mut Writer, batch: Vec<Entry>, losses: u64, now: Timestamp) -> u64 {
    let mut failed = 0;
    // Said once for each run of failures; the loss is noted in the log itself when it works again.
    let complain = |failed: u64, error: &io::Error| {
        if failed == 0 && losses == 0 {
            tracing::warn!(%error, "what an instance wrote could not be kept");
        }
    };
    if losses > 0 {
        let note = format!("some output was lost here: {losses} writes, since the log could not keep up");
        if writer.append(Output::Tutti, now, note.as_bytes()).is_err() {
            failed += losses;
        }
    }
    let mut flushed = Vec::new();
    for entry in batch {
        match entry {
            Entry::Flush(done) => flushed.push(done),
            Entry::Chunk(chunk) => {
                if let Err(error) = add(writer, &chunk) {
                    complain(failed, &error);
                    failed += 1;
                }
            }
        }
    }
    if let Err(error) = writer.flush() {
        complain(failed, &error);
        failed += 1;
    }
    for done in flushed {
        let _ = done.send(());
    }
    failed
}

fn add(writer: &mut Writer, chunk: &Chunk) -> io::Result<()> {
    let bytes = chunk.bytes.strip_suffix(b"\n").unwrap_or(&chunk.bytes);
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.try_for_each(|line| writer.add(chunk.output, chunk.at, line))
}

/// One stream of one request. Clones write to the same stream.
#[derive(Clone)]
pub(crate) struct Pipe(Arc<PipeState>);

struct PipeState {
    log: Arc<Log>,
    output: Output,
    /// What has come since the last line's end, and lines that the queue had no place for.
    rest: Mutex<Vec<u8>>,
}

impl Pipe {
    pub(crate) fn new(log: Arc<Log>, output: Output) -> Self {
        Pipe(Arc::new(PipeState { log, output, rest: Mutex::new(Vec::new()) }))
    }

    /// The guest has ended: hands on what is left, waiting for a place if there is none.
    pub(crate) async fn finish(&self) {
        if self.0.rest.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        if let Ok(permit) = self.0.log.queue.reserve().await {
            let rest = std::mem::take(&mut *self.0.rest.lock().unwrap_or_else(PoisonError::into_inner));
            permit.send(Entry::Chunk(self.0.log.chunk(self.0.output, Bytes::from(rest))));
        }
    }

    /// Hands on the lines that are whole. `false` if the queue is full.
    fn hand_on(&self) -> bool {
        let mut rest = self.0.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(end) = whole_lines(&rest) else { return true };
        let bytes = Bytes::copy_from_slice(rest.get(..end).unwrap_or_default());
        let handed = self.0.log.try_offer(self.0.output, &bytes).is_ok();
        if handed {
            rest.drain(..end);
        }
        handed
    }
}

/// Where the last whole line ends, or a piece that is as long as a line may be.
fn whole_lines(bytes: &[u8]) -> Option<usize> {
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => Some(last + 1),
        None if bytes.len() >= LOG_LINE_BYTES => Some(match std::str::from_utf8(bytes) {
            // A character whose end is still to come waits for it.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => bytes.len(),
        }),
        None => None,
    }
}

impl Drop for PipeState {
    /// A guest that was ended from outside could not wait; its last words are lost if there is no place for them.
    fn drop(&mut self) {
        let rest = std::mem::take(self.rest.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !rest.is_empty() {
            self.log.offer(self.output, Bytes::from(rest));
        }
    }
}

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Pipe {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Asked for by WASI 0.3 only, which is not offered.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl OutputStream for Pipe {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if bytes.len() > WRITE_BYTES {
            return Err(StreamError::trap("more was written than was allowed"));
        }
        self.0.rest.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes);
        self.hand_on();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(if self.hand_on() { WRITE_BYTES } else { 0 })
    }
}

#[async_trait::async_trait]
impl Pollable for Pipe {
    async fn ready(&mut self) {
        while !self.hand_on() {
            // Wait for a place, and try to take it; another request may be quicker.
            if self.0.log.queue.reserve().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
