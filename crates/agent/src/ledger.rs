//! What this node was last told to run, on disk: written before an instance is started, so that an agent that was
//! killed takes up or starts again what it ran, whether or not control can be reached.
//!
//! One file an instance, replaced atomically: a reader sees the old entry or the new one, never a part. Written by the
//! instance's own runner, one write at a time.

use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};
use tutti_model::{
    InstanceId, Problem,
    instance::{InstanceSpec, InstanceStatus},
};

/// One instance as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The highest generation of it that was seen.
    pub(crate) generation: u64,
    /// What was asked, in that generation.
    pub(crate) spec: InstanceSpec,
    /// Whether it has ever been ready: from then on its end is a crash, not a failed start.
    #[serde(default)]
    pub(crate) ever_ready: bool,
    /// The secrets of its last start, sealed under the node's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secrets: Option<String>,
    /// Whether it sleeps: then it does not run, and is not started before a request comes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) asleep: bool,
    /// Its last status, once it had failed or stopped for good: it is not started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<InstanceStatus>,
}

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {source}", path.display())]
pub(crate) struct LedgerError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Problem {
        Problem::unavailable(error.to_string()).hint("check that the disk is writable and has room")
    }
}

/// The entries of every instance of this node.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    folder: PathBuf,
}

const SUFFIX: &str = ".json";

impl Ledger {
    /// The ledger in this folder, which is made if it is not there.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, LedgerError> {
        fs::create_dir_all(&folder).map_err(at("cannot make the folder", &folder))?;
        Ok(Ledger { folder })
    }

    /// Every entry. One that cannot be read is set aside with an error in the log; control will name its instance again.
    pub(crate) fn read(&self) -> Result<Vec<Entry>, LedgerError> {
        let mut entries = Vec::new();
        let listed = fs::read_dir(&self.folder).map_err(at("cannot read", &self.folder))?;
        for file in listed {
            let path = file.map_err(at("cannot read", &self.folder))?.path();
            if !path.to_string_lossy().ends_with(SUFFIX) {
                continue;
            }
            let read =
                fs::read(&path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
            match read {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a ledger entry is damaged and set aside");
                    let aside = path.with_extension("damaged");
                    fs::rename(&path, &aside).map_err(at("cannot set aside", &path))?;
                }
            }
        }
        entries.sort_by(|a: &Entry, b: &Entry| a.spec.instance.cmp(&b.spec.instance));
        Ok(entries)
    }

    /// Every entry that can be read, for somebody to look at while instances come and go; nothing is set aside.
    pub(crate) fn peek(&self) -> Result<Vec<Entry>, LedgerError> {
        let listed = fs::read_dir(&self.folder).map_err(at("cannot read", &self.folder))?;
        let files = listed.flatten().map(|file| file.path());
        let mut entries: Vec<Entry> = files
            .filter(|path| path.to_string_lossy().ends_with(SUFFIX))
            .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
            .collect();
        entries.sort_by(|a, b| a.spec.instance.cmp(&b.spec.instance));
        Ok(entries)
    }

    /// Writes an entry; it is on disk when this returns.
    pub(crate) async fn write(&self, entry: Entry) -> Result<(), LedgerError> {
        let path = self.path(&entry.spec.instance);
        let folder = self.folder.clone();
        let written = path.clone();
        let work = tokio::task::spawn_blocking(move || replace(&folder, &path, &entry));
        let result = work.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        result.map_err(at("cannot write", &written))
    }

    /// Removes an instance's entry, if there is one. Should it come back after a crash, it is stopped and removed again.
    pub(crate) async fn remove(&self, instance: &InstanceId) -> Result<(), LedgerError> {
        let path = self.path(instance);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("cannot remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, instance: &InstanceId) -> PathBuf {
        self.folder.join(format!("{instance}{SUFFIX}"))
    }
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError { what, path, source }
}

fn replace(folder: &Path, path: &Path, entry: &Entry) -> io::Result<()> {
    let bytes = serde_json::to_vec(entry)?;
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name is durable only once its folder is.
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
