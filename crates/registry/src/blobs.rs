//! The contract of a blob store.

use crate::BlobError;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::{fmt::Debug, io, ops::Range};
use tutti_model::{Digest, ServiceRef};

/// The bytes of a blob, piece by piece.
pub type Pieces = BoxStream<'static, Result<Bytes, io::Error>>;

/// Keeps content under its digest. What is stored is complete, was checked against its digest on the way in, and
/// survives a power cut; what is not complete is not there.
#[async_trait]
pub trait Blobs: Send + Sync + Debug {
    /// Starts taking in content whose digest is told at its end.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn upload(&self) -> Result<Box<dyn Upload>, BlobError>;

    /// How many bytes the blob has; `None` if it is not there.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError>;

    /// Reads a part of a blob; the range is cut at the blob's end. The bytes are not checked again on the way out:
    /// whoever takes them knows the digest. [`Blobs::verify`] checks on demand.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Pieces, BlobError>;

    /// Reads every byte of a blob and compares with its digest.
    ///
    /// # Errors
    /// [`BlobError::Corrupt`] if they differ; such a blob is moved aside and counts as missing from then on.
    async fn verify(&self, digest: &Digest) -> Result<(), BlobError>;

    /// Shows a stored blob in a repository. Idempotent.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn link(&self, repository: &ServiceRef, digest: &Digest) -> Result<(), BlobError>;

    /// Whether a repository shows a blob.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn linked(&self, repository: &ServiceRef, digest: &Digest) -> Result<bool, BlobError>;

    /// Removes what uploads that were cut off have left behind, and says how many there were.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn sweep(&self) -> Result<usize, BlobError>;
}

/// Content on its way in. Dropping it discards what came so far.
///
/// Both methods may be cancelled at any await: pieces that were taken stay taken and in order.
#[async_trait]
pub trait Upload: Send + Debug {
    /// Bytes taken so far.
    fn taken(&self) -> u64;

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] past [`tutti_model::limits::BLOB_BYTES`]; what the disk says. After an error, what came
    /// so far is of no use.
    async fn write(&mut self, piece: Bytes) -> Result<(), BlobError>;

    /// Ends it: the content is stored under its digest if that is the expected one, else discarded.
    ///
    /// # Errors
    /// [`BlobError::Digest`] if other bytes came; what the disk says.
    async fn commit(self: Box<Self>, expected: &Digest) -> Result<(), BlobError>;
}
