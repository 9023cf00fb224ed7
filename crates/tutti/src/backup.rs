//! `tutti backup` and `tutti restore`: the state of a cluster in one encrypted file, and back.
//!
//! [`format`] has the file's form, the store how it is read as of one moment and filled again, [`crate::recovery`] the
//! second key. Artifacts are not in the file: they are copied as the folder they are in.

mod format;

use crate::{
    keys,
    parts::open_store,
    recovery,
    settings::{Settings, StoreAddress},
};
use format::{Header, Reader, Writer, unwritten};
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

/// Writes a backup to a file, or to standard output for `-`.
///
/// # Errors
/// `already_exists` for a file that is there; `unavailable` if the key or the store cannot be read, or the file not be
/// written, of which nothing is left then; `conflict` if the store is not whole.
pub(crate) async fn run(settings: Settings, file: &str) -> Result<(), Problem> {
    let path = (file != "-").then(|| PathBuf::from(file));
    if let Some(path) = path.as_ref().filter(|path| path.exists()) {
        return Err(Problem::new(ErrorCode::AlreadyExists, format!("{} is there already", path.display()))
            .hint("name a file that is not there yet"));
    }
    let store = Source::open(&settings.store).await?;
    // Another key would seal as well, and a backup under it open nothing.
    let key = key_of_all(&objects(&store.store), &keyring(&settings)).await?;
    let Some(path) = path else {
        let (totals, _) = write(&*store.store, &key, BufWriter::new(io::stdout().lock())).await?;
        eprintln!("backed up {} keys, {} bytes, {}", totals.keys, totals.bytes, totals.digest);
        return Ok(());
    };
    let partial = PathBuf::from(format!("{file}.partial"));
    let written = to_file(&*store.store, &key, &partial, &path).await;
    if written.is_err() {
        // It is of no use to anyone. That it cannot be removed either is no news beside what was wrong.
        let _ = fs::remove_file(&partial);
    }
    let totals = written?;
    println!("backed up {} keys, {} bytes, to {file}", totals.keys, totals.bytes);
    println!("it has {}; check it with: tutti restore --check {file}", totals.digest);
    Ok(())
}

async fn to_file(
    store: &dyn Store,
    key: &SealingKey,
    partial: &Path,
    path: &Path,
) -> Result<Migrated, Problem> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(partial);
    let out = BufWriter::new(opened.map_err(|error| unwritten(&error))?);
    let (totals, out) = write(store, key, out).await?;
    let file = out.into_inner().map_err(|error| unwritten(error.error()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let kept = file
        .sync_all()
        .and_then(|()| fs::rename(partial, path))
        .and_then(|()| File::open(folder)?.sync_all());
    kept.map_err(|error| unwritten(&error))?;
    Ok(totals)
}

async fn write<W: Write>(store: &dyn Store, key: &SealingKey, out: W) -> Result<(Migrated, W), Problem> {
    if migrate::is_unfinished(store).await? {
        return Err(Problem::conflict("the store is the target of a copy or restore that was cut off")
            .hint("finish that one first"));
    }
    let recovery = store.get(recovery::STORED).await?;
    let recovery = recovery.and_then(|entry| String::from_utf8(entry.value.to_vec()).ok());
    let mut reading = Reading::begin(store).await?;
    let mut writer = Writer::begin(out, key, recovery, &Random::from_os())?;
    writer.piece(&json(&Manifest {
        release: crate::dev::RELEASE.to_owned(),
        taken_at: SystemClock.now(),
        revision: reading.revision(),
    })?)?;
    while let Some(pairs) = reading.next().await? {
        writer.piece(&encode(&pairs))?;
    }
    let totals = reading.finish();
    let last = Totals { keys: totals.keys, bytes: totals.bytes, digest: totals.digest.clone() };
    Ok((totals, writer.last(&json(&last)?)?))
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
    if asked.check {
        let mut keys = 0u64;
        let totals = each(&mut reader, async |pairs: Vec<Pair>| {
            keys += u64::try_from(pairs.len()).unwrap_or(u64::MAX);
            Ok(())
        })
        .await?;
        println!("whole: {keys} keys, {} bytes, {}", totals.bytes, totals.digest);
        println!("taken {} by release {}", ago(manifest.taken_at), manifest.release);
        return Ok(());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    make_folder_of(&settings.store)?;
    let store = open_store(&settings.store, &clock, &Random::from_os()).await?;
    let restoring = Restoring::begin(&*store, &first.0.id, manifest.revision).await?;
    let totals = each(&mut reader, async |pairs| restoring.put(pairs).await).await?;
    // Before the store is whole: a control that starts then has the key.
    if let Some(text) = recovered.filter(|_| keyring.is_missing()) {
        keyring.take_over(&text).await?;
    }
    let Totals { keys, bytes, digest } = totals;
    restoring.finish(&Migrated { keys, bytes, digest, revision: manifest.revision }).await?;
    println!("restored {keys} keys, {bytes} bytes, taken {}", ago(manifest.taken_at));
    println!("put the artifacts in their place, then start a control over this store");
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

/// Gives all pairs on, and the last piece back.
async fn each<R: BufRead>(
    reader: &mut Reader<R>,
    mut take: impl AsyncFnMut(Vec<Pair>) -> Result<(), Problem>,
) -> Result<Totals, Problem> {
    loop {
        let (piece, last) = reader.next()?;
        if last {
            return serde_json::from_slice(&piece).map_err(unknown);
        }
        take(decode(&piece).ok_or_else(|| Problem::invalid("a piece of the backup has another form"))?)
            .await?;
    }
}

fn keyring(settings: &Settings) -> Keyring {
    let folder = std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    keys::of_control(settings.key.as_ref(), &folder)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(value).map_err(|error| Problem::internal(error.to_string()))
}

/// How long ago, for people.
fn ago(then: Timestamp) -> String {
    format!("{} s ago", SystemClock.now().0.saturating_sub(then.0) / 1000)
}

fn unknown(error: serde_json::Error) -> Problem {
    Problem::invalid(format!("a piece of the backup has another form: {error}"))
}

/// Keys and values, each behind its length.
fn encode(pairs: &[Pair]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in pairs.iter().flat_map(|(key, value)| [key.as_bytes(), value]) {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Vec<Pair>> {
    let mut part = || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        bytes = rest;
        Some((part, rest.is_empty()))
    };
    let mut pairs = Vec::new();
    let mut end = false;
    while !end {
        let Some((key, _)) = part() else { return pairs.is_empty().then_some(pairs) };
        let (value, is_last) = part()?;
        pairs.push((String::from_utf8(key.to_vec()).ok()?, Arc::from(value)));
        end = is_last;
    }
    Some(pairs)
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
    println!("{}", made.as_str());
    eprintln!(
        "That opens backups made from now on, and is shown this once. The one before opens older ones alone."
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_and_half_of_them_do_not() {
        let pairs: Vec<Pair> = vec![("k".into(), Arc::from(*b"v")), ("é".into(), Arc::from(*b""))];
        let bytes = encode(&pairs);
        assert_eq!(decode(&bytes), Some(pairs));
        assert_eq!(decode(b""), Some(Vec::new()));
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode(&bytes[..7]), None);
    }
}
