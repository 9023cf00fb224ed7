//! The data folder: made private, and owned by one process at a time.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use tutti_model::{ErrorCode, Problem};

/// A data folder that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    /// Whether it was not there before.
    made: bool,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if need be, and takes it.
    ///
    /// # Errors
    /// `conflict` if another process has it, naming that; `unavailable` if it cannot be made or written, saying why;
    /// `forbidden` if others could put their files in the place of ours.
    pub(crate) fn take(path: &Path) -> Result<DataFolder, Problem> {
        let path = std::path::absolute(path).map_err(|error| refused(path, "found", &error))?;
        let made = !path.exists();
        let create = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        create.map_err(|error| refused(&path, "made", &error))?;
        check_ours(&path)?;
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
        Ok(DataFolder { path, made, _lock: lock })
    }

    /// Gives it up before anything was kept in it: what was made for nothing does not stay.
    pub(crate) fn abandon(self) {
        if self.made {
            // Only for tidiness; and a folder in which there is something after all stays.
            let _ = std::fs::remove_file(self.path.join("lock"));
            let _ = std::fs::remove_dir(&self.path);
        }
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

/// Refuses a folder in which somebody else may exchange files, or lay links for us to write through.
fn check_ours(path: &Path) -> Result<(), Problem> {
    let found = std::fs::metadata(path).map_err(|error| refused(path, "looked at", &error))?;
    let forbidden = |why: String, hint: String| {
        let text = format!("the data folder {} {why}", path.display());
        Err(Problem::new(ErrorCode::Forbidden, text).hint(hint))
    };
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        return forbidden(
            format!("belongs to another user (uid {}, and this is {me})", found.uid()),
            format!("name another with --data-dir, or run: chown {me} {}", path.display()),
        );
    }
    if found.mode() & 0o022 != 0 {
        return forbidden(
            format!("can be written to by others (mode {:04o})", found.mode() & 0o7777),
            format!("name another with --data-dir, or run: chmod go-w {}", path.display()),
        );
    }
    Ok(())
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
        // It was there before, so it stays.
        DataFolder::take(&path).unwrap().abandon();
        assert!(path.join("lock").exists());
        let other = temp.path().join("other");
        DataFolder::take(&other).unwrap().abandon();
        assert!(!other.exists());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        for (mode, good) in [(0o755, true), (0o775, false), (0o1777, false), (0o700, true)] {
            std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let taken = DataFolder::take(temp.path());
            assert_eq!(taken.as_ref().is_ok(), good, "{mode:o}");
            if let Err(problem) = taken {
                assert_eq!(problem.code, ErrorCode::Forbidden);
                assert!(problem.hint.unwrap().contains("chmod go-w"));
            }
        }
    }
}
