//! Artifacts as control has them: where they are kept, which were pushed, and their bytes for agents.

use crate::{
    folder::DataFolder,
    parts::absolute,
    settings::{BlobsAddress, Settings},
};
use futures_util::StreamExt as _;
use std::sync::Arc;
use tutti_api::zone::Blob;
use tutti_control::server::{ArtifactIndex, BlobSource};
use tutti_isolate::contract::Artifacts;
use tutti_model::{Digest, Problem, ServiceRef};
use tutti_registry::{Blobs, BucketBlobs, FolderBlobs, LocalArtifacts, RemoteArtifacts, remote::FromBlobs};

/// Artifacts, wherever they are kept.
pub(crate) struct Opened {
    /// For the registry.
    pub(crate) blobs: Arc<dyn Blobs>,
    /// For an agent in this process, which needs files.
    pub(crate) artifacts: Arc<dyn Artifacts>,
}

/// Opens them. Of a bucket, uploads are taken in, and what an agent needs is kept, in the data folder.
///
/// # Errors
/// `unavailable` if the folder or the bucket cannot be used.
pub(crate) async fn open(settings: &Settings, folder: &DataFolder) -> Result<Opened, Problem> {
    match &settings.blobs {
        BlobsAddress::Folder(path) => {
            let blobs = FolderBlobs::open(absolute(folder, path)).await?;
            let artifacts = Arc::new(LocalArtifacts::new(blobs.clone()));
            Ok(Opened { blobs: Arc::new(blobs), artifacts })
        }
        BlobsAddress::Bucket(options) => {
            let own = FolderBlobs::open(folder.join("blobs")).await?;
            let blobs: Arc<dyn Blobs> = Arc::new(BucketBlobs::open(options.clone(), own.clone()).await?);
            let origin = Arc::new(FromBlobs(Arc::clone(&blobs)));
            Ok(Opened { artifacts: Arc::new(RemoteArtifacts::new(origin, own)), blobs })
        }
    }
}

/// Which artifacts were pushed, as the registry knows it.
#[derive(Debug)]
pub(crate) struct Pushed(pub(crate) Arc<dyn Blobs>);

#[async_trait::async_trait]
impl ArtifactIndex for Pushed {
    async fn exists(&self, service: &ServiceRef, artifact: &Digest) -> Result<bool, Problem> {
        tutti_registry::shows(&*self.0, service, artifact).await
    }
}

/// Blobs as agents in other processes fetch them.
#[derive(Debug)]
pub(crate) struct ToAgents(pub(crate) Arc<dyn Blobs>);

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
