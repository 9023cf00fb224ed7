//! Reading the logs of instances, wherever they are kept.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::fmt::Debug;
use tutti_model::{
    Problem,
    log::{LogLine, LogQuery},
};

/// Where log lines are read from: the agent in the same process, or all of a zone's.
#[async_trait]
pub trait LogSource: Send + Sync + Debug {
    /// The lines, in order of their time.
    async fn read(&self, query: LogQuery) -> Result<BoxStream<'static, Result<LogLine, Problem>>, Problem>;
}
