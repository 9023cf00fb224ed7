//! Holds versions ready to start: pulls their artifacts and has them verified, unpacked and compiled.
//!
//! For an instance's start it is done at once; for the versions that a node is to hold ready it is done in the
//! background, one at a time, newest first, so that it never competes with a start for more than one core.

use crate::node::Node;
use futures_util::StreamExt as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tutti_api::{Change, WatchEvent};
use tutti_base::Backoff;
use tutti_isolate::{Artifact, DriverError};
use tutti_model::{
    Digest, ErrorCode, Millis, Timestamp, VersionRef,
    node::NodeSpec,
    version::{Isolate, VersionSpec},
};

/// The first pause after a failed preload, and the longest.
const PAUSES: (Millis, Millis) = (Millis::seconds(1), Millis::seconds(60));
/// Versions that are held ready at most: the newest of what is asked.
const VERSIONS: usize = 256;
/// The first pause after a broken watch, and the longest.
const WATCH_PAUSES: (Millis, Millis) = (Millis(200), Millis::seconds(10));

/// Why a version is not ready to start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PreloadError {
    /// Trying again would not help.
    Unrunnable(String),
    /// Trying again may help.
    Unavailable(String),
}

impl PreloadError {
    fn text(&self) -> &str {
        match self {
            PreloadError::Unrunnable(text) | PreloadError::Unavailable(text) => text,
        }
    }
}

/// Makes an artifact ready to start at once. Idempotent, and cheap if it is.
pub(crate) async fn preload(
    node: &Node,
    version: &VersionRef,
    isolate: Isolate,
    digest: &Digest,
) -> Result<Artifact, PreloadError> {
    let Some(driver) = node.drivers.get(&isolate) else {
        return Err(PreloadError::Unrunnable(format!(
            "node {} has no driver for the isolate {isolate}",
            node.name
        )));
    };
    let artifact = node.artifacts.fetch(digest).await.map_err(|problem| {
        let text = format!("pulling {version} ({}): {problem}", digest.short());
        match problem.code {
            ErrorCode::Invalid | ErrorCode::NotFound => PreloadError::Unrunnable(text),
            _ => PreloadError::Unavailable(text),
        }
    })?;
    driver.preload(&artifact).await.map_err(|error| {
        let text = format!("preparing {version}: {}", error.chain());
        match error {
            DriverError::Unrunnable(_) => PreloadError::Unrunnable(text),
            DriverError::Host { .. } => PreloadError::Unavailable(text),
        }
    })?;
    Ok(artifact)
}

/// Follows the node's own object and keeps `wanted` what it says, until `stop`.
pub(crate) async fn follow(
    node: Arc<Node>,
    wanted: watch::Sender<Vec<VersionSpec>>,
    stop: CancellationToken,
) {
    let mut pauses = Backoff::new(WATCH_PAUSES.0, WATCH_PAUSES.1, node.random.clone());
    loop {
        let mut events = node.zone.watch_node(&node.name, None);
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            let spec = match event {
                Some(Ok(event)) => latest(event),
                Some(Err(problem)) => {
                    tracing::warn!(%problem, "watching this node's object failed");
                    break;
                }
                None => break,
            };
            pauses.succeed();
            if let Some(spec) = spec {
                let versions: Vec<VersionSpec> = spec.preload.into_iter().take(VERSIONS).collect();
                wanted.send_if_modified(|known| {
                    let changed = *known != versions;
                    *known = versions;
                    changed
                });
            }
        }
        let pause = pauses.fail();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = node.clock.sleep(pause) => {}
        }
    }
}

/// The node's spec after this event, if the event says.
fn latest(event: WatchEvent<NodeSpec>) -> Option<NodeSpec> {
    match event {
        WatchEvent::InitItem(node) => Some(node.spec),
        WatchEvent::Changes { changes, .. } => changes.into_iter().rev().find_map(|change| match change {
            Change::Put(node) => Some(node.spec),
            Change::Delete { .. } => None,
        }),
        // What is held ready stays so while nothing else is asked.
        WatchEvent::Init | WatchEvent::InitDone { .. } => None,
    }
}

/// Preloads what is wanted, newest first, until `stop`.
pub(crate) async fn run(
    node: Arc<Node>,
    mut wanted: watch::Receiver<Vec<VersionSpec>>,
    stop: CancellationToken,
) {
    let mut done: BTreeSet<Digest> = BTreeSet::new();
    let mut failed: BTreeMap<Digest, (Backoff, Timestamp)> = BTreeMap::new();
    loop {
        let versions = wanted.borrow_and_update().clone();
        done.retain(|digest| versions.iter().any(|version| version.artifact == *digest));
        failed.retain(|digest, _| versions.iter().any(|version| version.artifact == *digest));
        let now = node.clock.now();
        let due = |digest: &Digest| failed.get(digest).is_none_or(|(_, retry)| *retry <= now);
        let next =
            versions.into_iter().find(|version| !done.contains(&version.artifact) && due(&version.artifact));
        let Some(version) = next else {
            let retry = failed.values().map(|(_, retry)| *retry).min();
            let again = async {
                match retry {
                    Some(retry) => node.clock.sleep_until(retry).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = wanted.changed() => if changed.is_err() { return },
                () = again => {}
            }
            continue;
        };
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            result = preload(&node, &version.version, version.isolate, &version.artifact) => result,
        };
        match result {
            Ok(_) => {
                tracing::debug!(version = %version.version, "ready to start");
                failed.remove(&version.artifact);
                done.insert(version.artifact);
            }
            Err(error) => {
                let fresh = || (Backoff::new(PAUSES.0, PAUSES.1, node.random.clone()), now);
                let (pauses, retry) = failed.entry(version.artifact).or_insert_with(fresh);
                let pause = pauses.fail();
                *retry = node.clock.now().plus(pause);
                tracing::warn!(version = %version.version, error = error.text(), "cannot be held ready; trying again in {pause}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
