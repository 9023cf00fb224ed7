//! Lines that instances write.

use crate::{InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Tutti itself, about the instance: started, exited, killed.
    Tutti,
}

/// One captured line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was captured.
    pub at: Timestamp,
    /// Whose it is.
    pub instance: InstanceId,
    /// Where it came from.
    pub output: Output,
    /// The line without its end; bytes that are not UTF-8 are replaced.
    pub line: String,
}

/// Which lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogQuery {
    /// Lines of these instances.
    pub instances: Vec<InstanceId>,
    /// The last so many of what is there; `None` for all.
    pub tail: Option<usize>,
    /// Lines captured at or after this moment.
    pub since: Option<Timestamp>,
    /// Whether to go on with new lines as they come, until the reader drops the stream.
    pub follow: bool,
}
