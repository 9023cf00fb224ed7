//! What is said, and left for the command line, once everything serves.

use crate::parts::say;
use serde_json::json;
use std::{
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use tutti_base::{Secret, sha256};
use tutti_control::{
    Objects,
    server::{is_admin_token, make_admin_token},
};
use tutti_model::{Digest, ErrorCode, Problem};

/// Where the command line finds the API.
#[derive(Debug)]
pub(crate) struct Api {
    /// Its address.
    pub(crate) base: String,
    /// The root that vouches for who answers there; `None` where nobody needs to.
    pub(crate) root: Option<Digest>,
}

/// How the command line of this user gets in.
#[derive(Debug)]
pub(crate) struct Access {
    /// Where the admin token is kept; `None` without a configuration folder, where it is only shown.
    pub(crate) token_file: Option<PathBuf>,
    /// The token, if it was made just now: the only time it is shown, and on a terminal only.
    pub(crate) shown: Option<Secret<String>>,
}

impl Access {
    /// Keeps an admin token that is shown now for the first time in the user's configuration folder, and writes the context that names
    /// the file. Without such a folder it serves all the same: the token is shown on a terminal, and else lost.
    ///
    /// # Errors
    /// `unavailable` if the folder cannot be written.
    pub(crate) fn grant(
        context: &str,
        data_dir: &Path,
        api: &Api,
        first: Option<Secret<String>>,
    ) -> Result<Access, Problem> {
        let token_file = match token_file(data_dir) {
            Ok(file) => file,
            Err(problem) => {
                let hint = problem.hint.as_deref().unwrap_or_default();
                tracing::warn!(%problem, hint, "no token and no context is kept for the command line");
                return Ok(Access { token_file: None, shown: first });
            }
        };
        if let Some(secret) = &first {
            keep(&token_file, secret)?;
        }
        let ca = api.root.as_ref().map(Digest::as_str);
        if let Some(before) = tutti_cli::contexts::save(context, &api.base, ca, &token_file)? {
            tracing::warn!(
                "the context {context} named another cloud, at {}, and names this one now; keep both with --context NAME",
                before.api
            );
        }
        Ok(Access { token_file: Some(token_file), shown: first })
    }
}

/// What the user of a data folder is to be known by, made unless the file of before holds what works. Before the API
/// begins: it must know whoever comes with it, from the first request on.
///
/// # Errors
/// The store's own.
pub(crate) async fn first_or_new(
    objects: &Objects,
    data_dir: &Path,
    first: Option<Secret<String>>,
) -> Result<Option<Secret<String>>, Problem> {
    match token_file(data_dir) {
        Ok(file) if first.is_none() && !works(objects, &file).await? => {
            make_admin_token(objects, &format!("admin-{}", objects.random().uid())).await.map(Some)
        }
        _ => Ok(first),
    }
}

/// One file for each data folder, so that two clouds of one user keep apart.
fn token_file(data_dir: &Path) -> Result<PathBuf, Problem> {
    let of = sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let contexts = tutti_cli::contexts::path()?;
    Ok(contexts.with_file_name("tokens").join(format!("{}.token", of.short())))
}

async fn works(objects: &Objects, token_file: &Path) -> Result<bool, Problem> {
    match std::fs::read_to_string(token_file) {
        Ok(secret) => is_admin_token(objects, secret.trim()).await,
        Err(_) => Ok(false),
    }
}

fn keep(token_file: &Path, secret: &Secret<String>) -> Result<(), Problem> {
    let write = || {
        if let Some(folder) = token_file.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let new = token_file.with_extension("new");
        // One left by a crash may be readable by others, or be a link: it is made anew, never written through.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        writeln!(file, "{}", secret.reveal())?;
        file.sync_all()?;
        std::fs::rename(&new, token_file)
    };
    write().map_err(|error: std::io::Error| {
        Problem::new(
            ErrorCode::Unavailable,
            format!("the token cannot be kept in {}: {error}", token_file.display()),
        )
        .hint("make that folder writable, or set XDG_CONFIG_HOME to another")
    })
}

/// Everything that serves.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Where the API listens.
    pub(crate) api: SocketAddr,
    /// Where the ingress listens.
    pub(crate) http: SocketAddr,
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// How the user gets in.
    pub(crate) access: Access,
}

impl Ready {
    /// Says it on standard output: one line of JSON, or a few for people.
    pub(crate) fn print(&self, json: bool) {
        say(&if json { self.json() } else { self.text() });
    }

    fn json(&self) -> String {
        json!({
            "ready": true,
            "api": format!("http://{}", self.api),
            "http": format!("http://{}", self.http),
            "data_dir": self.data_dir,
            "token_file": self.access.token_file,
        })
        .to_string()
    }

    fn text(&self) -> String {
        let kept = self.access.token_file.as_ref();
        let token = kept.map_or_else(|| "kept nowhere".to_owned(), |file| file.display().to_string());
        let mut text = format!(
            "tutti {} is ready\n  api    http://{}\n  http   http://{}\n  data   {}\n  token  {token}\n",
            crate::dev::RELEASE,
            self.api,
            self.http,
            self.data_dir.display(),
        );
        // Not into a file or a journal, which others may read: it is in the token file all the same.
        let secret = self.access.shown.as_ref().filter(|_| std::io::stdout().is_terminal());
        if let Some(secret) = secret {
            text.push_str(&format!("\nThe admin token, shown this once:\n  {}\n", secret.reveal()));
        }
        text.push_str("\nIn another terminal: tutti status");
        text
    }
}
