//! Artifacts that are on this machine already, because its own registry holds them.

use crate::{BlobError, Blobs, FolderBlobs, OciManifest, folder::Stamp, manifest::Descriptor};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use tutti_isolate::contract::{Artifact, Artifacts, Layer};
use tutti_model::{Digest, Problem, ServiceRef};

/// Blobs remembered as verified. Past it the memory starts over, which costs a verification each and nothing else.
const REMEMBERED: usize = 10_000;

/// Serves artifacts out of a folder of blobs.
///
/// Each layer is read and compared with its digest once per process: an artifact is fetched at every preload, and
/// hashing 100 MiB takes about as long as the rest of a start together. What happened to the disk while Tutti was down is
/// so found before anything runs; afterwards a file counts as unchanged while its inode, size and time of change are
/// the same, and nobody but Tutti's own user can write there.
#[derive(Debug)]
pub struct LocalArtifacts {
    blobs: FolderBlobs,
    verified: Mutex<BTreeMap<Digest, Stamp>>,
}

impl LocalArtifacts {
    /// Artifacts out of these blobs.
    #[must_use]
    pub fn new(blobs: FolderBlobs) -> Self {
        LocalArtifacts { blobs, verified: Mutex::default() }
    }

    async fn layer(&self, descriptor: &Descriptor) -> Result<Layer, BlobError> {
        let digest = &descriptor.digest;
        let stamp = self.blobs.stamp(digest).await?;
        if stamp.bytes() != descriptor.size {
            // Either the disk cut the file, which reading it shows, or the manifest lies.
            self.blobs.verify(digest).await?;
            return Err(BlobError::Corrupt(digest.clone()));
        }
        if !self.is_verified(digest, stamp) {
            self.blobs.verify(digest).await?;
            self.remember(digest, stamp);
        }
        Ok(Layer {
            media_type: descriptor.media_type.clone(),
            digest: digest.clone(),
            size: descriptor.size,
            path: self.blobs.path(digest),
        })
    }

    fn is_verified(&self, digest: &Digest, stamp: Stamp) -> bool {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(digest) == Some(&stamp)
    }

    fn remember(&self, digest: &Digest, stamp: Stamp) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest.clone(), stamp);
    }
}

#[async_trait]
impl Artifacts for LocalArtifacts {
    async fn fetch(&self, digest: &Digest) -> Result<Artifact, Problem> {
        let manifest = OciManifest::load(&self.blobs, digest).await?;
        if manifest.config.is_none() || manifest.layers.is_empty() {
            return Err(Problem::invalid(format!("artifact {digest} has no layers"))
                .object(format!("artifact {digest}")));
        }
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for descriptor in &manifest.layers {
            layers.push(self.layer(descriptor).await.map_err(Problem::from)?);
        }
        Ok(Artifact { digest: digest.clone(), layers })
    }
}

/// Whether a repository shows an artifact: its manifest and everything that this refers to. The manifest alone is not
/// enough, since one that was sent as a plain blob was never read: it could name other domains' blobs.
///
/// # Errors
/// `invalid` if the digest is that of something else than a manifest; `unavailable` if the disk fails.
pub async fn shows(blobs: &dyn Blobs, repository: &ServiceRef, artifact: &Digest) -> Result<bool, Problem> {
    if !blobs.linked(repository, artifact).await.map_err(Problem::from)? {
        return Ok(false);
    }
    let manifest = OciManifest::load(blobs, artifact).await?;
    for reference in manifest.references() {
        if !blobs.linked(repository, &reference.digest).await.map_err(Problem::from)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
