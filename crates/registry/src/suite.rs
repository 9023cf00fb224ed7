//! What any [`Blobs`] must hold to, run over each kind of them by its own tests.

use crate::{BlobError, Blobs};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use std::{ops::Range, sync::Arc};
use tutti_base::sha256::digest;
use tutti_model::{Digest, ErrorCode, Problem, ServiceRef};

/// A place for blobs that a test can look into.
#[async_trait]
pub(crate) trait Stand {
    /// What is tried.
    fn blobs(&self) -> Arc<dyn Blobs>;
    /// The same content by another handle, as a further process has it.
    async fn again(&self) -> Arc<dyn Blobs>;
    /// Exchanges a stored blob's bytes behind its back.
    fn damage(&self, digest: &Digest, bytes: &[u8]);
    /// Uploads that are on the disk.
    fn leftovers(&self) -> usize;
    /// Leaves what kill -9 leaves of an upload.
    fn leave(&self, name: &str);
}

/// Runs everything over one place.
pub(crate) async fn run(stand: &dyn Stand) {
    what_is_put_is_read_back_whole_and_in_parts(stand).await;
    other_bytes_than_announced_leave_nothing(stand).await;
    a_dropped_upload_leaves_nothing(stand).await;
    a_sweep_takes_what_a_dead_process_left_and_spares_what_is_under_way(stand).await;
    the_same_blob_pushed_by_many_at_once_is_there_once(stand).await;
    a_caller_who_gives_up_waiting_loses_and_repeats_nothing(stand).await;
    damage_is_found_moved_aside_and_mended_by_a_push(stand).await;
    a_repository_shows_only_what_was_linked_to_it(stand).await;
    a_missing_blob_is_missing(stand).await;
}

pub(crate) async fn put(blobs: &dyn Blobs, bytes: &[u8]) -> Digest {
    let mut upload = blobs.upload().await.unwrap();
    for piece in bytes.chunks(100_000) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    let digest = digest(bytes);
    upload.commit(&digest).await.unwrap();
    digest
}

pub(crate) async fn get(blobs: &dyn Blobs, digest: &Digest, range: Range<u64>) -> Vec<u8> {
    let pieces = blobs.read(digest, range).await.unwrap();
    pieces
        .try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
        .unwrap()
}

/// Bytes that repeat with no power of two, so that a piece in the wrong place changes the digest.
pub(crate) fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

async fn what_is_put_is_read_back_whole_and_in_parts(stand: &dyn Stand) {
    let blobs = stand.blobs();
    let bytes = content(1_000_003);
    let digest = put(&*blobs, &bytes).await;
    assert_eq!(blobs.size(&digest).await.unwrap(), Some(1_000_003));
    assert_eq!(get(&*blobs, &digest, 0..u64::MAX).await, bytes);
    assert_eq!(get(&*blobs, &digest, 500_000..500_010).await, bytes[500_000..500_010]);
    assert_eq!(get(&*blobs, &digest, 1_000_000..2_000_000).await, bytes[1_000_000..]);
    // There is nothing at the end, and no error either.
    assert_eq!(get(&*blobs, &digest, 1_000_003..2_000_000).await, b"");
    assert_eq!(get(&*blobs, &digest, 7..7).await, b"");
    blobs.verify(&digest).await.unwrap();
    assert_eq!(stand.leftovers(), 0);
    let empty = put(&*blobs, b"").await;
    assert_eq!(blobs.size(&empty).await.unwrap(), Some(0));
    assert_eq!(get(&*blobs, &empty, 0..u64::MAX).await, b"");
    blobs.verify(&empty).await.unwrap();
    // It is still there for the next process.
    let again = stand.again().await;
    assert_eq!(get(&*again, &digest, 0..u64::MAX).await, bytes);
}

async fn other_bytes_than_announced_leave_nothing(stand: &dyn Stand) {
    let blobs = stand.blobs();
    let mut upload = blobs.upload().await.unwrap();
    upload.write(Bytes::from_static(b"these")).await.unwrap();
    let expected = digest(b"those");
    let error = upload.commit(&expected).await.unwrap_err();
    assert!(matches!(&error, BlobError::Digest { actual, .. } if *actual == digest(b"these")), "{error}");
    assert_eq!(blobs.size(&expected).await.unwrap(), None);
    assert_eq!(blobs.size(&digest(b"these")).await.unwrap(), None);
    assert_eq!(stand.leftovers(), 0);
}

async fn a_dropped_upload_leaves_nothing(stand: &dyn Stand) {
    let blobs = stand.blobs();
    let mut upload = blobs.upload().await.unwrap();
    upload.write(Bytes::from(content(1000))).await.unwrap();
    assert_eq!(stand.leftovers(), 1);
    drop(upload);
    assert_eq!(stand.leftovers(), 0);
}

async fn a_sweep_takes_what_a_dead_process_left_and_spares_what_is_under_way(stand: &dyn Stand) {
    let blobs = stand.blobs();
    let mut upload = blobs.upload().await.unwrap();
    upload.write(Bytes::from_static(b"live")).await.unwrap();
    stand.leave("1-0");
    assert_eq!(blobs.sweep().await.unwrap(), 1);
    assert_eq!(stand.leftovers(), 1);
    // A second process that opens the place does not disturb the upload either.
    stand.leave("1-1");
    stand.again().await;
    assert_eq!(stand.leftovers(), 1);
    upload.commit(&digest(b"live")).await.unwrap();
    assert_eq!(get(&*blobs, &digest(b"live"), 0..9).await, b"live");
}

async fn the_same_blob_pushed_by_many_at_once_is_there_once(stand: &dyn Stand) {
    let bytes = content(700_000);
    let pushes = (0..16).map(|_| {
        let (blobs, bytes) = (stand.blobs(), bytes.clone());
        tokio::spawn(async move { put(&*blobs, &bytes).await })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await.unwrap();
    }
    assert_eq!(get(&*stand.blobs(), &digest(&bytes), 0..u64::MAX).await, bytes);
    assert_eq!(stand.leftovers(), 0);
}

async fn a_caller_who_gives_up_waiting_loses_and_repeats_nothing(stand: &dyn Stand) {
    let blobs = stand.blobs();
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
    assert_eq!(get(&*blobs, &digest(&bytes), 0..u64::MAX).await, bytes);
}

async fn damage_is_found_moved_aside_and_mended_by_a_push(stand: &dyn Stand) {
    let blobs = stand.blobs();
    let repository: ServiceRef = "example.com:web".parse().unwrap();
    let digest = put(&*blobs, b"right").await;
    blobs.link(&repository, &digest).await.unwrap();
    stand.damage(&digest, b"wrong");

    let error = blobs.verify(&digest).await.unwrap_err();
    let problem = Problem::from(error);
    assert_eq!(
        (problem.code, problem.detail),
        (ErrorCode::Unavailable, format!("blob {digest} is damaged on disk"))
    );
    assert!(matches!(blobs.verify(&digest).await, Err(BlobError::Missing(_))));
    assert!(!blobs.linked(&repository, &digest).await.unwrap(), "a client must be told to push it again");
    put(&*blobs, b"right").await;
    assert!(blobs.linked(&repository, &digest).await.unwrap());
    blobs.verify(&digest).await.unwrap();
}

async fn a_repository_shows_only_what_was_linked_to_it(stand: &dyn Stand) {
    let blobs = stand.blobs();
    let digest = put(&*blobs, b"secret").await;
    let (mine, theirs): (ServiceRef, ServiceRef) =
        ("example.com:com.example.HelloWorld".parse().unwrap(), "example.org:web".parse().unwrap());
    blobs.link(&mine, &digest).await.unwrap();
    blobs.link(&mine, &digest).await.unwrap();
    assert!(blobs.linked(&mine, &digest).await.unwrap());
    assert!(!blobs.linked(&theirs, &digest).await.unwrap());
}

async fn a_missing_blob_is_missing(stand: &dyn Stand) {
    let blobs = stand.blobs();
    let none = digest(b"none");
    assert_eq!(blobs.size(&none).await.unwrap(), None);
    assert!(matches!(blobs.read(&none, 0..1).await.err(), Some(BlobError::Missing(_))));
    assert!(matches!(blobs.verify(&none).await, Err(BlobError::Missing(_))));
}
