//! `tutti node drain`: what runs on a node runs elsewhere, and this waits until nothing is left there.

use super::Session;
use crate::{args::WaitArgs, exit::Failed, text::count};
use futures_util::StreamExt as _;
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use tutti_api::{Change, WatchEvent, client::Filter};
use tutti_model::{ErrorCode, Problem, Resource, instance::InstanceSpec, name::NodeName};

pub(super) async fn drain(session: &Session<'_>, node: &NodeName, wait: &WaitArgs) -> Result<(), Failed> {
    let drained = session.client.drain(node.as_str()).await?;
    if wait.no_wait {
        return session.ui.result(&drained, || format!("node {node} drains\n"));
    }
    let mut left = BTreeSet::new();
    let limit = wait.timeout.map_or(Duration::MAX, |limit| limit.duration());
    match tokio::time::timeout(limit, until_empty(session, node, &mut left)).await {
        Ok(emptied) => emptied?,
        Err(_) => return Err(late(node, &left).into()),
    }
    session.ui.result(&json!({ "node": node, "drained": true }), || {
        format!("node {node} is drained\nlet it take instances again with: tutti node uncordon {node}\n")
    })
}

fn late(node: &NodeName, left: &BTreeSet<String>) -> Problem {
    let shown: Vec<&str> = left.iter().map(String::as_str).take(3).collect();
    let what = count(u64::try_from(left.len()).unwrap_or(u64::MAX), "instance");
    Problem::new(ErrorCode::Timeout, format!("{what} still run on node {node}: {}", shown.join(", "))).hint(
        format!("it goes on draining; why one stays: tutti explain {}", shown.first().unwrap_or(&"node")),
    )
}

/// Follows the instances of a node until none is left.
async fn until_empty(
    session: &Session<'_>,
    node: &NodeName,
    left: &mut BTreeSet<String>,
) -> Result<(), Problem> {
    let mut events = session.client.watch::<InstanceSpec>(&Filter::default(), None);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Init => left.clear(),
            WatchEvent::InitItem(instance) => note(&instance, node, left),
            WatchEvent::InitDone { .. } if left.is_empty() => return Ok(()),
            WatchEvent::InitDone { .. } => {}
            WatchEvent::Changes { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Put(instance) => note(&instance, node, left),
                        Change::Delete { name } => {
                            left.remove(&name);
                        }
                    }
                }
                if left.is_empty() {
                    return Ok(());
                }
            }
        }
    }
    Err(Problem::unavailable("the watch over instances ended").hint("try again: draining goes on"))
}

fn note(instance: &Resource<InstanceSpec>, node: &NodeName, left: &mut BTreeSet<String>) {
    if instance.spec.node == *node {
        left.insert(instance.name.clone());
    }
}
