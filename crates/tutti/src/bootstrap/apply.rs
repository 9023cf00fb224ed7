//! On a host: makes it so. Each part is looked at before it is changed, and what was changed is said, so that the same
//! order again says nothing.

use super::{
    init::{FOLDERS, Init},
    order::{CONTROL_SOCKET, DATA, Enrol, Order, PROGRAM, TOKEN, Unit},
};
use crate::membership::Membership;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tutti_api::Client;
use tutti_base::{Clock, SystemClock};
use tutti_model::Problem;

/// How long a program may take until it serves: a control may wait for its store and the cluster's key.
const SERVES_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks whether it does.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// What was changed, one sentence each.
    pub(crate) changed: Vec<String>,
}

/// Makes this host what the order says.
///
/// # Errors
/// What could not be done, and why. What was done before stays, and is not done again.
pub(crate) async fn apply(order: &Order) -> Result<Applied, Problem> {
    let mut changed = Vec::new();
    for folder in FOLDERS {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| Problem::unavailable(format!("the folder {folder}: {error}")))?;
    }
    let is_new = install()?;
    if is_new {
        changed.push(format!("installed {PROGRAM}"));
    }
    let mut files = Vec::new();
    for (path, text) in order.files.reveal() {
        if put(Path::new(path), text, 0o600)? {
            changed.push(format!("wrote {path}"));
            files.push(path.to_owned());
        }
    }
    if let Some(done) = enrol(order)? {
        changed.push(done);
    }
    let is_changed = |unit: &Unit| {
        let reads = |path: &String| *path == unit.environment || unit.reads.contains(path);
        (is_new && unit.program == PROGRAM) || files.iter().any(reads)
    };
    changed.extend(Init::of_this_host().run(&order.units, &is_changed)?);
    for unit in &order.units {
        serves(unit).await?;
    }
    Ok(Applied { changed })
}

/// Puts the program that runs now where the units find it; `false` if it is there.
fn install() -> Result<bool, Problem> {
    let failed = |error: io::Error| Problem::unavailable(format!("{PROGRAM} cannot be installed: {error}"));
    let own = std::env::current_exe().map_err(failed)?;
    let target = Path::new(PROGRAM);
    if own == target || digest(&own).map_err(failed)? == digest(target).unwrap_or_default() {
        return Ok(false);
    }
    let folder = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(failed)?;
    // One that runs cannot be written over, only replaced.
    let new = folder.join(".tutti.new");
    fs::copy(&own, &new).map_err(failed)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    fs::File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&new, target).map_err(failed)?;
    Ok(true)
}

/// The SHA-256 of a file, in hex.
pub(crate) fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = tutti_base::sha256::Hasher::default();
    let (mut file, mut piece) = (fs::File::open(path)?, vec![0; 1 << 20]);
    loop {
        match io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(hasher.finish().hex().to_owned()),
            length => hasher.update(piece.get(..length).unwrap_or_default()),
        }
    }
}

/// Writes a file whole; `false` if it is there with this text.
///
/// # Errors
/// What cannot be written, with its place.
pub(crate) fn put(path: &Path, text: &str, mode: u32) -> Result<bool, Problem> {
    if fs::read_to_string(path).is_ok_and(|known| known == text) {
        return Ok(false);
    }
    let new = PathBuf::from(format!("{}.new", path.display()));
    let written = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written()
        .map_err(|error| Problem::unavailable(format!("{} cannot be written: {error}", path.display())))?;
    Ok(true)
}

/// What this host is a member of.
///
/// # Errors
/// What cannot be read, with its place.
pub(crate) fn membership() -> Result<Option<Membership>, Problem> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Membership::find(&Path::new(DATA).join("member"), &clock)
}

/// Makes the host a member, if it is none. Says so if it was not.
fn enrol(order: &Order) -> Result<Option<String>, Problem> {
    if membership()?.is_some() {
        return Ok(None);
    }
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .envs(order.environment())
        .env("PATH", super::PATH)
        .current_dir("/")
        .stdin(Stdio::null());
    match order.enrol {
        Enrol::Store => command.args(["server", "--init", "--enrol"]),
        Enrol::Token => {
            let token =
                order.token.reveal().find(|(name, _)| *name == TOKEN).map(|(_, token)| token.to_owned());
            let token = token.or_else(|| std::env::var(TOKEN).ok()).ok_or_else(|| {
                Problem::invalid(format!("{} is no member, and there is no join token", order.name)).hint(
                    format!("on an operator: tutti token create --node {}, and set {TOKEN}", order.name),
                )
            })?;
            command.arg("join").env(TOKEN, token)
        }
    };
    let output = command.output().map_err(|error| Problem::unavailable(format!("{PROGRAM}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Problem::unavailable(format!("{} does not become a member: {said}", order.name)));
    }
    let cluster = membership()?.map(|membership| membership.kept.cluster).unwrap_or_default();
    Ok(Some(format!("became member {} of cluster {cluster}", order.name)))
}

/// Returns once a program serves.
async fn serves(unit: &Unit) -> Result<(), Problem> {
    let end = Instant::now() + SERVES_WITHIN;
    loop {
        let is_control = unit.arguments.iter().any(|argument| argument == "server");
        let is_well = async { Client::over_socket(Path::new(CONTROL_SOCKET)).health().await.is_ok() };
        if unit.answers() && (!is_control || is_well.await) {
            return Ok(());
        }
        if Instant::now() > end {
            let problem = Problem::unavailable(format!("{} does not serve on port {}", unit.name, unit.port));
            let look = match Init::of_this_host() {
                Init::Systemd => format!("look at: journalctl -u {}", unit.name),
                Init::Supervisor => format!("look at: {}", super::supervise::log(&unit.name).display()),
            };
            return Err(problem.hint(look));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
