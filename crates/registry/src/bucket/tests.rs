pub(crate) mod moto;

use super::*;
use crate::suite::{self, Stand, content, get, put};
use moto::Moto;
use std::path::PathBuf;
use tutti_base::Secret;
use tutti_model::Problem;

/// A bucket of moto's, and the disk before it.
struct Place {
    moto: Moto,
    folder: tempfile::TempDir,
    blobs: BucketBlobs,
}

fn options(endpoint: String, address: &str) -> BucketOptions {
    BucketOptions {
        address: address.parse().unwrap(),
        endpoint: Some(endpoint),
        region: "us-east-1".into(),
        access: Access { key: "test-key".into(), secret: Secret::new("test-secret".into()), session: None },
    }
}

impl Place {
    async fn open() -> Option<Place> {
        let moto = Moto::start()?;
        moto.make("tutti");
        let folder = tempfile::tempdir().unwrap();
        let spool = FolderBlobs::open(folder.path()).await.unwrap();
        let blobs = BucketBlobs::open(options(moto.endpoint(), "s3://tutti/a/b"), spool).await.unwrap();
        Some(Place { moto, folder, blobs })
    }

    fn incoming(&self) -> PathBuf {
        self.folder.path().join("incoming")
    }
}

#[async_trait]
impl Stand for Place {
    fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(self.blobs.clone())
    }

    async fn again(&self) -> Arc<dyn Blobs> {
        let spool = FolderBlobs::open(self.folder.path()).await.unwrap();
        Arc::new(BucketBlobs::open(options(self.moto.endpoint(), "s3://tutti/a/b"), spool).await.unwrap())
    }

    fn damage(&self, digest: &Digest, bytes: &[u8]) {
        let path = format!("/tutti/a/b/blobs/sha256/{}", digest.hex());
        let answer = self.moto.send("PUT", &path, bytes);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn leftovers(&self) -> usize {
        std::fs::read_dir(self.incoming()).unwrap().count()
    }

    fn leave(&self, name: &str) {
        std::fs::write(self.incoming().join(name), b"dead").unwrap();
    }
}

#[tokio::test]
async fn a_bucket_keeps_the_contract() {
    let Some(place) = Place::open().await else { return };
    suite::run(&place).await;
}

#[tokio::test]
async fn a_blob_of_several_parts_is_whole() {
    let Some(place) = Place::open().await else { return };
    for bytes in [upload::PART_BYTES, upload::PART_BYTES + 1, 3 * upload::PART_BYTES] {
        let bytes = content(bytes);
        let digest = put(&place.blobs, &bytes).await;
        assert_eq!(place.blobs.size(&digest).await.unwrap(), u64::try_from(bytes.len()).ok());
        assert!(get(&place.blobs, &digest, 0..u64::MAX).await == bytes);
        let at = upload::PART_BYTES - 5;
        let range = u64::try_from(at).unwrap()..u64::try_from(at + 10).unwrap();
        assert_eq!(get(&place.blobs, &digest, range).await, bytes[at..bytes.len().min(at + 10)]);
    }
    assert_eq!(place.leftovers(), 0);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told_with_what_to_do() {
    let Some(moto) = Moto::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let spool = FolderBlobs::open(folder.path()).await.unwrap();
    let problem =
        Problem::from(BucketBlobs::open(options(moto.endpoint(), "s3://other"), spool).await.unwrap_err());
    assert_eq!(problem.detail, "cannot write and read a probe in s3://other: there is no such bucket");
    assert!(problem.hint.is_some());
}

#[tokio::test]
async fn a_server_that_dies_is_told_in_bounded_time_and_used_again() {
    let Some(mut place) = Place::open().await else { return };
    let digest = put(&place.blobs, b"here").await;
    place.moto.kill();
    let problem = Problem::from(place.blobs.size(&digest).await.unwrap_err());
    assert_eq!(problem.code, tutti_model::ErrorCode::Unavailable);
    assert!(problem.detail.contains("in s3://tutti/a/b: "), "{problem}");
    assert!(problem.detail.contains("refused") && !problem.detail.contains("test-"), "{problem}");
    let mut upload = place.blobs.upload().await.unwrap();
    upload.write("there".into()).await.unwrap();
    let digest = tutti_base::sha256::digest(b"there");
    upload.commit(&digest).await.unwrap_err();
    assert_eq!(place.leftovers(), 0);
    place.moto.run();
    place.moto.make("tutti");
    put(&place.blobs, b"there").await;
    assert_eq!(get(&place.blobs, &digest, 0..9).await, b"there");
}
