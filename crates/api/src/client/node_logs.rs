//! Reading the logs of a node at its agent.

use super::{Client, fault, lines::Lines};
use crate::{
    logs::{Kept, LogSource},
    node_logs::{PATH, SILENCE, Said},
};
use async_trait::async_trait;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderValue, Method, header};
use std::sync::Arc;
use tutti_base::body;
use tutti_model::{
    Problem,
    log::{LogLine, LogQuery},
    node::RoleAddress,
};
use tutti_pki::ClientConfig;

/// The logs of the node whose agent is reached here. A node that says nothing for [`SILENCE`] ends the stream with a
/// problem.
#[derive(Debug, Clone)]
pub struct NodeLogs(Client);

impl NodeLogs {
    /// The logs of the node whose agent is at this address; at a port over what `tls` gives. Nothing is asked yet.
    ///
    /// # Errors
    /// What `tls` says.
    pub fn at(
        address: &RoleAddress,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, Problem>,
    ) -> Result<NodeLogs, Problem> {
        match address {
            RoleAddress::Socket(path) => Ok(NodeLogs(Client::over_socket(path))),
            RoleAddress::Port(port) => Client::of_cluster(std::slice::from_ref(port), tls()?).map(NodeLogs),
        }
    }
}

#[async_trait]
impl LogSource for NodeLogs {
    async fn read(&self, query: LogQuery) -> Result<BoxStream<'static, Result<LogLine, Problem>>, Problem> {
        let client = &self.0;
        let asked = serde_json::to_vec(&query)
            .map_err(|error| Problem::internal(format!("the query cannot be written as JSON: {error}")))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answered = client.exchange(Method::POST, PATH, headers, body::full(asked), Some(SILENCE)).await;
        let response = client.judge(answered).await?;
        let lines = Lines::new(&client.base, response, false);
        let base = client.base.clone();
        let read = stream::unfold(Some((lines, base)), |reading| async {
            let (mut lines, base) = reading?;
            match next(&mut lines, &base).await {
                Ok(Some(line)) => Some((Ok(line), Some((lines, base)))),
                Ok(None) => None,
                Err(problem) => Some((Err(problem), None)),
            }
        });
        Ok(read.boxed())
    }

    async fn kept(&self) -> Result<Vec<Kept>, Problem> {
        let client = &self.0;
        let answered =
            client.exchange(Method::GET, PATH, HeaderMap::new(), body::empty(), Some(SILENCE)).await;
        let bytes = client.whole(client.judge(answered).await?).await?;
        serde_json::from_slice(&bytes).map_err(|error| fault::unreadable(&client.base, &error))
    }
}

async fn next(lines: &mut Lines, base: &str) -> Result<Option<LogLine>, Problem> {
    loop {
        let line = tokio::time::timeout(SILENCE, lines.next()).await;
        let Some(line) = line.map_err(|_| fault::late(base, SILENCE))?? else { return Ok(None) };
        match serde_json::from_slice(&line).map_err(|error| fault::unreadable(base, &error))? {
            Said::Line(line) => return Ok(Some(line)),
            Said::Alive => {}
            Said::Failed(why) => return Err(Problem::unavailable(why)),
        }
    }
}
