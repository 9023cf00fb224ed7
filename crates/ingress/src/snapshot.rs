//! The last tables, and where nodes were last reached, in a file: what an ingress starts from when control is away.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    time::UNIX_EPOCH,
};
use tutti_model::{Resource, Timestamp, name::NodeName, node::RoleAddress, table::TableSpec};

/// One table as the watch gave it.
pub(crate) type Table = Arc<Resource<TableSpec>>;

/// What was last known.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Last {
    /// Every table.
    pub(crate) tables: Vec<Table>,
    /// Nodes in other processes. Files from before there were any don't have it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) nodes: BTreeMap<NodeName, RoleAddress>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    /// The form of this file.
    form: u32,
    #[serde(flatten)]
    last: Last,
}

const FORM: u32 = 1;

/// What is in the file, and when it was written.
///
/// # Errors
/// What the host said, or `InvalidData` if the file is not such a one.
pub(crate) fn read(path: &Path) -> io::Result<(Last, Timestamp)> {
    let document: Document = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)?;
    let written = fs::metadata(path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let written = Timestamp(u64::try_from(written.as_millis()).unwrap_or(u64::MAX));
    if document.form != FORM {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("form {} is not known here", document.form),
        ));
    }
    Ok((document.last, written))
}

/// Replaces the file as a whole: after a crash there is the old or the new one.
///
/// # Errors
/// What the host said.
pub(crate) fn write(path: &Path, last: Last) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(&Document { form: FORM, last })?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}
