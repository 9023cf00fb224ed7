//! Asking nodes to hold a version ready, whatever is deployed: for an admin who knows that it will be wanted there.
//!
//! What is asked becomes part of the node's own object, which its agent follows by watch, so that nothing is lost with a
//! message; and what the node makes of it comes back in its status.

use super::{
    App,
    call::{Answer, Call},
    names, reply, versions,
};
use futures_util::StreamExt as _;
use std::collections::BTreeSet;
use tutti_api::{
    WatchEvent,
    wire::{NodePreload, Preload, Preloaded},
};
use tutti_model::{
    ErrorCode, Millis, Problem, Resource,
    name::NodeName,
    node::{ASKED_VERSIONS, NodeSpec, Readiness},
    version::VersionSpec,
};

/// Longest wait for what nodes make of it: within the time of a request.
const LONGEST_WAIT: Millis = Millis::seconds(20);
/// Most nodes of one request: each is a transaction of its own.
const NODES: usize = 256;

/// `POST /v1/versions/{name}/preload`
pub(super) async fn preload(call: Call) -> Answer {
    let request: Preload = call.json_or_default()?;
    let wait = request.wait.unwrap_or_default();
    if wait > LONGEST_WAIT {
        let text = format!("{wait} is longer than nodes are waited for, which is {LONGEST_WAIT}");
        return Err(Problem::invalid(text).hint("ask again: what was asked stays asked").into());
    }
    let version = versions::existing(&call.app, &call.caller, call.version()?).await?.spec;
    let nodes = chosen(&call.app, &version, request.nodes).await?;
    for node in &nodes {
        ask(&call.app, node, &version).await?;
    }
    let nodes = said(&call.app, &version, nodes, wait).await?;
    let ready = nodes.iter().all(|node| matches!(node.readiness, Some(Readiness::Ready { .. })));
    Ok(reply::ok(&Preloaded { nodes, ready }))
}

/// The nodes that are asked: those that were named, or all that could run it now.
async fn chosen(
    app: &App,
    version: &VersionSpec,
    named: Vec<NodeName>,
) -> Result<BTreeSet<NodeName>, Problem> {
    let all = app.objects.list::<NodeSpec>("").await?.items;
    let nodes: BTreeSet<NodeName> = if named.is_empty() {
        let could = |node: &&Resource<NodeSpec>| why_not(version, node).is_none();
        all.iter().filter(could).map(|node| node.spec.node.clone()).collect()
    } else {
        named.into_iter().collect()
    };
    if nodes.is_empty() {
        let reasons: Vec<String> = all.iter().filter_map(|node| why_not(version, node)).take(8).collect();
        let why = if reasons.is_empty() { "the zone has no nodes".to_owned() } else { reasons.join("; ") };
        return Err(Problem::unavailable(format!("no node could run {}: {why}", version.version))
            .hint("see them with: tutti node list"));
    }
    if nodes.len() > NODES {
        let text = format!("{} nodes are more than {NODES} of one request", nodes.len());
        return Err(Problem::new(ErrorCode::QuotaExceeded, text).hint("name some of them at a time"));
    }
    match nodes.iter().find(|name| !all.iter().any(|node| node.spec.node == **name)) {
        Some(missing) => Err(Problem::not_found("node", missing).hint("see them with: tutti node list")),
        None => Ok(nodes),
    }
}

/// Why a node could not run a version, whatever room it has.
fn why_not(version: &VersionSpec, node: &Resource<NodeSpec>) -> Option<String> {
    let can =
        |isolate: &&tutti_model::node::Fingerprint| isolate.usable && isolate.isolate == version.isolate;
    if !node.status.ready {
        Some(format!("node {} is not ready", node.name))
    } else if node.spec.cordoned {
        Some(format!("node {} is cordoned", node.name))
    } else if !node.status.isolates.iter().any(|isolate| can(&isolate)) {
        Some(format!("node {} cannot run {} isolates", node.name, version.isolate))
    } else {
        None
    }
}

/// Puts a version first among those that a node is asked to hold.
async fn ask(app: &App, node: &NodeName, version: &VersionSpec) -> Result<(), Problem> {
    for _ in 0..names::ATTEMPTS {
        let mut node = app.objects.get::<NodeSpec>(node.as_str()).await?;
        if node.spec.asked.first() == Some(version) {
            return Ok(());
        }
        node.spec.asked.retain(|known| known.version != version.version);
        node.spec.asked.insert(0, version.clone());
        node.spec.asked.truncate(ASKED_VERSIONS);
        node.generation += 1;
        if app.objects.write().update(&node).commit().await?.is_some() {
            return Ok(());
        }
    }
    Err(names::busy("node", node.as_str()))
}

/// What each node says of a version, once all have said how it ended, or the time is over.
async fn said(
    app: &App,
    version: &VersionSpec,
    nodes: BTreeSet<NodeName>,
    wait: Millis,
) -> Result<Vec<NodePreload>, Problem> {
    let read = app.objects.list::<NodeSpec>("").await?;
    let mut known: Vec<NodePreload> =
        nodes.into_iter().map(|node| NodePreload { node, readiness: None }).collect();
    let hear = |known: &mut Vec<NodePreload>, node: &Resource<NodeSpec>| {
        if let Some(entry) = known.iter_mut().find(|entry| entry.node == node.spec.node) {
            let held = node.status.held.iter().find(|held| held.artifact == version.artifact);
            entry.readiness = held.map(|held| held.readiness.clone());
        }
    };
    read.items.iter().for_each(|node| hear(&mut known, node));
    let over = app.objects.clock().sleep(wait);
    tokio::pin!(over);
    let mut events = app.objects.watch::<NodeSpec>(Some(read.revision));
    while !known.iter().all(is_decided) {
        let event = tokio::select! {
            biased;
            () = &mut over => break,
            event = events.next() => event,
        };
        let Some(event) = event else { break };
        match event? {
            WatchEvent::InitItem(node) => hear(&mut known, &node),
            WatchEvent::Changes { changes, .. } => changes.into_iter().for_each(|change| {
                if let tutti_api::Change::Put(node) = change {
                    hear(&mut known, &node);
                }
            }),
            WatchEvent::Init | WatchEvent::InitDone { .. } => {}
        }
    }
    Ok(known)
}

/// Whether what a node said is its last word. One that is delayed tries again.
fn is_decided(node: &NodePreload) -> bool {
    matches!(node.readiness, Some(Readiness::Ready { .. } | Readiness::Unrunnable { .. }))
}
