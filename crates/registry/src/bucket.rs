//! Blobs in a bucket of an S3-compatible server, so that several controls have the same without a shared folder.
//!
//! ```text
//! PREFIX/blobs/sha256/<hex>                      a blob: complete, and checked before it was sent
//! PREFIX/repositories/<domain>/<service>/<hex>   an empty object: the repository shows this blob
//! PREFIX/corrupt/<hex>                           a blob whose bytes had changed
//! PREFIX/probe                                   written and read at each start
//! ```
//!
//! S3 shows an object whole or not at all, and every control writes the same bytes under the same name, so nothing here
//! is claimed, locked or compared. Uploads are taken in on the local disk first ([`upload`]), where a crash leaves files
//! that [`Blobs::sweep`] removes; parts that a crash leaves in the bucket are for a rule of the bucket's own.
//!
//! Every call has a bounded time and a bounded number of attempts. Who calls is told what failed, and need not repeat it
//! within the same request.

mod address;
mod failure;
mod http;
mod upload;

pub use address::{Access, BucketAddress, BucketOptions};

use crate::{BlobError, Blobs, FolderBlobs, Upload, blobs::Pieces};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use object_store::{
    BackoffConfig, Error, GetOptions, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig,
    aws::AmazonS3Builder, path::Path,
};
use std::{io, ops::Range, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tutti_base::sha256::Hasher;
use tutti_model::{Digest, ServiceRef};

/// Attempts after the first one, with pauses from a tenth of a second to two: enough for a server that is exchanged,
/// and over before whoever pushes has given up.
const RETRIES: usize = 4;
/// Time from the first attempt after which there is no other.
const RETRY_TIME: Duration = Duration::from_secs(20);
/// How long a call may take with all its attempts: below the 30 s that a client of the API waits, which would otherwise
/// not be told why.
const CALL: Duration = Duration::from_secs(25);
/// Time without a byte after which a read counts as broken off. Below that of an agent that fetches, which would
/// otherwise not be told why.
const SILENCE: Duration = Duration::from_secs(25);
/// Blobs sent at once. With two parts of 8 MiB each they hold 64 MiB.
const SENDS: usize = 4;
/// What the probe holds.
const PROBE: &[u8] = b"tutti\n";

/// Blobs in a bucket. A copy is another handle of the same.
#[derive(Debug, Clone)]
pub struct BucketBlobs {
    bucket: Arc<Bucket>,
    /// Where uploads are taken in.
    spool: FolderBlobs,
}

/// The bucket, and where things are in it.
#[derive(Debug)]
struct Bucket {
    address: BucketAddress,
    store: object_store::aws::AmazonS3,
    sends: Semaphore,
}

impl BucketBlobs {
    /// Uses a bucket, after a look at whether it can be written and read. Uploads are taken in in the folder `spool`.
    ///
    /// # Errors
    /// [`BlobError::Bucket`] if it cannot be used, with what to do.
    pub async fn open(options: BucketOptions, spool: FolderBlobs) -> Result<Self, BlobError> {
        let blobs = BucketBlobs { bucket: Arc::new(Bucket::of(options)?), spool };
        blobs.bucket.probe().await?;
        Ok(blobs)
    }
}

impl Bucket {
    fn of(options: BucketOptions) -> Result<Self, BlobError> {
        let BucketOptions { address, endpoint, region, access } = options;
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: RETRY_TIME,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(address.bucket())
            .with_region(region)
            .with_access_key_id(access.key)
            .with_secret_access_key(access.secret.reveal().clone())
            .with_retry(retry)
            .with_http_connector(http::Connect);
        if let Some(session) = access.session {
            builder = builder.with_token(session.reveal().clone());
        }
        if let Some(endpoint) = endpoint {
            builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
        }
        let store = builder
            .build()
            .map_err(|error| failure::failure(&address, "use artifacts".to_owned(), &error))?;
        Ok(Bucket { address, store, sends: Semaphore::new(SENDS) })
    }

    fn key(&self, parts: &[&str]) -> Path {
        let prefix = self.address.prefix().split('/').filter(|part| !part.is_empty());
        Path::from_iter(prefix.chain(parts.iter().copied()))
    }

    fn blob(&self, digest: &Digest) -> Path {
        self.key(&["blobs", "sha256", digest.hex()])
    }

    /// The names are checked types: neither can hold a separator or be `.` or `..`.
    fn shown(&self, repository: &ServiceRef, digest: &Digest) -> Path {
        self.key(&["repositories", repository.domain.as_str(), repository.service.as_str(), digest.hex()])
    }

    fn failure(&self, what: String, error: &Error) -> BlobError {
        failure::failure(&self.address, what, error)
    }

    /// A call, within its time.
    async fn call<T>(
        &self,
        what: impl Fn() -> String,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, BlobError> {
        match tokio::time::timeout(CALL, call).await {
            Ok(done) => done.map_err(|error| self.failure(what(), &error)),
            Err(_) => Err(failure::silence(&self.address, what(), CALL.as_secs())),
        }
    }

    async fn put(&self, key: &Path, payload: PutPayload, what: impl Fn() -> String) -> Result<(), BlobError> {
        self.call(what, self.store.put(key, payload)).await.map(|_| ())
    }

    /// How many bytes an object has; `None` if there is none.
    async fn bytes(&self, key: &Path, what: impl Fn() -> String) -> Result<Option<u64>, BlobError> {
        let found = async {
            match self.store.head(key).await {
                Ok(found) => Ok(Some(found.size)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.call(what, found).await
    }

    async fn probe(&self) -> Result<(), BlobError> {
        let key = self.key(&["probe"]);
        let what = || "write and read a probe".to_owned();
        self.put(&key, PutPayload::from_static(PROBE), what).await?;
        let read = async { self.store.get(&key).await?.bytes().await };
        if self.call(what, read).await? == PROBE {
            return Ok(());
        }
        Err(BlobError::Bucket {
            bucket: self.address.to_string(),
            what: what(),
            why: "other bytes came back than were written".to_owned(),
            hint: "nothing else may write under the prefix; name another with --blobs s3://BUCKET/PREFIX",
        })
    }

    /// A part of a blob that is known to have it.
    async fn part(self: Arc<Self>, digest: &Digest, range: Range<u64>) -> Result<Pieces, BlobError> {
        let what = format!("read blob {digest}");
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let key = self.blob(digest);
        let found = tokio::time::timeout(CALL, self.store.get_opts(&key, options)).await;
        let found = match found {
            Ok(Ok(found)) => found,
            Ok(Err(Error::NotFound { .. })) => return Err(BlobError::Missing(digest.clone())),
            Ok(Err(error)) => return Err(self.failure(what, &error)),
            Err(_) => return Err(failure::silence(&self.address, what, CALL.as_secs())),
        };
        let pieces = stream::unfold(Some(found.into_stream()), move |state| {
            let (bucket, what) = (Arc::clone(&self), what.clone());
            async move {
                let mut pieces = state?;
                let error = match tokio::time::timeout(SILENCE, pieces.next()).await {
                    Ok(Some(Ok(piece))) => return Some((Ok(piece), Some(pieces))),
                    Ok(None) => return None,
                    Ok(Some(Err(error))) => bucket.failure(what, &error),
                    Err(_) => failure::silence(&bucket.address, what, SILENCE.as_secs()),
                };
                Some((Err(io::Error::other(error)), None))
            }
        });
        Ok(pieces.boxed())
    }

    /// Moves a blob out of the way. Its bytes are kept for whoever wants to know why.
    async fn set_aside(&self, digest: &Digest) -> Result<(), BlobError> {
        let (from, to) = (self.blob(digest), self.key(&["corrupt", digest.hex()]));
        let moved = async {
            self.store.copy(&from, &to).await?;
            self.store.delete(&from).await
        };
        self.call(|| format!("move blob {digest} aside"), moved).await
    }
}

#[async_trait]
impl Blobs for BucketBlobs {
    async fn upload(&self) -> Result<Box<dyn Upload>, BlobError> {
        let spool = self.spool.taking_in().await?;
        Ok(Box::new(upload::BucketUpload { spool, bucket: Arc::clone(&self.bucket) }))
    }

    async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        self.bucket.bytes(&self.bucket.blob(digest), || format!("look for blob {digest}")).await
    }

    async fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Pieces, BlobError> {
        // S3 refuses a range that begins at the end, and one of no bytes.
        let bytes = self.size(digest).await?.ok_or_else(|| BlobError::Missing(digest.clone()))?;
        let range = range.start..range.end.min(bytes);
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        Arc::clone(&self.bucket).part(digest, range).await
    }

    async fn verify(&self, digest: &Digest) -> Result<(), BlobError> {
        let mut pieces = self.read(digest, 0..u64::MAX).await?;
        let mut hasher = Hasher::default();
        while let Some(piece) = pieces.next().await {
            let piece =
                piece.map_err(|source| BlobError::Io { what: format!("read blob {digest}"), source })?;
            hasher.update(&piece);
        }
        let actual = hasher.finish();
        if actual == *digest {
            return Ok(());
        }
        tracing::error!(%digest, %actual, "a blob in the bucket is damaged; it is moved aside");
        if let Err(error) = self.bucket.set_aside(digest).await {
            tracing::error!(%digest, %error, "the damaged blob could not be moved aside");
        }
        Err(BlobError::Corrupt(digest.clone()))
    }

    async fn link(&self, repository: &ServiceRef, digest: &Digest) -> Result<(), BlobError> {
        let what = || format!("show blob {digest} in {repository}");
        self.bucket.put(&self.bucket.shown(repository, digest), PutPayload::default(), what).await
    }

    async fn linked(&self, repository: &ServiceRef, digest: &Digest) -> Result<bool, BlobError> {
        // The link alone is not enough: a damaged blob was moved away from under it.
        let what = || format!("look for blob {digest} in {repository}");
        let shown = self.bucket.shown(repository, digest);
        let (shown, there) = tokio::try_join!(self.bucket.bytes(&shown, what), self.size(digest))?;
        Ok(shown.is_some() && there.is_some())
    }

    async fn sweep(&self) -> Result<usize, BlobError> {
        self.spool.sweep().await
    }
}

#[cfg(test)]
mod tests;
