//! One upload into the folder: a locked temporary file that is hashed while it is written.
//!
//! Hashing and writing happen on a blocking thread, a quarter of a mebibyte at a time, while the next pieces arrive.
//! The file travels to that thread and back; the handle of the work in flight stays in the upload, so that a caller
//! who gives up waiting loses nothing and the next call goes on where the last one was.

use super::{Layout, sync_folder};
use crate::{BlobError, Upload};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};
use tokio::task::JoinHandle;
use tutti_base::sha256::Hasher;
use tutti_model::{Digest, limits};

/// Bytes gathered before they are hashed and written: a hop to a blocking thread costs about 20 microseconds, which
/// this much work (over 100) outweighs.
const FLUSH_BYTES: usize = 256 * 1024;

/// A temporary file. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Incoming {
    layout: Arc<Layout>,
    path: PathBuf,
    file: fs::File,
    hasher: Hasher,
    /// Set once the file has become a blob.
    kept: bool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            // What stays behind for any reason is swept later.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Incoming {
    /// Makes the file and locks it, so that no sweep takes it for a leftover.
    pub(super) fn create(layout: Arc<Layout>) -> Result<Self, BlobError> {
        let folder = layout.incoming();
        let wrong = |error| layout.error(format!("start an upload in \"{}\"", folder.display()), error);
        loop {
            let number = layout.next.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{number}", std::process::id()));
            let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let file = match made {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(wrong)?,
            };
            // A sweep of another process may have come between the two calls: then the file has no name any more.
            let locked = file.try_lock().is_ok();
            if locked && file.metadata().map_err(wrong)?.nlink() == 1 {
                return Ok(Incoming { layout, path, file, hasher: Hasher::default(), kept: false });
            }
        }
    }

    fn take(&mut self, pieces: &[Bytes]) -> Result<(), BlobError> {
        for piece in pieces {
            self.hasher.update(piece);
            self.file.write_all(piece).map_err(|error| self.layout.error("write an upload", error))?;
        }
        Ok(())
    }

    /// Where the file is, as long as this lives.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sorts out what the machine said about it.
    pub(crate) fn error(&self, what: &str, source: io::Error) -> BlobError {
        self.layout.error(what, source)
    }

    /// Whether these are the bytes that were announced.
    fn check(&mut self, expected: &Digest) -> Result<(), BlobError> {
        let actual = std::mem::take(&mut self.hasher).finish();
        if actual == *expected {
            return Ok(());
        }
        Err(BlobError::Digest { expected: expected.clone(), actual })
    }

    fn commit(mut self, expected: &Digest) -> Result<(), BlobError> {
        self.check(expected)?;
        let blob = self.layout.blob(expected);
        self.publish(&blob).map_err(|error| self.layout.error(format!("store blob {expected}"), error))?;
        self.kept = true;
        Ok(())
    }

    /// The same bytes may be there already, from an earlier push or one that ran beside this: the rename replaces
    /// them, which also mends a file that the disk has damaged.
    fn publish(&self, blob: &Path) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(0o444))?;
        self.file.sync_all()?;
        let folder = blob.parent().unwrap_or(&self.layout.root);
        super::make_folder(folder)?;
        fs::rename(&self.path, blob)?;
        sync_folder(folder)
    }
}

/// Where the file is.
#[derive(Debug)]
enum State {
    Here(Incoming),
    Working(JoinHandle<Result<Incoming, BlobError>>),
    /// An earlier call failed or panicked.
    Lost,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FolderUpload {
    state: State,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    taken: u64,
}

impl FolderUpload {
    pub(super) const fn new(incoming: Incoming) -> Self {
        FolderUpload { state: State::Here(incoming), pending: Vec::new(), pending_bytes: 0, taken: 0 }
    }

    /// Waits for the work in flight. Cancelling leaves the handle where it is.
    async fn settle(&mut self) -> Result<(), BlobError> {
        if let State::Working(handle) = &mut self.state {
            let done = handle.await;
            self.state = State::Lost;
            self.state = State::Here(done.map_err(lost)??);
        }
        Ok(())
    }

    /// Ends it without storing it: the whole file, which goes when that is dropped.
    pub(crate) async fn check(mut self, expected: &Digest) -> Result<Incoming, BlobError> {
        let mut incoming = self.whole().await?;
        incoming.check(expected)?;
        Ok(incoming)
    }

    /// The file once everything has been written to it.
    async fn whole(&mut self) -> Result<Incoming, BlobError> {
        self.flush().await?;
        self.settle().await?;
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Here(incoming) => Ok(incoming),
            State::Working(_) | State::Lost => Err(lost("an earlier write failed")),
        }
    }

    /// Sends what has gathered to be written, and does not wait for it.
    async fn flush(&mut self) -> Result<(), BlobError> {
        self.settle().await?;
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Here(mut incoming) => {
                let pieces = std::mem::take(&mut self.pending);
                self.pending_bytes = 0;
                self.state = State::Working(tokio::task::spawn_blocking(move || {
                    incoming.take(&pieces)?;
                    Ok(incoming)
                }));
                Ok(())
            }
            State::Working(_) | State::Lost => Err(lost("an earlier write failed")),
        }
    }
}

#[cfg(test)]
impl FolderUpload {
    /// As if so much had come, without the hours.
    pub(super) const fn pretend_taken(&mut self, bytes: u64) {
        self.taken = bytes;
    }
}

fn lost(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> BlobError {
    BlobError::Io { what: "go on with the upload".to_owned(), source: io::Error::other(why) }
}

#[async_trait]
impl Upload for FolderUpload {
    fn taken(&self) -> u64 {
        self.taken
    }

    async fn write(&mut self, piece: Bytes) -> Result<(), BlobError> {
        let more = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let total = self.taken.saturating_add(more);
        if total > limits::BLOB_BYTES {
            return Err(BlobError::TooLarge { limit: limits::BLOB_BYTES });
        }
        // Room first, then the piece: whoever gives up during the wait has not had the piece taken.
        if self.pending_bytes >= FLUSH_BYTES {
            self.flush().await?;
        }
        self.pending_bytes = self.pending_bytes.saturating_add(piece.len());
        self.pending.push(piece);
        self.taken = total;
        Ok(())
    }

    async fn commit(mut self: Box<Self>, expected: &Digest) -> Result<(), BlobError> {
        let incoming = self.whole().await?;
        let expected = expected.clone();
        tokio::task::spawn_blocking(move || incoming.commit(&expected)).await.map_err(lost)?
    }
}
