//! Following the zone's tables.
//!
//! A watch begins with every table there is; they are collected and replace what is served from all at once. After
//! that each transaction is applied as it comes. When the watch ends, or a request found a table to be behind, it is
//! begun anew; what is known serves on meanwhile, for however long.

use crate::{
    Edge,
    snapshot::{self, Last, Table},
};
use futures_util::StreamExt as _;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tutti_api::WatchEvent;
use tutti_base::{Backoff, Random};
use tutti_model::{Millis, Timestamp, table::TableSpec};

/// Pause before a watch is begun anew: the first one, and the longest.
const RETRY: (Millis, Millis) = (Millis(100), Millis::seconds(5));
/// Tables are asked for anew at most this often, whatever requests find.
const RESYNC: Millis = Millis::seconds(1);
/// The last tables are written at most this often: they change with every deploy's step, and one file serves any age.
const PERSIST: Millis = Millis::seconds(1);

/// Follows tables until `ended`.
pub(crate) async fn follow(edge: Arc<Edge>, ended: CancellationToken) {
    let persist = CancellationToken::new();
    let writer = tokio::spawn(keep(Arc::clone(&edge), persist.clone()));
    tokio::select! {
        () = follow_on(&edge) => {}
        () = ended.cancelled() => {}
    }
    persist.cancel();
    let _ = writer.await;
}

async fn follow_on(edge: &Edge) {
    let mut backoff = retries(edge);
    loop {
        let began = edge.clock.now();
        let ended = follow_once(edge, began, &mut backoff).await;
        edge.confirmed.follow(false);
        match ended {
            Ended::Behind => {}
            Ended::Lost(why) => {
                tracing::warn!(why, "the watch of tables ended; serving from the last ones");
                edge.clock.sleep(backoff.fail()).await;
            }
        }
    }
}

/// The pauses between watches that ended.
pub(crate) fn retries(edge: &Edge) -> Backoff {
    // Only spreads retries of several ingresses: any seed will do that differs between them.
    let seed = edge.name.bytes().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Backoff::new(RETRY.0, RETRY.1, Random::seeded(seed))
}

enum Ended {
    /// By our own wish: a request found a table behind.
    Behind,
    /// The stream ended or brought an error.
    Lost(String),
}

async fn follow_once(edge: &Edge, began: Timestamp, backoff: &mut Backoff) -> Ended {
    let mut events = edge.zone.watch_tables(None);
    let mut coming: Option<Vec<Table>> = None;
    // One wait for all events: begun anew with each, it would forget what a request has found.
    let mut behind = std::pin::pin!(behind(edge, began));
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            () = &mut behind => return Ended::Behind,
        };
        match event {
            None => return Ended::Lost("it was closed".to_owned()),
            Some(Err(problem)) => return Ended::Lost(problem.detail),
            Some(Ok(event)) => {
                if let Some(revision) = take(edge, &mut coming, event) {
                    backoff.succeed();
                    // A table is of no use before it is known where its nodes are: control is to wait for both.
                    let _ = edge.nodes_known.subscribe().wait_for(|known| *known).await;
                    edge.confirmed.follow(true);
                    edge.confirmed.at(edge.clock.now());
                    edge.reached.send_replace(revision);
                    edge.dirty.notify_one();
                }
            }
        }
    }
}

/// Applies an event; gives the revision that is reached with it.
fn take(edge: &Edge, coming: &mut Option<Vec<Table>>, event: WatchEvent<TableSpec>) -> Option<u64> {
    match event {
        WatchEvent::Init => *coming = Some(Vec::new()),
        WatchEvent::InitItem(table) => coming.get_or_insert_default().push(Arc::new(*table)),
        WatchEvent::InitDone { revision } => {
            edge.tables.replace(coming.take().unwrap_or_default());
            return Some(revision);
        }
        WatchEvent::Changes { revision, changes } => {
            edge.tables.apply(changes);
            tutti_base::crashpoint::reached(|| "ingress/applied".to_owned());
            return Some(revision);
        }
    }
    None
}

/// Ready when a request found a table behind, but not too soon after the last time.
async fn behind(edge: &Edge, began: Timestamp) {
    edge.resync.notified().await;
    edge.clock.sleep_until(began.plus(RESYNC)).await;
}

/// Writes the last tables and nodes to their file whenever they changed; the last change of all too.
async fn keep(edge: Arc<Edge>, ended: CancellationToken) {
    let Some(path) = edge.snapshot.clone() else { return };
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = edge.dirty.notified() => {}
            () = ended.cancelled() => return,
        }
        let (path, last) = (path.clone(), Last { tables: edge.tables.all(), nodes: edge.nodes.all() });
        let written = tokio::task::spawn_blocking(move || snapshot::write(&path, last)).await;
        match written {
            Ok(Ok(())) => failing = false,
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::warn!(%error, "the last tables cannot be kept; a start without control would have older ones");
            }
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::select! {
            () = edge.clock.sleep(PERSIST) => {}
            () = ended.cancelled() => {}
        }
    }
}
