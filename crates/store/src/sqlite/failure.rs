//! What SQLite says went wrong, in the contract's words.

use crate::StoreError;
use rusqlite::{ErrorCode, ffi};
use std::path::Path;

/// Why work on a connection stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// SQLite's fault.
    #[error("sqlite failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The contract's answer.
    #[error("the request was refused")]
    Store(#[from] StoreError),
}

impl Failure {
    pub(super) fn at(self, path: &Path) -> StoreError {
        match self {
            Failure::Sqlite(error) => sqlite(&error, path),
            Failure::Store(error) => error,
        }
    }
}

/// A file that cannot be read as what it should be.
pub(super) fn corrupt(path: &Path, why: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("{}: {why}", path.display()))
}

pub(super) fn sqlite(error: &rusqlite::Error, path: &Path) -> StoreError {
    let place = || path.display().to_string();
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::NoSpace(place()),
        // The index of the log grows by whole pages, and it is a full disk that stops it.
        Some(ErrorCode::SystemIoFailure) if extended == ffi::SQLITE_IOERR_SHMSIZE => {
            StoreError::NoSpace(place())
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly(place()),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => corrupt(path, error),
        Some(_) => StoreError::Unavailable(format!("{}: {error}", place())),
        // A value of the wrong type, or a row that must be there and is not.
        None => corrupt(path, error),
    }
}

/// What the file system says of a file that is to be opened.
pub(super) fn file(error: &std::io::Error, path: &Path) -> StoreError {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let place = path.display().to_string();
    match error.kind() {
        StorageFull | QuotaExceeded => StoreError::NoSpace(place),
        ReadOnlyFilesystem | PermissionDenied => StoreError::ReadOnly(place),
        _ => StoreError::Unavailable(format!("{place}: {error}")),
    }
}
