//! A node's logs on the wire, between its agent and control: what is asked, and the lines of the answer.
//!
//! The answer is newline-delimited JSON, one [`Said`] a line, and something at least every [`ALIVE_EVERY`], so that a
//! reader tells a quiet node from one that hangs.

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tutti_model::{Problem, log::LogLine};

/// Where an agent answers. The request is a `POST` of a [`tutti_model::log::LogQuery`] as JSON; a `GET` is answered with
/// the instances of which lines are kept, as a JSON list of [`crate::logs::Kept`].
pub const PATH: &str = "/v1/node/logs";
/// Largest query, in bytes: as many instances as are read at once, with room.
pub const QUERY_BYTES: usize = 64 * 1024;
/// A line that says nothing but that the node lives comes this often.
pub const ALIVE_EVERY: Duration = Duration::from_secs(3);
/// A node that says nothing for so long does not answer any more.
pub const SILENCE: Duration = Duration::from_secs(10);

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// One captured line.
    Line(LogLine),
    /// There is nothing new.
    Alive,
    /// Reading went wrong, and this was all.
    Failed(String),
}

/// The body of the answer with these lines. It ends with them, or after the first problem.
pub fn encode(
    lines: BoxStream<'static, Result<LogLine, Problem>>,
) -> impl Stream<Item = Bytes> + Send + use<> {
    stream::unfold(Some(lines), |lines| async {
        let mut lines = lines?;
        let (said, more) = match tokio::time::timeout(ALIVE_EVERY, lines.next()).await {
            Err(_) => (Said::Alive, Some(lines)),
            Ok(None) => return None,
            Ok(Some(Ok(line))) => (Said::Line(line), Some(lines)),
            Ok(Some(Err(problem))) => (Said::Failed(problem.to_string()), None),
        };
        let mut bytes = serde_json::to_vec(&said).ok()?;
        bytes.push(b'\n');
        Some((Bytes::from(bytes), more))
    })
}
