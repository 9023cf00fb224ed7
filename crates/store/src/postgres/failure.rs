//! What PostgreSQL says went wrong, in the contract's words.

use crate::StoreError;
use std::error::Error as _;
use tokio_postgres::error::SqlState;

/// Why work on a connection stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The connection broke, or leads to a server that cannot be written to: another may do. Whether a commit that was
    /// under way took effect is not known.
    #[error("{0}")]
    Lost(String),
    /// The server took the transaction back for a reason that passes.
    #[error("{0}")]
    Again(String),
    /// The contract's answer. Nothing happened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure {
    /// What PostgreSQL, or the way to it, says went wrong.
    pub(super) fn of(error: &tokio_postgres::Error, place: &str) -> Failure {
        let Some(database) = error.as_db_error() else {
            let mut text = format!("{place}: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            return Failure::Lost(text);
        };
        let code = database.code();
        let text = format!("{place}: {} ({})", database.message(), code.code());
        match code {
            &SqlState::DISK_FULL => StoreError::NoSpace(place.to_owned()).into(),
            &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => StoreError::Corrupt(text).into(),
            &SqlState::T_R_SERIALIZATION_FAILURE
            | &SqlState::T_R_DEADLOCK_DETECTED
            | &SqlState::LOCK_NOT_AVAILABLE
            | &SqlState::QUERY_CANCELED => Failure::Again(text),
            &SqlState::READ_ONLY_SQL_TRANSACTION
            | &SqlState::ADMIN_SHUTDOWN
            | &SqlState::CRASH_SHUTDOWN
            | &SqlState::CANNOT_CONNECT_NOW
            | &SqlState::TOO_MANY_CONNECTIONS
            | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Failure::Lost(text),
            // Class 08: the connection.
            code if code.code().starts_with("08") => Failure::Lost(text),
            _ => StoreError::Unavailable(text).into(),
        }
    }

    /// What the caller is told when it is not tried again, and nothing happened.
    pub(super) fn told(self) -> StoreError {
        match self {
            Failure::Lost(text) | Failure::Again(text) => StoreError::Unavailable(text),
            Failure::Store(error) => error,
        }
    }
}
