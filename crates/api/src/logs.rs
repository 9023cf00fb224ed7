//! Reading the logs of instances, wherever they are kept.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use tutti_model::{
    InstanceId, Problem, Timestamp, VersionRef,
    log::{LogLine, LogQuery},
};

/// An instance of which lines are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The instance.
    pub instance: InstanceId,
    /// What it ran.
    pub version: VersionRef,
    /// When it was first started.
    pub started: Timestamp,
}

/// Where log lines are read from: the agent in the same process, or all of a zone's.
#[async_trait]
pub trait LogSource: Send + Sync + Debug {
    /// The lines, in order of their time.
    async fn read(&self, query: LogQuery) -> Result<BoxStream<'static, Result<LogLine, Problem>>, Problem>;

    /// Of which instances lines are kept, those that are gone among them: as many as the source keeps, in no order.
    async fn kept(&self) -> Result<Vec<Kept>, Problem> {
        Ok(Vec::new())
    }
}
