use super::*;
use bytes::Bytes;
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use tutti_base::sha256;
use tutti_model::ErrorCode;

async fn put(blobs: &FolderBlobs, bytes: &[u8]) -> Digest {
    let mut upload = blobs.upload().await.unwrap();
    upload.write(Bytes::copy_from_slice(bytes)).await.unwrap();
    let digest = sha256::digest(bytes);
    upload.commit(&digest).await.unwrap();
    digest
}

async fn put_artifact(blobs: &FolderBlobs, layer: &[u8]) -> Digest {
    let config = put(blobs, b"{}").await;
    let layer_digest = put(blobs, layer).await;
    let manifest = json!({
        "schemaVersion": 2,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": "application/wasm", "digest": layer_digest, "size": layer.len() }],
    });
    put(blobs, manifest.to_string().as_bytes()).await
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn an_artifact_is_given_with_its_layers() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let digest = put_artifact(&blobs, b"\0asm").await;
    let artifact = LocalArtifacts::new(blobs).fetch(&digest).await.unwrap();
    assert_eq!(artifact.digest, digest);
    let [layer] = artifact.layers.as_slice() else { panic!("one layer") };
    assert_eq!((layer.media_type.as_str(), layer.size), ("application/wasm", 4));
    assert_eq!(fs::read(&layer.path).unwrap(), b"\0asm");
}

#[tokio::test]
async fn what_is_missing_or_no_artifact_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let artifacts = LocalArtifacts::new(blobs.clone());
    let none = sha256::digest(b"none");
    let problem = artifacts.fetch(&none).await.unwrap_err();
    assert_eq!(
        (problem.code, problem.detail),
        (ErrorCode::NotFound, format!("artifact \"{none}\" not found"))
    );
    let blob = put(&blobs, b"\0asm").await;
    assert_eq!(artifacts.fetch(&blob).await.unwrap_err().code, ErrorCode::Invalid);
    let digest = put_artifact(&blobs, b"layer").await;
    fs::remove_file(blobs.path(&sha256::digest(b"layer"))).unwrap();
    assert_eq!(artifacts.fetch(&digest).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn damage_before_and_after_the_first_fetch_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let layer = blobs.path(&sha256::digest(b"layer"));
    let digest = put_artifact(&blobs, b"layer").await;

    // The same length, so that only the digest can tell.
    overwrite(&layer, b"LAYER");
    let artifacts = LocalArtifacts::new(blobs.clone());
    assert_eq!(artifacts.fetch(&digest).await.unwrap_err().code, ErrorCode::Unavailable);

    put(&blobs, b"layer").await;
    artifacts.fetch(&digest).await.unwrap();
    overwrite(&layer, b"Layer");
    assert_eq!(artifacts.fetch(&digest).await.unwrap_err().code, ErrorCode::Unavailable);

    put(&blobs, b"layer").await;
    artifacts.fetch(&digest).await.unwrap();
    overwrite(&layer, b"lay");
    assert_eq!(artifacts.fetch(&digest).await.unwrap_err().code, ErrorCode::Unavailable);

    overwrite(&blobs.path(&digest), b"{}");
    assert_eq!(artifacts.fetch(&digest).await.unwrap_err().code, ErrorCode::Unavailable);
}

#[tokio::test]
async fn the_memory_of_what_was_verified_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    put(&blobs, b"x").await;
    let stamp = blobs.stamp(&sha256::digest(b"x")).await.unwrap();
    let artifacts = LocalArtifacts::new(blobs);
    for number in 0..=REMEMBERED {
        artifacts.remember(&sha256::digest(&number.to_le_bytes()), stamp);
    }
    assert!(artifacts.verified.lock().unwrap().len() <= REMEMBERED);
}

#[tokio::test]
async fn a_manifest_sent_as_a_blob_shows_no_others_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let artifact = put_artifact(&blobs, b"secret").await;
    let (victim, thief) = ("victim.com:web".parse().unwrap(), "thief.com:web".parse().unwrap());
    let layer = sha256::digest(b"secret");
    for digest in [&artifact, &layer, &sha256::digest(b"{}")] {
        blobs.link(&victim, digest).await.unwrap();
    }
    assert!(shows(&blobs, &victim, &artifact).await.unwrap());
    assert!(!shows(&blobs, &thief, &artifact).await.unwrap());
    // As an upload does it that says it is any bytes.
    blobs.link(&thief, &artifact).await.unwrap();
    blobs.link(&thief, &sha256::digest(b"{}")).await.unwrap();
    assert!(!shows(&blobs, &thief, &artifact).await.unwrap());
    assert_eq!(shows(&blobs, &victim, &layer).await.unwrap_err().code, ErrorCode::Invalid);
}
