//! Folders of instances that no ledger entry names: what is left when an entry was damaged or taken away by hand.
//!
//! Whatever a driver still finds running there is stopped; then the folder goes.

use crate::{
    ledger::Entry,
    node::{Folders, Node},
};
use std::{collections::BTreeSet, ffi::OsString, fs, sync::Arc};
use tutti_base::{SecretValues, sha256};
use tutti_isolate::{Artifact, Driver, Recovery, StartSpec};
use tutti_model::{InstanceId, Millis, VersionRef, manifest::Manifest};

/// How long something that should not run may take to end.
const GRACE: Millis = Millis::seconds(1);

/// How long an instance that is stopped in order may take to end by itself.
const STOP_GRACE: Millis = Millis::seconds(5);

/// The instances' folders that are not in the ledger. Taken before the first instance is started.
pub(crate) fn leftovers(folders: &Folders, entries: &[Entry]) -> Vec<OsString> {
    let known: BTreeSet<&str> = entries.iter().map(|entry| entry.spec.instance.as_str()).collect();
    let listed =
        fs::read_dir(folders.instances()).into_iter().flatten().flatten().map(|folder| folder.file_name());
    listed.filter(|name| name.to_str().is_none_or(|name| !known.contains(name))).collect()
}

/// Removes these.
pub(crate) async fn run(node: Arc<Node>, leftovers: Vec<OsString>) {
    for name in leftovers {
        tracing::warn!(folder = ?name, "the ledger does not name this instance's folder; it is removed");
        if let Some(spec) = name.to_str().and_then(|name| start_spec(&node, name)) {
            for driver in node.drivers.values() {
                end(driver.as_ref(), &spec).await;
            }
        }
        let folder = node.folders.instances().join(&name);
        let removed = tokio::fs::remove_dir_all(&folder).await;
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "a folder that is left could not be removed");
        }
    }
}

/// Stops whatever runs of every instance that the ledger names or that has a folder here, side by side, and says how
/// many there were. Folders, logs and the ledger stay: the next agent starts them again.
pub(crate) async fn stop_left(node: &Node, entries: &[Entry]) -> usize {
    let mut names: BTreeSet<OsString> = leftovers(&node.folders, entries).into_iter().collect();
    names.extend(entries.iter().map(|entry| entry.spec.instance.as_str().into()));
    let specs: Vec<StartSpec> = names.iter().filter_map(|name| start_spec(node, name.to_str()?)).collect();
    let stops = specs.iter().flat_map(|spec| {
        let lasting = node.drivers.values().filter(|driver| driver.recovery() == Recovery::Undisturbed);
        lasting.map(move |driver| stop(driver.as_ref(), spec))
    });
    futures_util::future::join_all(stops).await.into_iter().filter(|stopped| *stopped).count()
}

/// Whether there was something to stop.
async fn stop(driver: &dyn Driver, spec: &StartSpec) -> bool {
    match driver.recover(spec).await {
        Ok(Some(running)) => {
            let ran = running.exit().borrow().is_none();
            running.stop(STOP_GRACE).await;
            ran
        }
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(instance = %spec.instance, error = error.chain(), "cannot be stopped");
            false
        }
    }
}

async fn end(driver: &dyn Driver, spec: &StartSpec) {
    if driver.recovery() == Recovery::Gone {
        return;
    }
    match driver.recover(spec).await {
        Ok(Some(running)) => {
            running.stop(GRACE).await;
            if let Err(error) = driver.remove(spec).await {
                tracing::warn!(instance = %spec.instance, error = error.chain(), "what is left could not be removed");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(instance = %spec.instance, error = error.chain(), "nothing to take up"),
    }
}

/// What is known of such an instance is its id; the rest only fills the form.
fn start_spec(node: &Node, name: &str) -> Option<StartSpec> {
    let instance: InstanceId = name.parse().ok()?;
    let version: VersionRef = "unknown.invalid:unknown@0".parse().ok()?;
    let artifact = Artifact { digest: sha256::digest(b""), layers: Vec::new() };
    let (folder, logs) = (node.folders.instance(&instance), node.folders.log(&instance));
    let (manifest, secrets, until) = (Manifest::default(), SecretValues::default(), None);
    Some(StartSpec { instance, version, artifact, manifest, secrets, until, folder, logs })
}
