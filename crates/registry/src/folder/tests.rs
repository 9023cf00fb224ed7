use super::*;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use std::os::unix::fs::PermissionsExt as _;
use tutti_base::sha256::digest;
use tutti_model::{ErrorCode, Problem};

async fn put(blobs: &FolderBlobs, bytes: &[u8]) -> Digest {
    let mut upload = blobs.upload().await.unwrap();
    for piece in bytes.chunks(100_000) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    let digest = digest(bytes);
    upload.commit(&digest).await.unwrap();
    digest
}

async fn get(blobs: &FolderBlobs, digest: &Digest, range: Range<u64>) -> Vec<u8> {
    let pieces = blobs.read(digest, range).await.unwrap();
    pieces
        .try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
        .unwrap()
}

fn leftovers(folder: &Path) -> usize {
    fs::read_dir(folder.join("incoming")).unwrap().count()
}

/// Bytes that repeat with no power of two, so that a piece in the wrong place changes the digest.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[tokio::test]
async fn what_is_put_is_read_back_whole_and_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let bytes = content(1_000_003);
    let digest = put(&blobs, &bytes).await;
    assert_eq!(blobs.size(&digest).await.unwrap(), Some(1_000_003));
    assert_eq!(get(&blobs, &digest, 0..u64::MAX).await, bytes);
    assert_eq!(get(&blobs, &digest, 500_000..500_010).await, bytes[500_000..500_010]);
    assert_eq!(get(&blobs, &digest, 1_000_000..2_000_000).await, bytes[1_000_000..]);
    blobs.verify(&digest).await.unwrap();
    assert_eq!(leftovers(folder.path()), 0);
    let empty = put(&blobs, b"").await;
    assert_eq!(blobs.size(&empty).await.unwrap(), Some(0));
    // Nobody writes into a blob by accident.
    assert_eq!(fs::metadata(blobs.path(&digest)).unwrap().permissions().mode() & 0o777, 0o444);
    // It is still there for the next process.
    let again = FolderBlobs::open(folder.path()).await.unwrap();
    assert_eq!(get(&again, &digest, 0..u64::MAX).await, bytes);
}

#[tokio::test]
async fn other_bytes_than_announced_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let mut upload = blobs.upload().await.unwrap();
    upload.write(Bytes::from_static(b"these")).await.unwrap();
    let expected = digest(b"those");
    let error = upload.commit(&expected).await.unwrap_err();
    assert!(matches!(&error, BlobError::Digest { actual, .. } if *actual == digest(b"these")), "{error}");
    assert_eq!(blobs.size(&expected).await.unwrap(), None);
    assert_eq!(blobs.size(&digest(b"these")).await.unwrap(), None);
    assert_eq!(leftovers(folder.path()), 0);
}

#[tokio::test]
async fn a_dropped_upload_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let mut upload = blobs.upload().await.unwrap();
    upload.write(Bytes::from(content(1000))).await.unwrap();
    assert_eq!(leftovers(folder.path()), 1);
    drop(upload);
    assert_eq!(leftovers(folder.path()), 0);
}

#[tokio::test]
async fn a_sweep_takes_what_a_dead_process_left_and_spares_what_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let mut upload = blobs.upload().await.unwrap();
    upload.write(Bytes::from_static(b"live")).await.unwrap();
    // What kill -9 leaves: the file without its lock.
    fs::write(folder.path().join("incoming/1-0"), b"dead").unwrap();
    assert_eq!(blobs.sweep().await.unwrap(), 1);
    assert_eq!(leftovers(folder.path()), 1);
    // A second process that opens the folder does not disturb the upload either.
    fs::write(folder.path().join("incoming/1-1"), b"dead").unwrap();
    FolderBlobs::open(folder.path()).await.unwrap();
    assert_eq!(leftovers(folder.path()), 1);
    upload.commit(&digest(b"live")).await.unwrap();
    assert_eq!(get(&blobs, &digest(b"live"), 0..9).await, b"live");
}

#[tokio::test]
async fn the_same_blob_pushed_by_many_at_once_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let bytes = content(700_000);
    let pushes = (0..16).map(|_| {
        let (blobs, bytes) = (blobs.clone(), bytes.clone());
        tokio::spawn(async move { put(&blobs, &bytes).await })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await.unwrap();
    }
    assert_eq!(get(&blobs, &digest(&bytes), 0..u64::MAX).await, bytes);
    assert_eq!(leftovers(folder.path()), 0);
}

#[tokio::test]
async fn a_caller_who_gives_up_waiting_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let mut upload = blobs.upload().await.unwrap();
    let bytes = content(3_000_000);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let before = upload.taken();
        let piece = Bytes::copy_from_slice(&rest[..rest.len().min(100_000)]);
        // Polled once, then dropped: every wait for the disk is cut off somewhere.
        let _ = futures_util::FutureExt::now_or_never(upload.write(piece));
        let taken = usize::try_from(upload.taken() - before).unwrap();
        rest = &rest[taken..];
        tokio::task::yield_now().await;
    }
    upload.commit(&digest(&bytes)).await.unwrap();
    assert_eq!(get(&blobs, &digest(&bytes), 0..u64::MAX).await, bytes);
}

#[tokio::test]
async fn damage_is_found_moved_aside_and_mended_by_a_push() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let repository: ServiceRef = "example.com:web".parse().unwrap();
    let digest = put(&blobs, b"right").await;
    blobs.link(&repository, &digest).await.unwrap();
    let path = blobs.path(&digest);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, b"wrong").unwrap();

    let error = blobs.verify(&digest).await.unwrap_err();
    let problem = Problem::from(error);
    assert_eq!(
        (problem.code, problem.detail),
        (ErrorCode::Unavailable, format!("blob {digest} is damaged on disk"))
    );
    assert!(matches!(blobs.verify(&digest).await, Err(BlobError::Missing(_))));
    assert!(!blobs.linked(&repository, &digest).await.unwrap(), "a client must be told to push it again");
    put(&blobs, b"right").await;
    assert!(blobs.linked(&repository, &digest).await.unwrap());
    blobs.verify(&digest).await.unwrap();
}

#[tokio::test]
async fn a_repository_shows_only_what_was_linked_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let digest = put(&blobs, b"secret").await;
    let (mine, theirs): (ServiceRef, ServiceRef) =
        ("example.com:com.example.HelloWorld".parse().unwrap(), "example.org:web".parse().unwrap());
    blobs.link(&mine, &digest).await.unwrap();
    blobs.link(&mine, &digest).await.unwrap();
    assert!(blobs.linked(&mine, &digest).await.unwrap());
    assert!(!blobs.linked(&theirs, &digest).await.unwrap());
}

#[tokio::test]
async fn a_missing_blob_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).await.unwrap();
    let none = digest(b"none");
    assert_eq!(blobs.size(&none).await.unwrap(), None);
    assert!(matches!(blobs.read(&none, 0..1).await.err(), Some(BlobError::Missing(_))));
    assert!(matches!(blobs.verify(&none).await, Err(BlobError::Missing(_))));
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
