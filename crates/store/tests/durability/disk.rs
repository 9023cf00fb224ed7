//! A full disk and a medium that cannot be written, on real ones: small file systems in memory. Where these cannot be
//! mounted, the tests say that they were skipped.

use futures_util::{FutureExt as _, StreamExt as _};
use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tutti_store::{List, SqliteOptions, SqliteStore, Store, StoreError, Txn, TxnOutcome, WatchEvent};

/// How long a watch may take to tell what was committed.
const SOON: Duration = Duration::from_secs(30);

/// A small file system, for as long as this lives.
struct Medium {
    folder: tempfile::TempDir,
}

impl Medium {
    fn mount(kib: u32) -> Option<Medium> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Medium { folder }),
            other => {
                println!("skipped: this test mounts a small file system, which needs root ({other:?})");
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn make_read_only(&self) {
        let status =
            Command::new("mount").args(["-o", "remount,ro"]).arg(self.folder.path()).status().unwrap();
        assert!(status.success());
    }

    /// Takes all space but so many KiB.
    fn fill(&self, leave_kib: u64) -> Filler {
        let path = self.folder.path().join("filler");
        let mut file = File::create(&path).unwrap();
        let mut size: u64 = 0;
        while file.write_all(&[0; 4096]).is_ok() {
            size += 4096;
        }
        file.set_len(size.saturating_sub(leave_kib * 1024)).unwrap();
        Filler { path }
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.folder.path()).status();
        assert!(
            unmounted.is_ok_and(|status| status.success()),
            "{} stays mounted",
            self.folder.path().display()
        );
    }
}

/// What takes the space, until it is dropped.
struct Filler {
    path: PathBuf,
}

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, SqliteOptions { retain_revisions: 50, ..SqliteOptions::default() })
}

fn write(revision: u64) -> Txn {
    Txn::new()
        .put(format!("k/{}", revision % 5), vec![b'x'; 3000])
        .put("count", revision.to_string().into_bytes())
}

#[tokio::test]
async fn a_full_disk_is_told_and_writing_goes_on_once_there_is_space() {
    let Some(medium) = Medium::mount(3072) else { return };
    let store = open(&medium.path()).unwrap();
    let mut watch = store.watch("count", Some(0)).await.unwrap();
    let mut last = 0;
    let mut refused = 0;
    for leave_kib in [0, 4, 8, 20, 36, 64, 128, 0, 12, 100] {
        let filler = medium.fill(leave_kib);
        // Past what is left, and past what is free in the log.
        for _ in 0..400 {
            match store.txn(write(last + 1)).await {
                Ok(outcome) => {
                    last += 1;
                    assert_eq!(outcome, TxnOutcome::Committed(last));
                }
                Err(error) => {
                    assert_eq!(error, StoreError::NoSpace(medium.path().display().to_string()));
                    refused += 1;
                    break;
                }
            }
        }
        let count = store.get("count").await.unwrap().map(|entry| entry.value.to_vec());
        assert_eq!(count, (last > 0).then(|| last.to_string().into_bytes()), "what can be read");
        assert_eq!(store.revision().await.unwrap(), last);
        drop(filler);
        last += 1;
        assert_eq!(store.txn(write(last)).await, Ok(TxnOutcome::Committed(last)), "{leave_kib} KiB");
        drain(&mut watch, last).await;
    }
    assert!(refused >= 5, "the disk was full {refused} times only");
    drop((store, watch));

    let store = open(&medium.path()).unwrap();
    assert_eq!(store.revision().await.unwrap(), last);
    assert_eq!(store.txn(write(last + 1)).await, Ok(TxnOutcome::Committed(last + 1)));
}

/// The watch has each commit up to `last` once, and nothing else.
async fn drain(watch: &mut tutti_store::Watch, last: u64) {
    loop {
        let Some(Ok(WatchEvent::Changes { revision, .. })) =
            tokio::time::timeout(SOON, watch.next()).await.unwrap()
        else {
            panic!("a watch ended")
        };
        assert!(revision <= last);
        if revision == last {
            break;
        }
    }
    assert!(watch.next().now_or_never().is_none(), "a commit that failed was told");
}

#[tokio::test]
async fn a_full_disk_is_told_when_a_store_is_made() {
    let Some(medium) = Medium::mount(256) else { return };
    let filler = medium.fill(0);
    let error = open(&medium.path()).unwrap_err();
    assert_eq!(error, StoreError::NoSpace(medium.path().display().to_string()));
    drop(filler);
    let store = open(&medium.path()).unwrap();
    assert_eq!(store.txn(write(1)).await, Ok(TxnOutcome::Committed(1)));
}

#[tokio::test]
async fn read_only_media_are_told_and_left_as_they_are() {
    let Some(medium) = Medium::mount(4096) else { return };
    let error = {
        let store = open(&medium.path()).unwrap();
        store.txn(write(1)).await.unwrap();
        drop(store);
        medium.make_read_only();
        open(&medium.path()).unwrap_err()
    };
    assert_eq!(error, StoreError::ReadOnly(medium.path().display().to_string()));
    let new = medium.folder.path().join("new.db");
    assert_eq!(open(&new).unwrap_err(), StoreError::ReadOnly(new.display().to_string()));
}

#[tokio::test]
async fn a_store_copied_without_its_companions_opens() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("store.db"), folder.path().join("copy.db"));
    let store = open(&path).unwrap();
    for revision in 1..=20 {
        store.txn(write(revision)).await.unwrap();
    }
    let wanted = store.list(List::default()).await.unwrap();
    drop(store);
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(open(&copy).unwrap().list(List::default()).await.unwrap(), wanted);
}
