//! Artifacts as control has them: which were pushed, and their bytes for agents.

use futures_util::StreamExt as _;
use tutti_api::zone::Blob;
use tutti_control::server::{ArtifactIndex, BlobSource};
use tutti_model::{Digest, Problem, ServiceRef};
use tutti_registry::{Blobs as _, FolderBlobs};

/// Which artifacts were pushed, as the registry knows it.
#[derive(Debug)]
pub(crate) struct Pushed(pub(crate) FolderBlobs);

#[async_trait::async_trait]
impl ArtifactIndex for Pushed {
    async fn exists(&self, service: &ServiceRef, artifact: &Digest) -> Result<bool, Problem> {
        tutti_registry::shows(&self.0, service, artifact).await
    }
}

/// Blobs as agents in other processes fetch them.
#[derive(Debug)]
pub(crate) struct ToAgents(pub(crate) FolderBlobs);

#[async_trait::async_trait]
impl BlobSource for ToAgents {
    async fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Problem> {
        let Some(size) = self.0.size(digest).await.map_err(Problem::from)? else { return Ok(None) };
        let pieces = self.0.read(digest, 0..size).await.map_err(Problem::from)?;
        let of = digest.clone();
        let pieces = pieces.map(move |piece| {
            piece.map_err(|error| Problem::unavailable(format!("blob {of} cannot be read: {error}")))
        });
        Ok(Some(Blob { size, pieces: pieces.boxed() }))
    }
}
