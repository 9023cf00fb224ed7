//! Holds versions ready to start: pulls their artifacts and has them verified, unpacked and compiled.
//!
//! For an instance's start it is done at once; for the versions that a node is to hold ready it is done in the
//! background, one at a time, newest first, so that it never competes with a start for more than one core.

use crate::node::Node;
use futures_util::StreamExt as _;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tutti_api::{Change, WatchEvent};
use tutti_base::Backoff;
use tutti_isolate::{Artifact, DriverError};
use tutti_model::{
    Digest, ErrorCode, Millis, Timestamp, VersionRef,
    node::{Held, NodeSpec, READINESS_REASON_CHARS, Readiness},
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

/// Most artifacts that the node's status names: four times what control asks a node to hold, and few enough that the
/// object stays far below what a store takes.
const HELD: usize = 64;

/// Preloads what is wanted, newest first, until `stop`. What becomes of it goes to `holds`.
pub(crate) async fn run(
    node: Arc<Node>,
    mut wanted: watch::Receiver<Vec<VersionSpec>>,
    holds: watch::Sender<Vec<Held>>,
    stop: CancellationToken,
) {
    let mut known = Known::default();
    loop {
        let versions = wanted.borrow_and_update().clone();
        known.keep(&versions);
        let now = node.clock.now();
        let Some(version) = known.next(versions, now) else {
            let retry = known.failed.values().map(|(_, retry)| *retry).min();
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
        let took = node.clock.now().since(now);
        known.say(Held { artifact: version.artifact.clone(), readiness: readiness(&version, &result, took) });
        holds.send_if_modified(|held| known.publish(held));
        match result {
            Ok(_) => {
                tracing::info!(version = %version.version, %took, "ready to start");
                known.failed.remove(&version.artifact);
            }
            Err(error) => {
                let fresh = || (Backoff::new(PAUSES.0, PAUSES.1, node.random.clone()), now);
                let (pauses, retry) = known.failed.entry(version.artifact).or_insert_with(fresh);
                let pause = pauses.fail();
                *retry = node.clock.now().plus(pause);
                tracing::warn!(version = %version.version, error = error.text(), "cannot be held ready; trying again in {pause}");
            }
        }
    }
}

/// What became of the versions that are wanted. What is ready and what is said to be ready are one list: were they two,
/// a version that was for a moment not wanted could be in the first alone, and nobody would ever hear of it.
#[derive(Default)]
struct Known {
    /// What is said of each, the last first.
    said: Vec<Held>,
    /// When each that failed is tried again.
    failed: BTreeMap<Digest, (Backoff, Timestamp)>,
}

impl Known {
    /// Forgets what is not wanted any more.
    fn keep(&mut self, wanted: &[VersionSpec]) {
        let is_wanted = |digest: &Digest| wanted.iter().any(|version| version.artifact == *digest);
        self.said.retain(|held| is_wanted(&held.artifact));
        self.failed.retain(|digest, _| is_wanted(digest));
    }

    /// The first that is neither ready nor waiting to be tried again.
    fn next(&self, versions: Vec<VersionSpec>, now: Timestamp) -> Option<VersionSpec> {
        let is_ready =
            |digest: &Digest| self.said.iter().any(|held| held.artifact == *digest && held.ready().is_some());
        let is_due = |digest: &Digest| self.failed.get(digest).is_none_or(|(_, retry)| *retry <= now);
        versions.into_iter().find(|version| !is_ready(&version.artifact) && is_due(&version.artifact))
    }

    fn say(&mut self, now: Held) {
        self.said.retain(|known| known.artifact != now.artifact);
        self.said.insert(0, now);
    }

    /// Makes `held` what is known, if what was said last is news. That something was left out is no news: it would be
    /// written just when a version is deployed.
    fn publish(&self, held: &mut Vec<Held>) -> bool {
        if self.said.first().is_none_or(|last| held.contains(last)) {
            return false;
        }
        *held = self.said.iter().take(HELD).cloned().collect();
        true
    }
}

/// What is said of a version whose preload ended so.
fn readiness(version: &VersionSpec, result: &Result<Artifact, PreloadError>, took: Millis) -> Readiness {
    // Who reads it knows which version it is about.
    let prefix = format!("preparing {}: ", version.version);
    let reason = |text: &str| {
        text.strip_prefix(&prefix).unwrap_or(text).chars().take(READINESS_REASON_CHARS).collect()
    };
    match result {
        Ok(_) => Readiness::Ready { took },
        Err(PreloadError::Unrunnable(text)) => Readiness::Unrunnable { reason: reason(text) },
        Err(PreloadError::Unavailable(text)) => Readiness::Delayed { reason: reason(text) },
    }
}

#[cfg(test)]
mod tests;
