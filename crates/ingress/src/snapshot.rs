//! The last tables, in a file: what an ingress starts from when control is away.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};
use tutti_model::{Resource, table::TableSpec};

/// One table as the watch gave it.
pub(crate) type Table = Arc<Resource<TableSpec>>;

#[derive(Serialize, Deserialize)]
struct Document {
    /// The form of this file.
    form: u32,
    tables: Vec<Table>,
}

const FORM: u32 = 1;

/// The tables in the file.
///
/// # Errors
/// What the host said, or `InvalidData` if the file is not such a one.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Table>> {
    let document: Document = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)?;
    if document.form != FORM {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("form {} is not known here", document.form),
        ));
    }
    Ok(document.tables)
}

/// Replaces the file as a whole: after a crash there is the old or the new one.
///
/// # Errors
/// What the host said.
pub(crate) fn write(path: &Path, tables: Vec<Table>) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(&Document { form: FORM, tables })?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}
