//! Backups of every form are read, and artifacts come out as they went in, or not at all.

use super::*;
use bytes::Bytes;
use format::damaged;
use futures_util::StreamExt as _;
use std::path::Path;
use tutti_base::{clock::VirtualClock, sha256};
use tutti_model::{Resource, manifest::Manifest as ServiceManifest, version::VersionSpec};
use tutti_registry::{FolderBlobs, OciManifest};
use tutti_store::{List, MemoryStore, Txn};

fn key() -> SealingKey {
    SealingKey::new(&Zeroizing::new([7; 32])).unwrap()
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Arc::new(VirtualClock::default())))
}

/// Stores content, and gives its digest.
async fn stored(blobs: &FolderBlobs, bytes: &[u8]) -> Digest {
    let digest = sha256::digest(bytes);
    let mut upload = blobs.upload().await.unwrap();
    for piece in bytes.chunks(100_000) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    upload.commit(&digest).await.unwrap();
    digest
}

/// An artifact of these layers, shown by a repository.
async fn artifact(blobs: &FolderBlobs, service: &str, layers: &[&[u8]]) -> Digest {
    let service = service.parse().unwrap();
    let mut parts = Vec::new();
    for bytes in [&[&b"{}"[..]], layers].concat() {
        let digest = stored(blobs, bytes).await;
        blobs.link(&service, &digest).await.unwrap();
        parts.push(serde_json::json!({ "mediaType": "a/b", "digest": digest, "size": bytes.len() }));
    }
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": parts[0], "layers": parts[1..] });
    let digest = stored(blobs, manifest.to_string().as_bytes()).await;
    blobs.link(&service, &digest).await.unwrap();
    digest
}

/// Puts a version that runs this artifact.
async fn version(objects: &Objects, name: &str, artifact: &Digest) {
    let spec = VersionSpec {
        version: name.parse().unwrap(),
        artifact: artifact.clone(),
        size: 1,
        isolate: tutti_model::version::Isolate::Wasm,
        manifest: ServiceManifest::default(),
    };
    let made: Resource<VersionSpec> = objects.make(name, spec);
    objects.write().create(&made).commit().await.unwrap().unwrap();
}

async fn whole(blobs: &dyn Blobs, digest: &Digest) -> Vec<u8> {
    let mut pieces = blobs.read(digest, 0..u64::MAX).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

async fn taken(store: &Arc<dyn Store>, blobs: Option<&dyn Blobs>) -> (Taken, Vec<u8>) {
    let (objects, key) = (objects(store), key());
    Taking { store: &**store, objects: &objects, key: &key, blobs }.write(Vec::new()).await.unwrap()
}

/// Reads a backup into a store, and its artifacts into these blobs.
async fn read(
    mut file: &[u8],
    store: &Arc<dyn Store>,
    blobs: Option<Arc<dyn Blobs>>,
) -> Result<Incoming, Problem> {
    let first = format::header(&mut file)?;
    let form = first.0.form;
    let mut reader = Reader::begin(file, &first, &key())?;
    let (piece, _) = reader.next()?;
    let manifest: Manifest = serde_json::from_slice(&piece).map_err(unknown)?;
    let mut incoming = Incoming::new(blobs);
    let restoring = Restoring::begin(&**store, &first.0.id, manifest.revision).await?;
    let totals = each(&mut reader, form, &mut incoming, async |pairs| restoring.put(pairs).await).await?;
    let Totals { keys, bytes, digest } = totals;
    restoring.finish(&Migrated { keys, bytes, digest, revision: manifest.revision }).await?;
    Ok(incoming)
}

async fn contents(store: &Arc<dyn Store>) -> Vec<(String, Vec<u8>)> {
    let entries = store.list(List::default()).await.unwrap().entries;
    entries.into_iter().map(|entry| (entry.key, entry.value.to_vec())).collect()
}

/// A file that an earlier release wrote is read for ever. It was made with this key from these two keys, by
/// `TUTTI_GOLDENS=write`, which makes one for a form that has none and never replaces any.
#[tokio::test]
async fn a_backup_of_each_form_is_still_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backup/goldens");
    let scratch = tempfile::tempdir().unwrap();
    for form in [PLAIN, WITH_ARTIFACTS] {
        let file = folder.join(format!("form-{form}.backup"));
        if !file.exists() && std::env::var("TUTTI_GOLDENS").is_ok_and(|asked| asked == "write") {
            let (store, blobs) = (memory(), FolderBlobs::open(scratch.path().join("from")).await.unwrap());
            let artifact = artifact(&blobs, "example.com:web", &[b"layer"]).await;
            version(&objects(&store), "example.com:web@1.0", &artifact).await;
            store.txn(Txn::new().put("some/key", *b"some value")).await.unwrap();
            let with: Option<&dyn Blobs> = if form == WITH_ARTIFACTS { Some(&blobs) } else { None };
            fs::write(&file, taken(&store, with).await.1).unwrap();
        }
        let kept = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (to, blobs) = (memory(), Arc::new(FolderBlobs::open(scratch.path().join("to")).await.unwrap()));
        let incoming = read(&kept, &to, Some(Arc::clone(&blobs) as _)).await.unwrap();
        let entry = to.get("some/key").await.unwrap().unwrap();
        assert_eq!(&*entry.value, b"some value", "form {form}");
        let found = objects(&to).list::<VersionSpec>("").await.unwrap().items;
        assert_eq!(found[0].name, "example.com:web@1.0");
        assert_eq!(incoming.carried.blobs, if form == WITH_ARTIFACTS { 3 } else { 0 });
    }
}

#[tokio::test]
async fn artifacts_come_out_as_they_went_in() {
    let scratch = tempfile::tempdir().unwrap();
    let from = FolderBlobs::open(scratch.path().join("from")).await.unwrap();
    let to: Arc<dyn Blobs> = Arc::new(FolderBlobs::open(scratch.path().join("to")).await.unwrap());
    let (store, restored) = (memory(), memory());
    let objects = objects(&store);
    let large: Vec<u8> = (0..pieces::BLOB_PIECE * 5 / 2).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let one = artifact(&from, "example.com:web", &[&large, b"shared"]).await;
    let other = artifact(&from, "other.org:api", &[b"shared", b""]).await;
    let lost = artifact(&from, "example.com:web", &[b"lost"]).await;
    for (name, artifact) in
        [("example.com:web@1.0", &one), ("other.org:api@2.0", &other), ("example.com:web@0.9", &lost)]
    {
        version(&objects, name, artifact).await;
    }
    fs::remove_file(from.path(&sha256::digest(b"lost"))).unwrap();

    let (told, file) = taken(&store, Some(&from)).await;
    let carried = told.carried.unwrap();
    // Three manifests, one config, and three layers, of which two share one.
    assert_eq!((told.referred, carried.blobs), (3, 3 + 1 + 3));
    assert_eq!(carried.missing.named, [("example.com:web@0.9".parse().unwrap(), lost.clone())]);

    let incoming = read(&file, &restored, Some(Arc::clone(&to))).await.unwrap();
    assert_eq!((incoming.carried.blobs, incoming.carried.bytes), (carried.blobs, carried.bytes));
    assert_eq!(contents(&restored).await, contents(&store).await);
    for (service, artifact) in [("example.com:web", &one), ("other.org:api", &other)] {
        let service = service.parse().unwrap();
        assert!(tutti_registry::shows(&*to, &service, artifact).await.unwrap());
        for reference in OciManifest::load(&*to, artifact).await.unwrap().references() {
            let digest = &reference.digest;
            assert!(whole(&*to, digest).await == whole(&from, digest).await, "{digest}");
        }
    }
    // No repository shows what another's artifact alone has.
    let stranger = "other.org:api".parse().unwrap();
    assert!(!to.linked(&stranger, &sha256::digest(&large)).await.unwrap());
    let mut references = References::new(&objects);
    let pairs: Vec<Pair> =
        contents(&restored).await.into_iter().map(|(key, value)| (key, value.into())).collect();
    references.see(&pairs).unwrap();
    let missing = references.missing(&*to).await.unwrap();
    assert_eq!((missing.count, missing.named), (1, carried.missing.named));
}

#[tokio::test]
async fn what_is_damaged_is_not_taken_for_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let from = FolderBlobs::open(scratch.path().join("from")).await.unwrap();
    let store = memory();
    let broken = artifact(&from, "example.com:web", &[b"good layer"]).await;
    version(&objects(&store), "example.com:web@1.0", &broken).await;
    let layer = from.path(&sha256::digest(b"good layer"));
    fs::remove_file(&layer).unwrap();
    fs::write(&layer, b"evil layer").unwrap();
    let (told, file) = taken(&store, Some(&from)).await;
    assert_eq!(told.carried.unwrap().missing.count, 1);
    let to: Arc<dyn Blobs> = Arc::new(FolderBlobs::open(scratch.path().join("to")).await.unwrap());
    read(&file, &memory(), Some(Arc::clone(&to))).await.unwrap();
    assert_eq!(to.size(&sha256::digest(b"good layer")).await.unwrap(), None);

    // A file that holds another blob than it says was not written by us, and nothing of it is kept.
    for wrong in [
        vec![head(b"good", 4), Piece::Bytes(b"evil".to_vec()), Piece::BlobEnd { whole: true }],
        vec![head(b"good", 3), Piece::Bytes(b"good".to_vec()), Piece::BlobEnd { whole: true }],
        vec![head(b"good", 5), Piece::Bytes(b"good".to_vec()), Piece::BlobEnd { whole: true }],
        vec![head(b"good", 4), head(b"good", 4)],
        vec![Piece::Bytes(b"good".to_vec())],
        vec![Piece::BlobEnd { whole: false }],
        vec![Piece::Shown(pieces::Shown {
            service: "example.com:web".parse().unwrap(),
            blobs: vec![sha256::digest(b"good")],
        })],
    ] {
        let mut writer = Writer::begin(Vec::new(), WITH_ARTIFACTS, &key(), None, &Random::seeded(1)).unwrap();
        let first = Manifest { release: "0".into(), taken_at: Timestamp(1), revision: 1 };
        writer.first(&json(&first).unwrap()).unwrap();
        wrong.iter().for_each(|piece| writer.piece(piece).unwrap());
        let file = writer.last(b"{}").unwrap();
        let refused = read(&file, &memory(), Some(Arc::clone(&to))).await.err().unwrap();
        assert_eq!(refused.code, damaged("").code, "{wrong:?} {refused}");
        assert_eq!(to.size(&sha256::digest(b"good")).await.unwrap(), None, "{wrong:?}");
    }
}

fn head(bytes: &[u8], size: u64) -> Piece {
    Piece::Blob(pieces::Head { digest: sha256::digest(bytes), size })
}
