//! The clouds that the command line knows: name, address, and the file with the token's secret.
//!
//! They stand in `contexts.toml` in the user's configuration folder, readable by nobody else. `tutti dev` writes one,
//! so that the next command just works.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use tutti_model::{Problem, nearest::nearest};

/// Largest file that is read, in bytes: some thousand contexts.
const FILE_BYTES: u64 = 1024 * 1024;

/// Every known cloud.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one that is spoken to unless another is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Address of its API.
    pub api: String,
    /// Where the secret of the token is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Who vouches for an https API: a file of certificates, the certificates themselves, or `sha256:` and the
    /// fingerprint of the cluster's root; without, the authorities of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Where contexts are kept: `$XDG_CONFIG_HOME/tutti/contexts.toml`, else `~/.config/tutti/contexts.toml`.
///
/// # Errors
/// `invalid` if neither variable names a folder.
pub fn path() -> Result<PathBuf, Problem> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    of("XDG_CONFIG_HOME")
        .or_else(|| of("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("tutti").join("contexts.toml"))
        .ok_or_else(|| {
            Problem::invalid("there is no configuration folder: neither XDG_CONFIG_HOME nor HOME is set")
                .hint("set HOME, or name the cloud with --api and --token-file")
        })
}

/// Notes a cloud under a name and makes it the current one; gives the other cloud that had the name, if one had.
///
/// # Errors
/// What cannot be read or written.
pub fn save(name: &str, api: &str, ca: Option<&str>, token_file: &Path) -> Result<Option<Context>, Problem> {
    save_in(&path()?, name, api, ca, token_file)
}

/// As [`save`], in this file.
///
/// # Errors
/// What cannot be read or written.
pub fn save_in(
    path: &Path,
    name: &str,
    api: &str,
    ca: Option<&str>,
    token_file: &Path,
) -> Result<Option<Context>, Problem> {
    let token_file = Some(token_file.to_owned());
    let context = Context { api: api.to_owned(), token_file: token_file.clone(), ca: ca.map(str::to_owned) };
    let mut before = None;
    change(path, |contexts| {
        before = contexts.contexts.insert(name.to_owned(), context);
        contexts.current = Some(name.to_owned());
        Ok(())
    })?;
    // Each cloud has a token file of its own, and may have another address each time.
    Ok(before.filter(|before| before.token_file != token_file))
}

impl Contexts {
    /// Reads a file; none at all is no context.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(path: &Path) -> Result<Contexts, Problem> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Problem::invalid(format!("{} cannot be read: {error}", path.display()))
        };
        match fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(unreadable(&error)),
            Ok(meta) if meta.len() > FILE_BYTES => {
                return Err(unreadable(&format!("it is larger than {FILE_BYTES} bytes")));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
        toml::from_str(&text)
            .map_err(|error| unreadable(&error.to_string().trim_end()).hint("mend it, or remove it"))
    }

    /// The context of this name.
    ///
    /// # Errors
    /// `not_found`, with the nearest known one.
    pub fn get(&self, name: &str) -> Result<&Context, Problem> {
        self.contexts.get(name).ok_or_else(|| {
            let problem = Problem::not_found("context", name);
            match nearest(name, self.contexts.keys().map(String::as_str)) {
                Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                None if self.contexts.is_empty() => problem.hint("none is known yet: tutti dev writes one"),
                None => problem.hint("tutti context list shows the known ones"),
            }
        })
    }
}

/// Makes another context the current one.
///
/// # Errors
/// `not_found`, and what cannot be read or written.
pub fn use_in(path: &Path, name: &str) -> Result<(), Problem> {
    change(path, |contexts| {
        contexts.get(name)?;
        contexts.current = Some(name.to_owned());
        Ok(())
    })
}

/// Changes the file whole, one writer at a time, so that two that start at once both stand in it and a crash leaves
/// the old one or the new one.
fn change(path: &Path, with: impl FnOnce(&mut Contexts) -> Result<(), Problem>) -> Result<(), Problem> {
    let unwritable = |what: &Path, error: &dyn std::fmt::Display| {
        Problem::unavailable(format!("{} cannot be written: {error}", what.display()))
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| unwritable(folder, &error))?;
    let lock_path = path.with_extension("lock");
    let lock = private(&lock_path).map_err(|error| unwritable(&lock_path, &error))?;
    lock.lock().map_err(|error| unwritable(&lock_path, &error))?;

    let mut contexts = Contexts::read(path)?;
    with(&mut contexts)?;
    let text = toml::to_string(&contexts).map_err(|error| unwritable(path, &error))?;
    let next = path.with_extension("new");
    let written = private(&next).and_then(|mut file| {
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&next, path)).map_err(|error| unwritable(path, &error))
}

/// A file that only its owner may read.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_saved_is_read_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tutti/contexts.toml");
        assert_eq!(Contexts::read(&path).unwrap(), Contexts::default());
        save_in(&path, "dev", "http://127.0.0.1:7070", None, Path::new("/tmp/token")).unwrap();
        save_in(&path, "shop", "http://10.0.0.1:7070", None, Path::new("/tmp/other")).unwrap();
        let again = save_in(&path, "shop", "http://10.0.0.1:7071", None, Path::new("/tmp/other")).unwrap();
        assert_eq!(again, None, "the same cloud at another address");
        let before = save_in(&path, "shop", "http://10.0.0.2:7070", None, Path::new("/tmp/third")).unwrap();
        assert_eq!(before.unwrap().api, "http://10.0.0.1:7071");
        let contexts = Contexts::read(&path).unwrap();
        assert_eq!(contexts.current.as_deref(), Some("shop"));
        assert_eq!(contexts.get("dev").unwrap().api, "http://127.0.0.1:7070");
        assert_eq!(contexts.get("dve").unwrap_err().hint.unwrap(), "did you mean \"dev\"?");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        use_in(&path, "dev").unwrap();
        assert_eq!(Contexts::read(&path).unwrap().current.as_deref(), Some("dev"));
        assert!(use_in(&path, "gone").is_err());
    }

    #[test]
    fn a_broken_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("contexts.toml");
        fs::write(&path, "current = 3").unwrap();
        let problem =
            save_in(&path, "dev", "http://127.0.0.1:7070", None, Path::new("/tmp/token")).unwrap_err();
        assert!(problem.detail.contains("contexts.toml cannot be read"), "{problem}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "current = 3");
    }
}
