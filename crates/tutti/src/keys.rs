//! Where roles keep their keys: in the configuration folder of the user, so that a copy of a data folder opens nothing.

use std::path::{Path, PathBuf};
use tutti_base::sha256;
use tutti_control::{
    Objects,
    secrets::{is_anything_sealed, key_of_all},
};
use tutti_model::Problem;
use tutti_seal::{Keyring, Source};

/// The file of a data folder's key, beside the tokens.
fn file(data_dir: &Path, ending: &str) -> Result<PathBuf, Problem> {
    let of = sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let contexts = tutti_cli::contexts::path()?;
    Ok(contexts.with_file_name("keys").join(format!("{}.{ending}", of.short())))
}

/// Makes the key of a control while nothing is sealed yet; after that one that is missing stays missing, and what needs it
/// says so.
///
/// # Errors
/// The store's own.
pub(crate) async fn make_or_check(objects: &Objects, keyring: &Keyring) -> Result<(), Problem> {
    let problem = match is_anything_sealed(objects).await? {
        true => key_of_all(objects, keyring).await.err(),
        false => keyring.make_if_missing().err(),
    };
    if let Some(problem) = problem {
        let hint = problem.hint.as_deref().unwrap_or_default();
        tracing::warn!(%problem, hint, "secrets can be neither set nor given to instances");
    }
    Ok(())
}

/// The key of a control with this data folder, wherever it is; it is neither read nor made.
pub(crate) fn of_control(source: Option<&Source>, data_dir: &Path) -> Keyring {
    match (source, file(data_dir, "key")) {
        (Some(source), _) => Keyring::at(source.clone()),
        (None, Ok(path)) => Keyring::at(Source::File(path)).advising(
            "the file's name is made of the path of the data folder: if that was moved, the key is in the same folder \
             under the name of the path before",
        ),
        (None, Err(why)) => Keyring::without(
            Problem::unavailable(format!("there is no key for secrets: {}", why.detail))
                .hint("set HOME, or name where the key is with --key FILE or --key exec:CMD"),
        ),
    }
}

/// A node's own key, under which its agent keeps what its instances were given. Made if it is missing: what was sealed
/// under one before is asked of control again.
///
/// # Errors
/// `unavailable` if it cannot be written.
pub(crate) fn of_node(data_dir: &Path) -> Result<Keyring, Problem> {
    let path = file(data_dir, "node.key").unwrap_or_else(|_| {
        let path = data_dir.join("node.key");
        tracing::warn!(
            path = %path.display(),
            "there is no configuration folder, so the node's key is in the data folder: a copy of that opens what it seals"
        );
        path
    });
    let keyring = Keyring::at(Source::File(path));
    keyring.make_if_missing()?;
    Ok(keyring)
}
