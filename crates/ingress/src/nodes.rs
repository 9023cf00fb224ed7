//! Following where the zone's nodes are reached.
//!
//! A node without an address is in this process, or not there at all: neither is reached over the wire. When the watch
//! ends it is begun anew; the last addresses serve on meanwhile, and are kept in the file of the last tables.

use crate::{Edge, watch};
use futures_util::StreamExt as _;
use std::{collections::BTreeMap, sync::Arc};
use tokio_util::sync::CancellationToken;
use tutti_api::{Change, WatchEvent};
use tutti_base::Backoff;
use tutti_model::{
    Resource,
    name::NodeName,
    node::{NodeSpec, RoleAddress},
};

type Addresses = BTreeMap<NodeName, RoleAddress>;

/// Follows nodes until `ended`.
pub(crate) async fn follow(edge: Arc<Edge>, ended: CancellationToken) {
    tokio::select! {
        () = follow_on(&edge) => {}
        () = ended.cancelled() => {}
    }
}

async fn follow_on(edge: &Edge) {
    let mut backoff = watch::retries(edge);
    loop {
        let why = follow_once(edge, &mut backoff).await;
        tracing::warn!(why, "the watch of nodes ended; sending to where they last were");
        edge.clock.sleep(backoff.fail()).await;
    }
}

/// Applies what the watch says until it ends; gives why it did.
async fn follow_once(edge: &Edge, backoff: &mut Backoff) -> String {
    let mut events = edge.zone.watch_nodes(None);
    let mut coming = Addresses::new();
    loop {
        match events.next().await {
            None => return "it was closed".to_owned(),
            Some(Err(problem)) => return problem.detail,
            Some(Ok(event)) => {
                backoff.succeed();
                if take(edge, &mut coming, event) {
                    edge.dirty.notify_one();
                }
            }
        }
    }
}

/// Applies an event; whether an address changed with it.
fn take(edge: &Edge, coming: &mut Addresses, event: WatchEvent<NodeSpec>) -> bool {
    match event {
        WatchEvent::Init => coming.clear(),
        WatchEvent::InitItem(node) => {
            let (name, address) = reached(*node);
            coming.extend(address.map(|address| (name, address)));
        }
        WatchEvent::InitDone { .. } => {
            let now = std::mem::take(coming);
            let news = edge.nodes.all() != now;
            edge.nodes.replace(now);
            edge.nodes_known.send_replace(true);
            return news;
        }
        WatchEvent::Changes { changes, .. } => {
            let mut news = false;
            for change in changes {
                news |= match change {
                    Change::Put(node) => {
                        let (name, address) = reached(*node);
                        edge.nodes.set(&name, address)
                    }
                    Change::Delete { name } => {
                        name.parse().is_ok_and(|name: NodeName| edge.nodes.set(&name, None))
                    }
                };
            }
            return news;
        }
    }
    false
}

fn reached(node: Resource<NodeSpec>) -> (NodeName, Option<RoleAddress>) {
    (node.spec.node, node.status.address)
}
