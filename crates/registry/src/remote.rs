//! Artifacts that are fetched from another machine's or process's registry, into blobs of one's own.
//!
//! A blob appears here whole and checked or not at all; what has come stays, so that a fetch that broke off goes on with
//! the first blob that is missing, and what is here needs nobody else. Which blobs an artifact has is read from its
//! manifest, which is the artifact's digest's own bytes: whoever sends them can neither add nor exchange one.

use crate::{BlobError, Blobs, FolderBlobs, LocalArtifacts, OciManifest, Upload, blobs::Pieces};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::{Mutex as Turn, Semaphore};
use tutti_isolate::contract::{Artifact, Artifacts};
use tutti_model::{Digest, Problem, limits};

/// Blobs fetched at once: enough to keep disk and network busy, few enough that a start's own is not slowed by many.
const FETCHES: usize = 4;
/// Time without a byte after which a fetch counts as broken off.
const SILENCE: Duration = Duration::from_secs(30);
/// How often an artifact is put together: again once, after a blob turned out to be damaged on this disk.
const ATTEMPTS: usize = 2;

/// Where blobs come from.
#[async_trait]
pub trait Origin: Send + Sync + Debug + 'static {
    /// The bytes of a blob, which the caller checks.
    ///
    /// # Errors
    /// `not_found` if it has none of this digest, `unavailable` if it does not answer.
    async fn blob(&self, digest: &Digest) -> Result<Pieces, Problem>;
}

/// Blobs of this process's own registry that are not files of this machine's.
#[derive(Debug)]
pub struct FromBlobs(pub Arc<dyn Blobs>);

#[async_trait]
impl Origin for FromBlobs {
    async fn blob(&self, digest: &Digest) -> Result<Pieces, Problem> {
        Ok(self.0.read(digest, 0..u64::MAX).await?)
    }
}

/// Serves artifacts out of a folder of blobs, and fetches what is not there.
#[derive(Debug)]
pub struct RemoteArtifacts {
    origin: Arc<dyn Origin>,
    blobs: FolderBlobs,
    local: LocalArtifacts,
    places: Semaphore,
    /// Who fetches a blob now; the others of the same digest wait for it.
    turns: Mutex<BTreeMap<Digest, Weak<Turn<()>>>>,
}

impl RemoteArtifacts {
    /// Artifacts out of `blobs`, and of `origin` what these lack.
    #[must_use]
    pub fn new(origin: Arc<dyn Origin>, blobs: FolderBlobs) -> Self {
        RemoteArtifacts {
            origin,
            local: LocalArtifacts::new(blobs.clone()),
            blobs,
            places: Semaphore::new(FETCHES),
            turns: Mutex::default(),
        }
    }

    async fn assemble(&self, digest: &Digest) -> Result<Artifact, Problem> {
        let most = u64::try_from(limits::OCI_MANIFEST_BYTES).unwrap_or(u64::MAX);
        self.bring(digest, Size::AtMost(most)).await?;
        let manifest = OciManifest::load(&self.blobs, digest).await?;
        for layer in &manifest.layers {
            self.bring(&layer.digest, Size::Exactly(layer.size)).await?;
        }
        self.local.fetch(digest).await
    }

    /// Returns once the blob is here.
    async fn bring(&self, digest: &Digest, size: Size) -> Result<(), Problem> {
        if self.blobs.size(digest).await?.is_some() {
            return Ok(());
        }
        let turn = self.turn(digest);
        let _turn = turn.lock().await;
        if self.blobs.size(digest).await?.is_some() {
            return Ok(());
        }
        let _place = self.places.acquire().await;
        if size.most() > limits::BLOB_BYTES {
            return Err(BlobError::TooLarge { limit: limits::BLOB_BYTES }.into());
        }
        let pieces = self.origin.blob(digest).await?;
        let upload = self.blobs.upload().await?;
        take_in(pieces, upload, digest, size).await
    }

    fn turn(&self, digest: &Digest) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::new(()));
        turns.insert(digest.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[async_trait]
impl Artifacts for RemoteArtifacts {
    async fn fetch(&self, digest: &Digest) -> Result<Artifact, Problem> {
        let mut attempt = 1;
        loop {
            match self.assemble(digest).await {
                // A damaged blob was moved aside when it was read, so that the next attempt fetches it.
                Err(problem) if attempt < ATTEMPTS && self.lacks(digest).await => {
                    tracing::warn!(%problem, artifact = %digest, "fetching what this disk has lost");
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}

impl RemoteArtifacts {
    /// Whether a blob of the artifact is missing though it had been here.
    async fn lacks(&self, digest: &Digest) -> bool {
        let Ok(Some(_)) = self.blobs.size(digest).await else { return self.was_damaged(digest) };
        let Ok(manifest) = OciManifest::load(&self.blobs, digest).await else { return false };
        manifest.layers.iter().any(|layer| self.was_damaged(&layer.digest))
    }

    fn was_damaged(&self, digest: &Digest) -> bool {
        self.blobs.was_damaged(digest) && !self.blobs.path(digest).exists()
    }
}

/// How many bytes a blob may have.
#[derive(Debug, Clone, Copy)]
enum Size {
    Exactly(u64),
    AtMost(u64),
}

impl Size {
    const fn most(self) -> u64 {
        match self {
            Size::Exactly(bytes) | Size::AtMost(bytes) => bytes,
        }
    }
}

/// Stores what comes, if it is what was announced.
async fn take_in(
    mut pieces: Pieces,
    mut upload: Box<dyn Upload>,
    digest: &Digest,
    size: Size,
) -> Result<(), Problem> {
    let broken = |why: &dyn std::fmt::Display| {
        Problem::unavailable(format!("fetching blob {digest} broke off: {why}"))
    };
    loop {
        let piece = tokio::time::timeout(SILENCE, pieces.next()).await;
        let Some(piece) = piece.map_err(|_| broken(&format!("nothing for {} s", SILENCE.as_secs())))? else {
            break;
        };
        let piece = piece.map_err(|error| broken(&error))?;
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if upload.taken().saturating_add(bytes) > size.most() {
            return Err(Problem::invalid(format!("blob {digest} has more than {} bytes", size.most())));
        }
        upload.write(piece).await?;
    }
    if let Size::Exactly(bytes) = size
        && upload.taken() < bytes
    {
        return Err(broken(&format!("{} of {bytes} bytes came", upload.taken())));
    }
    upload.commit(digest).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
