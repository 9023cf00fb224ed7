//! The data folder: made private, and owned by one process at a time.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use tutti_model::{ErrorCode, Problem};

/// A data folder that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if need be, and takes it.
    ///
    /// # Errors
    /// `conflict` if another process has it, naming that; `unavailable` if it cannot be made or written, saying why.
    pub(crate) fn take(path: &Path) -> Result<DataFolder, Problem> {
        let path = std::path::absolute(path).map_err(|error| refused(path, "found", &error))?;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| refused(&path, "made", &error))?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(|error| refused(&file, "opened", &error))?;
        let taken = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        if taken.is_err() {
            let mut owner = String::new();
            // Only to name the owner; without it the message is still right.
            let _ = lock.read_to_string(&mut owner);
            let owner = owner.trim();
            let who =
                if owner.is_empty() { "another process".to_owned() } else { format!("process {owner}") };
            return Err(Problem::conflict(format!("the data folder {} is in use by {who}", path.display()))
                .hint("stop that one, or name another folder with --data-dir"));
        }
        let noted = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| write!(lock, "{}", std::process::id()));
        noted.map_err(|error| refused(&file, "written", &error))?;
        Ok(DataFolder { path, _lock: lock })
    }

    /// A path inside it.
    #[must_use]
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder itself.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn refused(path: &Path, what: &str, error: &std::io::Error) -> Problem {
    let problem =
        Problem::new(ErrorCode::Unavailable, format!("{} cannot be {what}: {error}", path.display()));
    match error.kind() {
        std::io::ErrorKind::StorageFull => {
            problem.hint("free some space, or name another folder with --data-dir")
        }
        _ => problem.hint("make it writable, or name another folder with --data-dir"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_and_names_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        let first = DataFolder::take(&path).unwrap();
        let problem = DataFolder::take(&path).unwrap_err();
        assert_eq!(problem.code, ErrorCode::Conflict);
        assert!(
            problem.detail.ends_with(&format!("is in use by process {}", std::process::id())),
            "{problem}"
        );
        drop(first);
        DataFolder::take(&path).unwrap();
    }
}
