use super::*;
use crate::suite::{self, Stand, content, get, put};
use bytes::Bytes;
use std::os::unix::fs::PermissionsExt as _;
use tutti_base::sha256::digest;
use tutti_model::{ErrorCode, Problem};

fn leftovers(folder: &Path) -> usize {
    fs::read_dir(folder.join("incoming")).unwrap().count()
}

struct Place {
    folder: tempfile::TempDir,
    blobs: FolderBlobs,
}

#[async_trait]
impl Stand for Place {
    fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(self.blobs.clone())
    }

    async fn again(&self) -> Arc<dyn Blobs> {
        Arc::new(FolderBlobs::open(self.folder.path()).await.unwrap())
    }

    fn damage(&self, digest: &Digest, bytes: &[u8]) {
        let path = self.blobs.path(digest);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, bytes).unwrap();
    }

    fn leftovers(&self) -> usize {
        leftovers(self.folder.path())
    }

    fn leave(&self, name: &str) {
        // The file without its lock.
        fs::write(self.folder.path().join("incoming").join(name), b"dead").unwrap();
    }
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    suite::run(&Place { folder, blobs }).await;
}

#[tokio::test]
async fn nobody_writes_into_a_blob_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let digest = put(&blobs, b"kept").await;
    assert_eq!(fs::metadata(blobs.path(&digest)).unwrap().permissions().mode() & 0o777, 0o444);
}

/// A small disk of its own, for root; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tutti-test"])
            .arg(folder.path())
            .output();
        match done {
            Ok(output) if output.status.success() => Some(SmallDisk(folder)),
            _ => {
                eprintln!("skipped: this test mounts a small disk, which needs root");
                None
            }
        }
    }

    fn remount(&self, options: &str) {
        let done = std::process::Command::new("mount").args(["-o", options]).arg(self.0.path()).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_said_plainly_and_harms_nothing() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    let blobs = FolderBlobs::open(disk.0.path()).await.unwrap();
    let kept = put(&blobs, b"kept").await;
    let mut upload = blobs.upload().await.unwrap();
    let mut ended = Ok(());
    for _ in 0..40 {
        ended = upload.write(Bytes::from(content(100_000))).await;
        if ended.is_err() {
            break;
        }
    }
    let problem = Problem::from(ended.unwrap_err());
    assert_eq!(problem.code, ErrorCode::Unavailable);
    assert!(problem.detail.starts_with("no space left on the disk of \""), "{problem}");
    assert!(problem.hint.is_some());
    // It stays failed, rather than store a blob with a hole.
    let _ = upload.write(Bytes::from_static(b"x")).await;
    upload.commit(&digest(b"x")).await.unwrap_err();
    assert_eq!(leftovers(disk.0.path()), 0);
    blobs.verify(&kept).await.unwrap();
    // With the failed upload gone there is room again.
    put(&blobs, &content(500_000)).await;
}

#[tokio::test]
async fn a_read_only_disk_is_said_plainly() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    let blobs = FolderBlobs::open(disk.0.path()).await.unwrap();
    let kept = put(&blobs, b"kept").await;
    disk.remount("remount,ro");
    let problem = Problem::from(blobs.upload().await.unwrap_err());
    assert!(problem.detail.ends_with("is read-only"), "{problem}");
    assert_eq!(get(&blobs, &kept, 0..9).await, b"kept");
}

#[tokio::test]
async fn content_past_the_limit_is_refused() {
    use tutti_model::limits::BLOB_BYTES;
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let mut upload = upload::FolderUpload::new(upload::Incoming::create(blobs.layout.clone()).unwrap());
    upload.pretend_taken(BLOB_BYTES - 3);
    upload.write(Bytes::from_static(b"abc")).await.unwrap();
    let error = upload.write(Bytes::from_static(b"d")).await.unwrap_err();
    assert!(matches!(error, BlobError::TooLarge { limit: BLOB_BYTES }), "{error}");
}
