//! `tutti backup` and `tutti restore`: the state of a cluster in one encrypted file, and back.
//!
//! [`format`] has the file's form, [`pieces`] what is in it, the store how it is read as of one moment and filled again,
//! [`crate::recovery`] the second key. With `--artifacts` the blobs that the state refers to are in the file too
//! ([`artifacts`]); without, they are copied as the folder or bucket that they are in.

mod artifacts;
mod format;
mod pieces;
mod told;

use crate::{
    keys,
    parts::{open_store, say},
    recovery,
    settings::{Settings, StoreAddress},
};
use artifacts::{Carried, Incoming, References};
use format::{Header, PLAIN, Reader, WITH_ARTIFACTS, Writer, unwritten};
use pieces::Piece;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use tutti_base::{Clock, Random, SystemClock};
use tutti_control::{Objects, secrets::key_of_all};
use tutti_model::{Digest, ErrorCode, Problem, Timestamp, name::ZoneName};
use tutti_registry::Blobs;
use tutti_seal::{Keyring, SealingKey};
use tutti_store::{
    SqliteStore, Store,
    backup::{Pair, Reading, Restoring},
    migrate::{self, Migrated},
};
use zeroize::Zeroizing;

/// The first piece.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    release: String,
    taken_at: Timestamp,
    revision: u64,
}

/// The last piece.
#[derive(Debug, Serialize, Deserialize)]
struct Totals {
    keys: u64,
    bytes: u64,
    digest: Digest,
}

/// What `tutti backup` was told.
#[derive(Debug)]
pub(crate) struct Backup {
    /// The file, or `-`.
    pub(crate) file: String,
    /// Whether artifacts go into it.
    pub(crate) artifacts: bool,
    /// Whether what was done is told as JSON.
    pub(crate) print_json: bool,
}

/// Writes a backup to a file, or to standard output for `-`.
///
/// # Errors
/// `already_exists` for a file that is there; `unavailable` if the key or the store cannot be read, or the file not be
/// written, of which nothing is left then; `conflict` if the store is not whole.
pub(crate) async fn run(settings: Settings, asked: Backup) -> Result<(), Problem> {
    let path = (asked.file != "-").then(|| PathBuf::from(&asked.file));
    if let Some(path) = path.as_ref().filter(|path| path.exists()) {
        return Err(Problem::new(ErrorCode::AlreadyExists, format!("{} is there already", path.display()))
            .hint("name a file that is not there yet"));
    }
    let store = Source::open(&settings.store).await?;
    let objects = objects(&store.store);
    // Another key would seal as well, and a backup under it open nothing.
    let key = key_of_all(&objects, &keyring(&settings)).await?;
    let blobs = if asked.artifacts { Some(artifacts::open(&settings).await?) } else { None };
    let taking = Taking { store: &*store.store, objects: &objects, key: &key, blobs: blobs.as_deref() };
    let Some(path) = path else {
        let (taken, _) = taking.write(BufWriter::new(io::stdout().lock())).await?;
        // Standard output is the backup.
        eprintln!("{}", told::backed_up(&taken, None, asked.print_json));
        return Ok(());
    };
    let partial = PathBuf::from(format!("{}.partial", asked.file));
    let written = taking.to_file(&partial, &path).await;
    if written.is_err() {
        // It is of no use to anyone. That it cannot be removed either is no news beside what was wrong.
        let _ = fs::remove_file(&partial);
    }
    say(&told::backed_up(&written?, Some(&asked.file), asked.print_json));
    Ok(())
}

/// What was put into a file.
#[derive(Debug)]
struct Taken {
    state: Migrated,
    /// How many artifacts the state refers to.
    referred: usize,
    /// Those that are in it, if any are to be.
    carried: Option<Carried>,
}

/// What a backup is made of.
struct Taking<'a> {
    store: &'a dyn Store,
    objects: &'a Objects,
    key: &'a SealingKey,
    blobs: Option<&'a dyn Blobs>,
}

impl Taking<'_> {
    async fn to_file(&self, partial: &Path, path: &Path) -> Result<Taken, Problem> {
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(true).mode(0o600).open(partial);
        let out = BufWriter::new(opened.map_err(|error| unwritten(&error))?);
        let (taken, out) = self.write(out).await?;
        let file = out.into_inner().map_err(|error| unwritten(error.error()))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let kept = file
            .sync_all()
            .and_then(|()| fs::rename(partial, path))
            .and_then(|()| File::open(folder)?.sync_all());
        kept.map_err(|error| unwritten(&error))?;
        Ok(taken)
    }

    async fn write<W: Write>(&self, out: W) -> Result<(Taken, W), Problem> {
        if migrate::is_unfinished(self.store).await? {
            return Err(Problem::conflict("the store is the target of a copy or restore that was cut off")
                .hint("finish that one first"));
        }
        let recovery = self.store.get(recovery::STORED).await?;
        let recovery = recovery.and_then(|entry| String::from_utf8(entry.value.to_vec()).ok());
        let mut reading = Reading::begin(self.store).await?;
        let form = if self.blobs.is_some() { WITH_ARTIFACTS } else { PLAIN };
        let mut writer = Writer::begin(out, form, self.key, recovery, &Random::from_os())?;
        writer.first(&json(&Manifest {
            release: crate::dev::RELEASE.to_owned(),
            taken_at: SystemClock.now(),
            revision: reading.revision(),
        })?)?;
        let mut references = References::new(self.objects);
        while let Some(pairs) = reading.next().await? {
            references.see(&pairs)?;
            writer.piece(&Piece::Keys(pairs))?;
        }
        let state = reading.finish();
        // Behind the state, so that what it refers to was there before it: an artifact is pushed before its version is.
        let carried = match self.blobs {
            Some(blobs) => Some(artifacts::write(blobs, &references, &mut writer).await?),
            None => None,
        };
        let last = Totals { keys: state.keys, bytes: state.bytes, digest: state.digest.clone() };
        let out = writer.last(&json(&last)?)?;
        Ok((Taken { state, referred: references.count(), carried }, out))
    }
}

/// What `tutti restore` was told.
#[derive(Debug)]
pub(crate) struct Restore {
    /// The file, or `-`.
    pub(crate) file: String,
    /// Where the recovery key is.
    pub(crate) recovery_key: Option<String>,
    /// Whether it is only read.
    pub(crate) check: bool,
    /// Whether what was done is told as JSON.
    pub(crate) print_json: bool,
}

/// Fills an empty store from a backup, or only reads that.
///
/// # Errors
/// `already_exists` for a store that holds anything; `forbidden` for a key that does not open the backup; `invalid` for
/// one that is not whole, of which the store stays marked; what keeps the rest from being read or written.
pub(crate) async fn restore(settings: Settings, asked: Restore) -> Result<(), Problem> {
    let mut from: Box<dyn BufRead> = match asked.file.as_str() {
        "-" => Box::new(BufReader::new(io::stdin())),
        path => Box::new(BufReader::new(File::open(path).map_err(|error| {
            Problem::new(ErrorCode::NotFound, format!("the backup {path} cannot be read: {error}"))
        })?)),
    };
    let first = format::header(&mut from)?;
    let keyring = keyring(&settings);
    let (key, recovered) = opening(&first.0, &keyring, asked.recovery_key.as_deref()).await?;
    let mut reader = Reader::begin(from, &first, &key)?;
    let (piece, _) = reader.next()?;
    let manifest: Manifest = serde_json::from_slice(&piece).map_err(unknown)?;
    let form = first.0.form;
    if asked.check {
        let mut incoming = Incoming::new(None);
        let totals = each(&mut reader, form, &mut incoming, async |_| Ok(())).await?;
        say(&told::checked(&totals, &manifest, &incoming.carried, form, asked.print_json));
        return Ok(());
    }
    let blobs = if form == WITH_ARTIFACTS { Some(artifacts::open(&settings).await?) } else { None };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    make_folder_of(&settings.store)?;
    let store = open_store(&settings.store, &clock, &Random::from_os()).await?;
    let mut references = References::new(&objects(&store));
    let restoring = Restoring::begin(&*store, &first.0.id, manifest.revision).await?;
    let mut incoming = Incoming::new(blobs);
    let totals = each(&mut reader, form, &mut incoming, async |pairs| {
        references.see(&pairs)?;
        restoring.put(pairs).await
    })
    .await?;
    // Before the store is whole: a control that starts then has the key.
    if let Some(text) = recovered.filter(|_| keyring.is_missing()) {
        keyring.take_over(&text).await?;
    }
    let Totals { keys, bytes, digest } = totals;
    let state = Migrated { keys, bytes, digest, revision: manifest.revision };
    restoring.finish(&state).await?;
    // The state is whole whatever comes of this, and its artifacts may still be put in their place.
    let missing = match artifacts::open(&settings).await {
        Ok(blobs) => references.missing(&*blobs).await,
        Err(problem) => Err(problem),
    };
    let restored = told::Restored { state, referred: references.count(), carried: incoming.carried, missing };
    say(&told::restored(&restored, &manifest, asked.print_json));
    Ok(())
}

/// The key that opens the backup, and as text if it was not at hand.
async fn opening(
    header: &Header,
    keyring: &Keyring,
    recovery_key: Option<&str>,
) -> Result<(Arc<SealingKey>, Option<Zeroizing<String>>), Problem> {
    let Some(file) = recovery_key else { return Ok((keyring.key().await?, None)) };
    let sealed = header.recovery.as_deref().ok_or_else(|| {
        Problem::conflict("there was no recovery key when the backup was made")
            .hint("give the cluster's key with --key FILE")
    })?;
    let text = recovery::open(sealed, &recovery::read(file)?)?;
    let key = Keyring::parsed(&text)?;
    // One that is there already would be the wrong one for what is restored.
    if !keyring.is_missing() && keyring.key().await?.id() != key.id() {
        return Err(Problem::conflict("there is another key where the cluster's would be kept")
            .hint("name a file that is not there yet with --key FILE"));
    }
    Ok((Arc::new(key), Some(text)))
}

/// Gives all pairs on, and what belongs to artifacts to those; the last piece back.
async fn each<R: BufRead>(
    reader: &mut Reader<R>,
    form: u32,
    incoming: &mut Incoming,
    mut take: impl AsyncFnMut(Vec<Pair>) -> Result<(), Problem>,
) -> Result<Totals, Problem> {
    loop {
        let (piece, last) = reader.next()?;
        if last {
            return serde_json::from_slice(&piece).map_err(unknown);
        }
        match Piece::decode(&piece, form)? {
            Piece::Keys(pairs) => take(pairs).await?,
            Piece::Blob(head) => incoming.begin(head).await?,
            Piece::Bytes(bytes) => incoming.bytes(bytes).await?,
            Piece::BlobEnd { whole } => incoming.end(whole).await?,
            Piece::Shown(shown) => incoming.shown(&shown).await?,
        }
    }
}

fn keyring(settings: &Settings) -> Keyring {
    let folder = std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    keys::of_control(settings.key.as_ref(), &folder)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| Problem::internal(error.to_string()))
}

fn unknown(error: serde_json::Error) -> Problem {
    Problem::invalid(format!("a piece of the backup has another form: {error}"))
}

fn make_folder_of(address: &StoreAddress) -> Result<(), Problem> {
    let StoreAddress::Sqlite(path) = address else { return Ok(()) };
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    fs::create_dir_all(folder)
        .map_err(|error| Problem::unavailable(format!("{} cannot be made: {error}", folder.display())))
}

/// The store that is read. One in a file is read from a copy, since whoever serves from it has it to themselves.
pub(crate) struct Source {
    store: Arc<dyn Store>,
    _copy: Option<Copy>,
}

/// A copy of a store's file, for as long as this exists.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        for ending in ["", "-wal", "-shm", "-lock"] {
            // Most are not there.
            let _ = fs::remove_file(format!("{}{ending}", self.0.display()));
        }
    }
}

impl Source {
    async fn open(address: &StoreAddress) -> Result<Source, Problem> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random = Random::from_os();
        let StoreAddress::Sqlite(path) = address else {
            return Ok(Source { store: open_store(address, &clock, &random).await?, _copy: None });
        };
        if !path.exists() {
            return Err(Problem::new(
                ErrorCode::NotFound,
                format!("there is no store at {}", path.display()),
            )
            .hint("name it with --store or --data-dir"));
        }
        let copy = Copy(PathBuf::from(format!("{}.backup-{}", path.display(), std::process::id())));
        SqliteStore::copy_file(path, &copy.0)?;
        let store = open_store(&StoreAddress::Sqlite(copy.0.clone()), &clock, &random).await?;
        Ok(Source { store, _copy: Some(copy) })
    }
}

/// What a store holds, as objects.
fn objects(store: &Arc<dyn Store>) -> Objects {
    Objects::new(Arc::clone(store), ZoneName::local(), Arc::new(SystemClock), Random::from_os())
}

/// `tutti store recovery-key`: makes a new one and shows it.
///
/// # Errors
/// If the cluster's key or the store cannot be had.
pub(crate) async fn new_recovery_key(settings: Settings) -> Result<(), Problem> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random = Random::from_os();
    if let StoreAddress::Sqlite(path) = &settings.store
        && !path.exists()
    {
        return Err(Problem::new(ErrorCode::NotFound, format!("there is no store at {}", path.display())));
    }
    let store = open_store(&settings.store, &clock, &random).await?;
    let keyring = keyring(&settings);
    key_of_all(&objects(&store), &keyring).await?;
    let made = recovery::make(&*store, &keyring, &random, false).await?;
    let made = made.ok_or_else(|| Problem::internal("the recovery key was not made"))?;
    say(made.as_str());
    eprintln!(
        "That opens backups made from now on, and is shown this once. The one before opens older ones alone."
    );
    Ok(())
}

#[cfg(test)]
mod tests;
