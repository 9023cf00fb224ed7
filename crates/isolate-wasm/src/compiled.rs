//! Compiled components on disk, and the only `unsafe` of this crate: running what is there.
//!
//! The engine runs compiled code as it is and cannot tell whether somebody changed it. So what is loaded must be what
//! this engine wrote, and that is what this module sees to:
//!
//! - The folder belongs to this user and nobody else may write to it; the same holds for each file.
//! - It came from the [`compiler`](crate::compiler): this same program, run as a child for this one component, its
//!   output sealed before it was looked at.
//! - A file's name holds the digest of the component it was made from, a hash of the engine's version and settings,
//!   and the SHA-256 of its own bytes, which is checked on each load, through the same open file that is then mapped.
//!   A torn, truncated or rotten file is removed, and the component compiled again.
//! - Files are put in place whole and never changed after, only removed; a removed file lives on while it is mapped.
//!
//! For the same reason the pages of an idle component need not stay in memory: they can be had from the file again.
//!
//! The SHA-256 is there against accidents. Against somebody who can write as this user there is no defence here, nor
//! need there be: they could replace the agent.

#![expect(unsafe_code, reason = "loading compiled code is unsafe in the engine's interface")]

use crate::compiler::{self, Code};
use rustix::mm::{Advice, madvise};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};
use tutti_base::sha256::Hasher;
use tutti_model::Digest;
use wasmtime::{Engine, component::Component};

/// Files being written begin with this; those found at the start are left from a crash.
const UNFINISHED: &str = ".new-";
/// What is read at once to check a file.
const PIECE_BYTES: usize = 64 << 10;

/// The folder of compiled components.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    most_bytes: u64,
    /// The hash of the engine's version and settings.
    engine: String,
    written: AtomicU64,
}

/// One file of the cache.
struct Entry {
    path: PathBuf,
    name: String,
    bytes: u64,
    used: SystemTime,
}

impl Cache {
    /// Opens the folder, making it if need be.
    ///
    /// # Errors
    /// What the host says; `PermissionDenied` if others could write to it.
    pub(crate) fn open(folder: PathBuf, most_bytes: u64, engine: &Engine) -> io::Result<Cache> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let found = fs::metadata(&folder)?;
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} belongs to another user (uid {})", folder.display(), found.uid()),
            ));
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let cache = Cache { folder, most_bytes, engine: compiler::hash(engine), written: AtomicU64::new(0) };
        for entry in fs::read_dir(&cache.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(cache)
    }

    fn prefix(&self, component: &Digest) -> String {
        format!("{}.{}.", component.hex(), self.engine)
    }

    /// Loads a component that was compiled before. Anything that is not as it should be is as if it were not there.
    pub(crate) fn load(&self, engine: &Engine, component: &Digest) -> Option<Component> {
        let prefix = self.prefix(component);
        let entries = self.entries().ok()?;
        entries.into_iter().filter(|entry| entry.name.starts_with(&prefix)).find_map(|entry| match load_file(
            engine,
            &entry.path,
            entry.name.strip_prefix(&prefix)?,
        ) {
            Ok(component) => Some(component),
            Err(error) => {
                let path = entry.path.display();
                tracing::warn!(%path, error, "a compiled component is unusable and will be compiled again");
                let _ = fs::remove_file(&entry.path);
                None
            }
        })
    }

    /// Keeps compiled code for later and loads it. Where it cannot be kept it is loaded all the same.
    pub(crate) fn keep_and_load(
        &self,
        engine: &Engine,
        component: &Digest,
        code: Code,
    ) -> Result<Component, String> {
        match self.keep(component, &code) {
            // From the file, so that its pages are the file's and the kernel may drop and fetch them as it likes.
            Ok(()) => match self.load(engine, component) {
                Some(loaded) => Ok(loaded),
                None => load(engine, &code),
            },
            Err(error) => {
                let folder = self.folder.display();
                tracing::warn!(%folder, %error, "a compiled component could not be kept; it will be compiled again");
                load(engine, &code)
            }
        }
    }

    fn keep(&self, component: &Digest, code: &Code) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!("{UNFINISHED}{}-{number}", std::process::id()));
        let mut from = code.file();
        from.rewind()?;
        let place = self.folder.join(format!("{}{}", self.prefix(component), digest(from)?.hex()));
        let mut write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            from.rewind()?;
            io::copy(&mut from, &mut file)?;
            // Not synced: what a power cut tears is found out by its SHA-256, and compiling again is all it costs.
            fs::rename(&unfinished, &place)
        };
        if let Err(error) = write() {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        self.trim(&place)
    }

    /// Removes what was not used for longest until the rest fits, but never `newest`.
    fn trim(&self, newest: &Path) -> io::Result<()> {
        let mut entries = self.entries()?;
        entries.sort_by(|one, other| (one.used, &one.name).cmp(&(other.used, &other.name)));
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        for entry in entries {
            if total <= self.most_bytes {
                break;
            }
            if entry.path != newest {
                fs::remove_file(&entry.path)?;
                total = total.saturating_sub(entry.bytes);
            }
        }
        Ok(())
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // One that another thread has just removed is not there.
            let Ok(found) = entry.metadata() else { continue };
            if found.is_file() && !name.starts_with(UNFINISHED) {
                entries.push(Entry { path: entry.path(), name, bytes: found.len(), used: found.modified()? });
            }
        }
        Ok(entries)
    }
}

/// Loads code that has just been compiled, from memory.
pub(crate) fn load(engine: &Engine, code: &Code) -> Result<Component, String> {
    let file = format!("/proc/self/fd/{}", code.file().as_raw_fd());
    // SAFETY: the file is what this program's compiler wrote (`Code` has no other constructor), with the settings of
    // this engine, whose hash it checked. It is sealed, so nobody changes it while it is mapped, nor has since.
    unsafe { Component::deserialize_file(engine, file) }.map_err(|error| format!("{error:#}"))
}

/// Loads a file of the cache, if its bytes have this SHA-256.
fn load_file(engine: &Engine, path: &Path, sha256: &str) -> Result<Component, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err("others could have written it".to_owned());
    }
    if digest(&file).map_err(|error| error.to_string())?.hex() != sha256 {
        return Err("its bytes are not those that were written".to_owned());
    }
    let same_file = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: the file was written by `Cache::keep` from this program's compiler's output: its name says so, its bytes
    // have the digest in its name, and it and its folder belong to this user, whom nobody else can write as. It is
    // mapped through the file that was checked, so it cannot have been exchanged, and nobody changes it while it is
    // mapped, since this module only ever makes and removes files.
    let component =
        unsafe { Component::deserialize_file(engine, same_file) }.map_err(|error| format!("{error:#}"))?;
    // What orders removal. If it fails the entry is only removed earlier.
    let _ = file.set_modified(SystemTime::now());
    Ok(component)
}

/// Takes a component's pages out of this process's memory: its code, and what the engine looks up in its file. Whoever
/// needs one again, even this moment, has it from the kernel's cache of the file, a few microseconds later.
pub(crate) fn give_back(component: &Component) {
    let image = component.image_range();
    let bytes = image.end.addr().saturating_sub(image.start.addr());
    // SAFETY: the range is a whole private mapping of a file, since components are only ever loaded by the functions
    // above, from a file. Nothing has been written to it that would be lost: the engine refuses images with relocations
    // and makes the mapping read-only once it is loaded (a test compares it with its file). So dropping its pages
    // changes no byte that anybody can read.
    let result = unsafe { madvise(image.start.cast_mut().cast(), bytes, Advice::LinuxDontNeed) };
    if let Err(error) = result {
        tracing::debug!(%error, "the pages of an idle component stay in memory");
    }
}

fn digest(mut file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(piece.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
