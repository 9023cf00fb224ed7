//! One upload into a bucket: it is taken in and hashed on this machine's disk, as for a folder, and goes on to the bucket
//! once its digest has been found right. So the bucket never holds what nobody asked for, and a client that is slow or
//! breaks off costs no request there.

use super::Bucket;
use crate::{
    BlobError, Upload,
    folder::upload::{FolderUpload, Incoming},
};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutPayload, WriteMultipart};
use std::{io, sync::Arc};
use tokio::io::AsyncReadExt as _;
use tutti_model::Digest;

/// Bytes of a part, and of the largest object that is sent in one request. S3 takes parts from 5 MiB and up to 10,000 of
/// them: enough for 78 GiB, where a blob has 4.
pub(super) const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts of one blob under way at once: one is sent while the next is read.
const PARTS: usize = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct BucketUpload {
    pub(super) spool: FolderUpload,
    pub(super) bucket: Arc<Bucket>,
}

#[async_trait]
impl Upload for BucketUpload {
    fn taken(&self) -> u64 {
        self.spool.taken()
    }

    async fn write(&mut self, piece: Bytes) -> Result<(), BlobError> {
        self.spool.write(piece).await
    }

    async fn commit(self: Box<Self>, expected: &Digest) -> Result<(), BlobError> {
        let bytes = self.spool.taken();
        let incoming = self.spool.check(expected).await?;
        let (bucket, expected) = (self.bucket, expected.clone());
        // By a task of its own: a caller who gives up waiting would leave parts behind that nobody sees.
        tokio::spawn(async move { bucket.send(&incoming, bytes, &expected).await }).await.map_err(
            |error| BlobError::Io {
                what: "go on with the upload".to_owned(),
                source: io::Error::other(error),
            },
        )?
    }
}

impl Bucket {
    /// Stores a file under its digest. What is there already is replaced by the same bytes, which mends it.
    async fn send(&self, incoming: &Incoming, bytes: u64, digest: &Digest) -> Result<(), BlobError> {
        let _place = self.sends.acquire().await;
        let disk = |source| incoming.error("read an upload", source);
        let mut file = tokio::fs::File::open(incoming.path()).await.map_err(disk)?;
        file.set_max_buf_size(PART_BYTES);
        let key = self.blob(digest);
        let what = || format!("store blob {digest}");
        if usize::try_from(bytes).is_ok_and(|bytes| bytes <= PART_BYTES) {
            let whole = part(&mut file).await.map_err(disk)?;
            return self.put(&key, PutPayload::from_bytes(whole), what).await;
        }
        let started = self.call(what, self.store.put_multipart(&key)).await?;
        let mut parts = WriteMultipart::new_with_chunk_size(started, PART_BYTES);
        loop {
            // Each part has its own time and attempts; this only waits for room.
            let room = parts.wait_for_capacity(PARTS.saturating_sub(1)).await;
            let next = match room {
                Ok(()) => part(&mut file).await.map_err(disk),
                Err(error) => Err(self.failure(what(), &error)),
            };
            match next {
                Ok(next) if next.is_empty() => break,
                Ok(next) => parts.put(next),
                Err(error) => {
                    if let Err(left) = parts.abort().await {
                        let left = self.failure(what(), &left);
                        tracing::warn!(%left, "parts of a blob stay in the bucket until its own rules remove them");
                    }
                    return Err(error);
                }
            }
        }
        parts.finish().await.map_err(|error| self.failure(what(), &error))?;
        Ok(())
    }
}

/// The next part of a file; empty at its end.
async fn part(file: &mut tokio::fs::File) -> io::Result<Bytes> {
    let mut part = Vec::new();
    let most = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut part).await?;
    Ok(Bytes::from(part))
}
