use super::*;
use bytes::Bytes;
use serde_json::json;
use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tutti_base::sha256;
use tutti_model::ErrorCode;

/// An origin over a folder of blobs, that counts and can be away, cut short, or lie.
#[derive(Debug)]
struct Registry {
    blobs: FolderBlobs,
    asked: AtomicUsize,
    away: AtomicBool,
    /// Pieces after which it breaks off.
    cut: AtomicUsize,
    /// What it sends after the blob's own bytes.
    more: Bytes,
}

#[async_trait]
impl Origin for Registry {
    async fn blob(&self, digest: &Digest) -> Result<Pieces, Problem> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(Problem::unavailable("away"));
        }
        let pieces = self.blobs.read(digest, 0..u64::MAX).await?;
        let more = self.more.clone();
        let lie = futures_util::stream::iter((!more.is_empty()).then_some(Ok(more)));
        let cut = self.cut.load(Ordering::SeqCst);
        let broken = futures_util::stream::iter((cut < usize::MAX).then(|| Err(io::Error::other("cut off"))));
        Ok(pieces.take(cut).chain(broken).chain(lie).boxed())
    }
}

struct World {
    _folders: (tempfile::TempDir, tempfile::TempDir),
    registry: Arc<Registry>,
    own: FolderBlobs,
    artifacts: Arc<RemoteArtifacts>,
    digest: Digest,
    layer: Digest,
}

const LAYER: usize = 300_000;

async fn put(blobs: &FolderBlobs, bytes: &[u8]) -> Digest {
    let mut upload = blobs.upload().await.unwrap();
    upload.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    let digest = sha256::digest(bytes);
    upload.commit(&digest).await.unwrap();
    digest
}

/// A registry with one artifact whose manifest says that its layer has this many bytes.
async fn world(size: usize, more: &'static [u8]) -> World {
    let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let theirs = FolderBlobs::open(folders.0.path()).await.unwrap();
    let own = FolderBlobs::open(folders.1.path()).await.unwrap();
    let config = put(&theirs, b"{}").await;
    let layer = put(&theirs, &vec![7; LAYER]).await;
    let manifest = json!({
        "schemaVersion": 2,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/wasm", "digest": layer, "size": size }],
    });
    let digest = put(&theirs, manifest.to_string().as_bytes()).await;
    let registry = Arc::new(Registry {
        blobs: theirs,
        asked: AtomicUsize::new(0),
        away: AtomicBool::new(false),
        cut: AtomicUsize::new(usize::MAX),
        more: Bytes::from_static(more),
    });
    let artifacts = Arc::new(RemoteArtifacts::new(Arc::clone(&registry) as _, own.clone()));
    World { _folders: folders, registry, own, artifacts, digest, layer }
}

#[tokio::test]
async fn an_artifact_comes_once_and_then_needs_nobody() {
    let world = world(LAYER, b"").await;
    let (one, other) =
        tokio::join!(world.artifacts.fetch(&world.digest), world.artifacts.fetch(&world.digest));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(world.registry.asked.load(Ordering::SeqCst), 2, "manifest and layer, each once");
    world.registry.away.store(true, Ordering::SeqCst);
    let artifact = world.artifacts.fetch(&world.digest).await.unwrap();
    assert_eq!(fs::read(&artifact.layers[0].path).unwrap(), vec![7; LAYER]);
    let missing = world.artifacts.fetch(&sha256::digest(b"other")).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::Unavailable);
}

#[tokio::test]
async fn what_breaks_off_leaves_nothing_and_comes_at_the_next_attempt() {
    let world = world(LAYER, b"").await;
    world.artifacts.bring(&world.digest, Size::AtMost(1 << 20)).await.unwrap();
    world.registry.cut.store(1, Ordering::SeqCst);
    let problem = world.artifacts.fetch(&world.digest).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::Unavailable, "{problem}");
    assert_eq!(world.own.size(&world.layer).await.unwrap(), None);
    assert_eq!(fs::read_dir(world._folders.1.path().join("incoming")).unwrap().count(), 0);
    world.registry.cut.store(usize::MAX, Ordering::SeqCst);
    world.artifacts.fetch(&world.digest).await.unwrap();
}

#[tokio::test]
async fn nobody_sends_more_than_the_manifest_says_or_other_bytes() {
    for (size, more, code) in [
        (LAYER, &b"more"[..], ErrorCode::Invalid),
        (LAYER - 1, b"", ErrorCode::Invalid),
        (LAYER + 1, b"", ErrorCode::Unavailable),
        (LAYER + 4, b"lies", ErrorCode::Invalid),
    ] {
        let world = world(size, b"").await;
        // The manifest comes as it is, the layer with what is not its own.
        world.artifacts.bring(&world.digest, Size::AtMost(1 << 20)).await.unwrap();
        let origin = Arc::new(Registry {
            blobs: world.registry.blobs.clone(),
            asked: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            cut: AtomicUsize::new(usize::MAX),
            more: Bytes::from_static(more),
        });
        let artifacts = RemoteArtifacts::new(origin, world.own.clone());
        let problem = artifacts.fetch(&world.digest).await.unwrap_err();
        assert_eq!(problem.code, code, "{size} {more:?}: {problem}");
        assert_eq!(world.own.size(&world.layer).await.unwrap(), None, "{size} {more:?}");
    }
}

#[tokio::test]
async fn what_the_own_disk_has_damaged_is_fetched_again() {
    let world = world(LAYER, b"").await;
    world.artifacts.fetch(&world.digest).await.unwrap();
    for digest in [&world.layer, &world.digest] {
        let path = world.own.path(digest);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
        // As after a restart, when nothing is known of the disk.
        let artifacts = RemoteArtifacts::new(Arc::clone(&world.registry) as _, world.own.clone());
        artifacts.fetch(&world.digest).await.unwrap();
    }
}
