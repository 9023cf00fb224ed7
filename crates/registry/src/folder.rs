//! Blobs in a folder of the local disk.
//!
//! ```text
//! sha256/ab/<hex>                  a blob: complete, fsynced, read-only
//! incoming/<pid>-<n>               an upload, locked (flock) by the process that takes it in
//! repositories/<domain>/<service>/<hex>   an empty file: the repository shows this blob
//! corrupt/<hex>                    a blob whose bytes had changed, kept for whoever wants to know why
//! ```
//!
//! A blob appears by a rename after its fsync, so there is no moment at which half of one can be seen. A crash leaves
//! files in `incoming` whose lock is gone with the process; [`Blobs::sweep`] removes exactly those, whatever their age,
//! so that several processes can share the folder.

pub(crate) mod upload;

use crate::{BlobError, Blobs, Upload, blobs::Pieces};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::{
    fs,
    io::{self, Read as _, SeekFrom},
    ops::Range,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tutti_base::sha256::Hasher;
use tutti_model::{Digest, ServiceRef};

/// Bytes read from disk at a time: large enough that the system call does not show, small enough to hold for each of
/// many readers.
const READ_BYTES: usize = 128 * 1024;

/// A folder of blobs.
#[derive(Debug, Clone)]
pub struct FolderBlobs {
    layout: Arc<Layout>,
}

/// Where things are in the folder.
#[derive(Debug)]
struct Layout {
    root: PathBuf,
    /// Names the next upload of this process.
    next: AtomicU64,
}

/// What tells whether a file is still the one that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Layout {
    fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("sha256").join(hex.get(..2).unwrap_or(hex)).join(hex)
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// The names are checked types: neither can hold a separator or be `.` or `..`.
    fn link(&self, repository: &ServiceRef, digest: &Digest) -> PathBuf {
        let mut path = self.root.join("repositories");
        path.push(repository.domain.as_str());
        path.push(repository.service.as_str());
        path.push(digest.hex());
        path
    }

    fn error(&self, what: impl Into<String>, source: io::Error) -> BlobError {
        BlobError::from_io(&self.root, what, source)
    }

    /// What the machine said about a blob that should be there.
    fn read_error(&self, digest: &Digest, source: io::Error) -> BlobError {
        match source.kind() {
            io::ErrorKind::NotFound => BlobError::Missing(digest.clone()),
            _ => self.error(format!("read blob {digest}"), source),
        }
    }
}

/// Makes a folder and what is above it, for this user only, and puts the new entries on disk.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts a folder's entries on disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    fs::File::open(path)?.sync_all()
}

impl FolderBlobs {
    /// Opens the folder, making it if it is not there, and removes what an earlier process left half done.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let blobs = FolderBlobs { layout: Arc::new(Layout { root: path.into(), next: AtomicU64::new(0) }) };
        blobs
            .blocking(|layout| {
                for folder in ["sha256", "incoming", "repositories", "corrupt"] {
                    let folder = layout.root.join(folder);
                    make_folder(&folder).map_err(|error| {
                        layout.error(format!("make the folder \"{}\"", folder.display()), error)
                    })?;
                }
                Ok(())
            })
            .await?;
        blobs.sweep().await?;
        Ok(blobs)
    }

    /// Where a blob's file is, or would be.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.layout.blob(digest)
    }

    /// Starts taking in content, here or for a place that it goes on to.
    pub(crate) async fn taking_in(&self) -> Result<upload::FolderUpload, BlobError> {
        let layout = self.layout.clone();
        let incoming = self.blocking(move |_| upload::Incoming::create(layout)).await?;
        Ok(upload::FolderUpload::new(incoming))
    }

    /// Whether a blob of this digest was once moved aside because its bytes had changed.
    pub(crate) fn was_damaged(&self, digest: &Digest) -> bool {
        self.layout.root.join("corrupt").join(digest.hex()).exists()
    }

    /// What tells whether a blob's file was exchanged or changed since.
    pub(crate) async fn stamp(&self, digest: &Digest) -> Result<Stamp, BlobError> {
        let digest = digest.clone();
        self.blocking(move |layout| {
            let found =
                fs::metadata(layout.blob(&digest)).map_err(|error| layout.read_error(&digest, error))?;
            Ok(Stamp {
                inode: found.ino(),
                bytes: found.len(),
                modified: (found.mtime(), found.mtime_nsec()),
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let layout = self.layout.clone();
        let done = tokio::task::spawn_blocking(move || work(&layout)).await;
        done.unwrap_or_else(|error| {
            Err(self.layout.error("finish work on the blobs", io::Error::other(error)))
        })
    }
}

impl Stamp {
    /// The file's size.
    pub(crate) const fn bytes(self) -> u64 {
        self.bytes
    }
}

#[async_trait]
impl Blobs for FolderBlobs {
    async fn upload(&self) -> Result<Box<dyn Upload>, BlobError> {
        Ok(Box::new(self.taking_in().await?))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        match self.stamp(digest).await {
            Ok(stamp) => Ok(Some(stamp.bytes)),
            Err(BlobError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Pieces, BlobError> {
        let wrong = |error| self.layout.read_error(digest, error);
        let mut file = tokio::fs::File::open(self.layout.blob(digest)).await.map_err(wrong)?;
        file.set_max_buf_size(READ_BYTES);
        if range.start > 0 {
            file.seek(SeekFrom::Start(range.start)).await.map_err(wrong)?;
        }
        let part = file.take(range.end.saturating_sub(range.start));
        Ok(tokio_util::io::ReaderStream::with_capacity(part, READ_BYTES).boxed())
    }

    async fn verify(&self, digest: &Digest) -> Result<(), BlobError> {
        let digest = digest.clone();
        self.blocking(move |layout| {
            let path = layout.blob(&digest);
            let actual = hash_file(&path).map_err(|error| layout.read_error(&digest, error))?;
            if actual == digest {
                return Ok(());
            }
            tracing::error!(%digest, %actual, "a blob is damaged on disk; moved aside");
            if let Err(error) = fs::rename(&path, layout.root.join("corrupt").join(digest.hex())) {
                tracing::error!(%digest, %error, "the damaged blob could not be moved aside");
            }
            Err(BlobError::Corrupt(digest))
        })
        .await
    }

    async fn link(&self, repository: &ServiceRef, digest: &Digest) -> Result<(), BlobError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.blocking(move |layout| {
            let path = layout.link(&repository, &digest);
            if path.exists() {
                return Ok(());
            }
            let folder = path.parent().unwrap_or(&layout.root);
            make_folder(folder)
                .and_then(|()| fs::File::create(&path))
                .and_then(|_| sync_folder(folder))
                .map_err(|error| layout.error(format!("show blob {digest} in {repository}"), error))
        })
        .await
    }

    async fn linked(&self, repository: &ServiceRef, digest: &Digest) -> Result<bool, BlobError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        // The link alone is not enough: a damaged blob was moved away from under it.
        self.blocking(move |layout| {
            Ok(layout.link(&repository, &digest).exists() && layout.blob(&digest).exists())
        })
        .await
    }

    async fn sweep(&self) -> Result<usize, BlobError> {
        self.blocking(|layout| {
            let folder = layout.incoming();
            let wrong = |error| layout.error(format!("sweep \"{}\"", folder.display()), error);
            let mut swept = 0;
            for entry in fs::read_dir(&folder).map_err(wrong)? {
                let path = entry.map_err(wrong)?.path();
                // Whoever still takes it in holds its lock; it may also have been renamed away just now.
                let Ok(file) = fs::File::open(&path) else { continue };
                if file.try_lock().is_ok() && fs::remove_file(&path).is_ok() {
                    swept += 1;
                }
            }
            if swept > 0 {
                tracing::info!(swept, "removed uploads that were cut off");
            }
            Ok(swept)
        })
        .await
    }
}

/// The digest of a file's bytes.
fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some(piece) if !piece.is_empty() => hasher.update(piece),
            _ => return Ok(hasher.finish()),
        }
    }
}

#[cfg(test)]
mod tests;
