//! Why content could not be stored or read.

use std::{io, path::Path};
use tutti_model::{Digest, ErrorCode, Problem};

/// What went wrong with a blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is no blob of this digest.
    #[error("blob {0} not found")]
    Missing(Digest),
    /// The stored bytes are no longer what they were; they have been moved aside, so that a push brings them back.
    #[error("blob {0} is damaged on disk")]
    Corrupt(Digest),
    /// The bytes that came are not those that were announced.
    #[error("the bytes received are {actual}, not {expected}")]
    Digest {
        /// What was announced.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More bytes than may be stored as one blob.
    #[error("the content is larger than {limit} bytes")]
    TooLarge {
        /// The most that is taken.
        limit: u64,
    },
    /// No room left on the disk.
    #[error("no space left on the disk of \"{folder}\"")]
    Full {
        /// The folder of the blobs.
        folder: String,
    },
    /// The disk takes no writes.
    #[error("the disk of \"{folder}\" is read-only")]
    ReadOnly {
        /// The folder of the blobs.
        folder: String,
    },
    /// A bucket that cannot be used, now or as it is set up.
    #[error("cannot {what} in {bucket}: {why}")]
    Bucket {
        /// Which, as it was named.
        bucket: String,
        /// What was being done, with the blob.
        what: String,
        /// What is wrong, in a few words.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// Anything else the machine says.
    #[error("cannot {what}")]
    Io {
        /// What was being done, with the file's name.
        what: String,
        /// What the machine said.
        #[source]
        source: io::Error,
    },
}

impl BlobError {
    /// Sorts out what the machine said while `what` was being done in `folder`.
    #[must_use]
    pub fn from_io(folder: &Path, what: impl Into<String>, source: io::Error) -> Self {
        let folder = folder.display().to_string();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::Full { folder },
            io::ErrorKind::ReadOnlyFilesystem => BlobError::ReadOnly { folder },
            _ => BlobError::Io { what: what.into(), source },
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Problem {
        match &error {
            BlobError::Missing(digest) => Problem::not_found("blob", digest),
            BlobError::Corrupt(digest) => Problem::unavailable(error.to_string())
                .object(format!("blob {digest}"))
                .hint("check the disk, and push the version's files again: the same bytes repair it"),
            BlobError::Digest { .. } => Problem::invalid(error.to_string()).hint("push again"),
            BlobError::TooLarge { .. } => Problem::new(ErrorCode::QuotaExceeded, error.to_string()),
            BlobError::Full { .. } => Problem::unavailable(error.to_string())
                .hint("free some space there, or give --blobs another folder"),
            BlobError::ReadOnly { .. } => Problem::unavailable(error.to_string())
                .hint("mount it writable, or give --blobs another folder"),
            BlobError::Bucket { hint, .. } => Problem::unavailable(error.to_string()).hint(*hint),
            BlobError::Io { what, source } => Problem::unavailable(format!("cannot {what}: {source}")),
        }
    }
}
