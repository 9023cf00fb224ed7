//! What was last known, in a file: what a server starts from when control is away.

use crate::Shared;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
    sync::Arc,
};
use tokio_util::sync::CancellationToken;
use tutti_model::Millis;

/// The file is written at most this often.
const PAUSE: Millis = Millis::seconds(1);
const FORM: u32 = 1;

/// What was last known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The hosts that services answer to.
    pub(crate) hosts: BTreeSet<String>,
    /// Where clients reach the cluster.
    pub(crate) addresses: Vec<IpAddr>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    /// The form of this file.
    form: u32,
    #[serde(flatten)]
    kept: Kept,
}

/// What is in the file.
///
/// # Errors
/// What the host said, or `InvalidData` if the file is not such a one.
pub(crate) fn read(path: &Path) -> io::Result<Kept> {
    let document: Document = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)?;
    if document.form != FORM {
        let text = format!("form {} is not known here", document.form);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(document.kept)
}

/// Replaces the file as a whole: after a crash there is the old or the new one.
fn write(path: &Path, kept: Kept) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(&Document { form: FORM, kept })?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Writes the file whenever something has changed, until `stopping`.
pub(crate) async fn keep(shared: Arc<Shared>, stopping: CancellationToken) {
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = shared.dirty.notified() => {}
            () = stopping.cancelled() => return,
        }
        let (path, kept) = (shared.path.clone(), shared.known());
        let written = tokio::task::spawn_blocking(move || write(&path, kept)).await;
        match written {
            Ok(Ok(())) => failing = false,
            Ok(Err(error)) => {
                if !failing {
                    tracing::warn!(%error, "what is known cannot be kept; a start without control would know less");
                }
                failing = true;
                shared.dirty.notify_one();
            }
            Err(error) => tracing::error!(%error, "what is known was not written"),
        }
        tokio::select! {
            () = shared.clock.sleep(PAUSE) => {}
            // What changed meanwhile is written before the end.
            () = stopping.cancelled() => if failing { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_its_form_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.json");
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let kept = Kept {
            hosts: ["web.example.com.apps.test".to_owned()].into(),
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        };
        write(&path, kept.clone()).unwrap();
        assert_eq!(read(&path).unwrap(), kept);
        for other in ["{}", "{\"form\":2,\"hosts\":[],\"addresses\":[]}", ""] {
            fs::write(&path, other).unwrap();
            assert!(read(&path).is_err(), "{other}");
        }
    }
}
