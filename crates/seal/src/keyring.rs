//! Where the key of a role comes from, and what is told when it cannot be had.
//!
//! A keyring never keeps its role from starting: the key is read when it is first needed, and again after it could not
//! be, so that whoever puts it back need not start anything again.

use crate::key::{KEY_BYTES, OpenError, SealingKey};
use std::{
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncReadExt as _, process::Command, sync::Mutex, time::Instant};
use tutti_base::Secret;
use tutti_model::Problem;
use zeroize::Zeroizing;

/// How long a command may take to give the key: one that asks a service over the network fits.
const COMMAND_TIME: Duration = Duration::from_secs(10);
/// How long a failure stands before the source is asked again: many requests must not become as many processes.
const RETRY: Duration = Duration::from_secs(2);
/// Most that is read of a key: it is 64 digits, and a few line ends.
const TEXT_BYTES: u64 = 4096;
/// How an operator says where the key is.
const NAMED_BY: &str = "--key FILE or --key exec:CMD";

/// Where a key is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// In a file of this user's that nobody else can read.
    File(PathBuf),
    /// What this command of the shell prints.
    Command(Secret<String>),
}

impl FromStr for Source {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.strip_prefix("exec:").map(str::trim) {
            Some("") => Err(Problem::invalid("exec: has no command: write exec:CMD, or the path of a file")),
            Some(command) => Ok(Source::Command(Secret::new(command.to_owned()))),
            None if text.trim().is_empty() => {
                Err(Problem::invalid("the key's place is missing: write the path of a file, or exec:CMD"))
            }
            None => Ok(Source::File(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "{}", path.display()),
            // Its arguments may be secrets themselves.
            Source::Command(command) => {
                write!(f, "exec:{} …", command.reveal().split_whitespace().next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

/// The one key of a role. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Keyring {
    place: Place,
    /// What else may help whoever misses the key; `None` says nothing more.
    advice: Option<String>,
    state: Arc<Mutex<State>>,
}

/// Where a keyring has its key from.
#[derive(Debug, Clone)]
enum Place {
    /// It is read from there.
    Source(Source),
    /// It was given, and is kept nowhere.
    Memory,
    /// There is none, for this reason.
    Nowhere(Problem),
}

#[derive(Debug, Default)]
struct State {
    key: Option<Arc<SealingKey>>,
    failed: Option<(Instant, Problem)>,
}

impl Keyring {
    /// The key that is kept there.
    #[must_use]
    pub fn at(source: Source) -> Keyring {
        Keyring { place: Place::Source(source), advice: None, state: Arc::default() }
    }

    /// No key: whoever needs one is told this problem.
    #[must_use]
    pub fn without(problem: Problem) -> Keyring {
        Keyring { place: Place::Nowhere(problem), advice: None, state: Arc::default() }
    }

    /// Adds this to the hint of every problem about a key that is missing or another.
    #[must_use]
    pub fn advising(self, advice: impl Into<String>) -> Keyring {
        Keyring { advice: Some(advice.into()), ..self }
    }

    /// This key, which is kept nowhere.
    #[must_use]
    pub fn of(key: SealingKey) -> Keyring {
        Keyring {
            place: Place::Memory,
            advice: None,
            state: Arc::new(Mutex::new(State { key: Some(Arc::new(key)), failed: None })),
        }
    }

    /// Makes a new key, if the source is a file that is not there. To be called only while nothing is sealed.
    ///
    /// # Errors
    /// `unavailable` if the file cannot be written.
    pub fn make_if_missing(&self) -> Result<(), Problem> {
        match &self.place {
            Place::Source(Source::File(path)) if !path.exists() => make(path).map_err(|error| {
                Problem::unavailable(format!("the key cannot be kept in {}: {error}", path.display()))
                    .hint("make that folder writable, or name another file")
            }),
            Place::Nowhere(problem) => Err(problem.clone()),
            Place::Source(_) | Place::Memory => Ok(()),
        }
    }

    /// Whether the source is a file, and it is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(&self.place, Place::Source(Source::File(path)) if !path.exists())
    }

    /// The key that was handed over, or came out of a backup.
    ///
    /// # Errors
    /// `invalid` if it is none.
    pub fn parsed(text: &Zeroizing<String>) -> Result<SealingKey, Problem> {
        parse(text).unwrap_or_else(|| Err(Problem::invalid("what was handed over is no key")))
    }

    /// The key as it is kept, for who must have the same: 64 hex digits. Read anew.
    ///
    /// # Errors
    /// `unavailable` if it cannot be read, or is kept nowhere.
    pub async fn hand_over(&self) -> Result<Zeroizing<String>, Problem> {
        let text = match &self.place {
            Place::Source(Source::File(path)) => from_file(path),
            Place::Source(Source::Command(command)) => from_command(command.reveal()).await,
            Place::Memory => Err("it is kept in memory alone".to_owned()),
            Place::Nowhere(problem) => return Err(problem.clone()),
        };
        let text =
            text.map_err(|why| self.missing(format!("the key of {} is not given: {why}", self.place())))?;
        match parse(&text) {
            Some(Ok(_)) => Ok(Zeroizing::new(text.trim().to_owned())),
            Some(Err(problem)) => Err(problem),
            None => Err(self.missing(format!("the key of {} is not 64 hex digits", self.place()))),
        }
    }

    /// Keeps a key that was handed over, in the place of one that nothing is sealed under.
    ///
    /// # Errors
    /// `invalid` if it is none, or if this keyring's is not in a file; `unavailable` if that cannot be written.
    pub async fn take_over(&self, text: &Zeroizing<String>) -> Result<(), Problem> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(text.trim(), bytes.as_mut_slice())
            .map_err(|_| Problem::invalid("what was handed over is no key"))?;
        let Place::Source(Source::File(path)) = &self.place else {
            return Err(Problem::invalid("a key can be handed over to a file only")
                .hint("name the file with --key FILE, or give this command the cluster's key"));
        };
        let mut state = self.state.lock().await;
        write(path, &bytes, |beside, path| fs::rename(beside, path)).map_err(|error| {
            Problem::unavailable(format!("the key cannot be kept in {}: {error}", path.display()))
                .hint("make that folder writable, or name another file")
        })?;
        *state = State::default();
        Ok(())
    }

    /// The key.
    ///
    /// # Errors
    /// `unavailable`, naming where the key should be and what to do.
    pub async fn key(&self) -> Result<Arc<SealingKey>, Problem> {
        let mut state = self.state.lock().await;
        if let Some(key) = &state.key {
            return Ok(Arc::clone(key));
        }
        self.read(&mut state).await
    }

    /// Seals a value for the object of this identity.
    ///
    /// # Errors
    /// As for [`Keyring::key`].
    pub async fn seal(&self, identity: &str, value: &[u8]) -> Result<String, Problem> {
        self.key().await?.seal(identity, value)
    }

    /// Opens what was sealed for the object of this identity. `object` is how the problem names it.
    ///
    /// # Errors
    /// `unavailable` if the key is missing or another; `internal` for what is damaged.
    pub async fn open(
        &self,
        object: &str,
        identity: &str,
        sealed: &str,
    ) -> Result<Secret<Zeroizing<Vec<u8>>>, Problem> {
        let named = |problem: Problem| Problem {
            detail: format!("{object} cannot be read: {}", problem.detail),
            ..problem
        };
        let opened = match self.key().await.map_err(named)?.open(identity, sealed) {
            // The right one may have been put there meanwhile.
            Err(OpenError::OtherKey { .. }) if matches!(self.place, Place::Source(_)) => {
                self.read(&mut *self.state.lock().await).await.map_err(named)?.open(identity, sealed)
            }
            opened => opened,
        };
        opened.map_err(|error| named(self.refused(&error)).object(object))
    }

    /// The problem of what does not open.
    #[must_use]
    pub fn refused(&self, error: &OpenError) -> Problem {
        match error {
            OpenError::OtherKey { sealed_under, .. } => {
                let hint = format!("put the key {sealed_under} there, or name where it is with {NAMED_BY}");
                Problem::unavailable(format!("{error}, from {}", self.place())).hint(self.advised(hint))
            }
            OpenError::Damaged | OpenError::Format => Problem::internal(error.to_string()),
        }
    }

    /// Where the key is, for people.
    fn place(&self) -> String {
        match &self.place {
            Place::Source(source) => source.to_string(),
            Place::Memory => "memory".to_owned(),
            Place::Nowhere(_) => "nowhere".to_owned(),
        }
    }

    fn advised(&self, hint: String) -> String {
        match &self.advice {
            Some(advice) => format!("{hint}; {advice}"),
            None => hint,
        }
    }

    fn missing(&self, detail: String) -> Problem {
        let hint = format!("put the key back, or name where it is with {NAMED_BY}");
        Problem::unavailable(detail).hint(self.advised(hint))
    }

    /// Reads the key anew, unless that has failed just now.
    async fn read(&self, state: &mut State) -> Result<Arc<SealingKey>, Problem> {
        if let Some((at, problem)) = &state.failed
            && at.elapsed() < RETRY
        {
            return Err(problem.clone());
        }
        let text = match &self.place {
            Place::Memory => {
                return state.key.clone().ok_or_else(|| Problem::internal("there is no key"));
            }
            Place::Nowhere(problem) => return Err(problem.clone()),
            Place::Source(Source::File(path)) => {
                from_file(path).map_err(|why| format!("the key in {} cannot be used: {why}", path.display()))
            }
            Place::Source(source @ Source::Command(command)) => from_command(command.reveal())
                .await
                .map_err(|why| format!("the key of {source} cannot be used: {why}")),
        };
        let key = match text {
            // What it is instead is not said: it may be a key of another kind.
            Ok(text) => parse(&text).unwrap_or_else(|| {
                Err(self.missing(format!(
                    "the key of {} is not 64 hex digits, as openssl rand -hex 32 makes them",
                    self.place()
                )))
            }),
            Err(why) => Err(self.missing(why)),
        };
        match key {
            Ok(key) => {
                let key = Arc::new(key);
                *state = State { key: Some(Arc::clone(&key)), failed: None };
                Ok(key)
            }
            Err(problem) => {
                state.failed = Some((Instant::now(), problem.clone()));
                Err(problem)
            }
        }
    }
}

/// The key of this text; `None` if it is not one.
fn parse(text: &str) -> Option<Result<SealingKey, Problem>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).ok()?;
    Some(SealingKey::new(&bytes))
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a file".to_owned());
    }
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me && found.uid() != 0 {
        return Err(format!("it belongs to another user (uid {}, and this is {me})", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "others may open it (mode {:04o}): run chmod 600 on it, and consider the key known",
            found.mode() & 0o7777
        ));
    }
    let mut text = Zeroizing::new(String::new());
    io::Read::read_to_string(&mut io::Read::take(file, TEXT_BYTES), &mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

async fn from_command(command: &str) -> Result<Zeroizing<String>, String> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let Some(stdout) = child.stdout.take() else { return Err("it has no output".to_owned()) };
    let mut text = Zeroizing::new(String::new());
    let whole = async {
        stdout.take(TEXT_BYTES).read_to_string(&mut text).await.map_err(|error| error.to_string())?;
        child.wait().await.map_err(|error| error.to_string())
    };
    match tokio::time::timeout(COMMAND_TIME, whole).await {
        Ok(Ok(status)) if status.success() => Ok(text),
        Ok(Ok(status)) => Err(format!("it ended with {status}")),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("it gave nothing within {} s", COMMAND_TIME.as_secs())),
    }
}

/// Writes a new key; it is on disk when this returns. One that is there meanwhile is left.
fn make(path: &Path) -> io::Result<()> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice())
        .map_err(|_| io::Error::other("the system gives no randomness"))?;
    // A link, and not a rename: a key that is there already must not be lost.
    write(path, &bytes, |beside, path| {
        let made = match fs::hard_link(beside, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        fs::remove_file(beside)?;
        made
    })
}

/// Writes a key beside its place, and has it put there.
fn write(
    path: &Path,
    bytes: &Zeroizing<[u8; KEY_BYTES]>,
    put: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let text = Zeroizing::new(hex::encode(bytes.as_slice()));
    let beside = path.with_extension("new");
    // One left by a crash may be readable by others, or be a link: it is made anew, never written through.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    writeln!(file, "{}", text.as_str())?;
    file.sync_all()?;
    drop(file);
    put(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
