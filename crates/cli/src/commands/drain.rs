//! `tutti node drain`: what runs on a node runs elsewhere, and this waits until nothing is left there.

use super::Session;
use crate::{args::WaitArgs, exit::Failed, text::count};
use futures_util::StreamExt as _;
use serde_json::json;
use std::time::Duration;
use tutti_api::{Cache, client::Filter};
use tutti_model::{ErrorCode, Problem, instance::InstanceSpec, name::NodeName};

pub(super) async fn drain(session: &Session<'_>, node: &NodeName, wait: &WaitArgs) -> Result<(), Failed> {
    let drained = session.client.drain(node.as_str()).await?;
    if wait.no_wait {
        return session.ui.result(&drained, || format!("node {node} drains\n"));
    }
    let mut left = Vec::new();
    let limit = wait.timeout.map_or(Duration::MAX, |limit| limit.duration());
    match tokio::time::timeout(limit, until_empty(session, node, &mut left)).await {
        Ok(emptied) => emptied?,
        Err(_) => return Err(late(node, &left).into()),
    }
    session.ui.result(&json!({ "node": node, "drained": true }), || {
        format!("node {node} is drained\nlet it take instances again with: tutti node uncordon {node}\n")
    })
}

fn late(node: &NodeName, left: &[String]) -> Problem {
    let shown: Vec<&str> = left.iter().map(String::as_str).take(3).collect();
    let what = count(u64::try_from(left.len()).unwrap_or(u64::MAX), "instance");
    Problem::new(ErrorCode::Timeout, format!("{what} still run on node {node}: {}", shown.join(", "))).hint(
        format!("it goes on draining; why one stays: tutti explain {}", shown.first().unwrap_or(&"node")),
    )
}

/// Follows instances until none is left on the node; `left` are those that are.
async fn until_empty(session: &Session<'_>, node: &NodeName, left: &mut Vec<String>) -> Result<(), Problem> {
    let mut events = session.client.watch::<InstanceSpec>(&Filter::default(), None);
    let mut instances = Cache::default();
    while let Some(event) = events.next().await {
        instances.apply(event?);
        let there = instances.iter().filter(|instance| instance.spec.node == *node);
        *left = there.map(|instance| instance.name.clone()).collect();
        if instances.is_synced() && left.is_empty() {
            return Ok(());
        }
    }
    Err(Problem::unavailable("the watch over instances ended").hint("try again: draining goes on"))
}
