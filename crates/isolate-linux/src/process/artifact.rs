//! Program archives, unpacked once for all instances that run them.
//!
//! What is in an archive is not trusted: nothing is written outside its folder, no device or special file is made, no
//! bit of the set-user kind is kept. Links are made after all files, so that no file can be written through one; and no
//! link leads out, also not by way of others, so that no hard link can bring in a file of the host.

use std::{
    cell::Cell,
    fs::{self, File, Permissions},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
    rc::Rc,
};
use tutti_base::Random;
use tutti_isolate::{Artifact, DriverError};
use tutti_model::{Digest, limits};

/// What a program archive's only layer is.
pub const MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Most entries of an archive, and most folders: four times those of a large node_modules.
const ENTRIES: usize = 200_000;

/// Most bytes before an entry's content: its head, and the long names and attributes that are held in memory for it.
/// The longest path that the kernel takes has 4 KiB.
const HEAD_BYTES: u64 = 256 * 1024;

/// Begins the names of folders that are being filled.
const PARTIAL: &str = ".new-";
/// Holds the start of the machine that the folders were filled in.
const BOOT: &str = ".boot";

/// Where archives are unpacked.
#[derive(Debug, Clone)]
pub(super) struct Unpacked {
    folder: PathBuf,
    random: Random,
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    #[error("the archive is refused: {0}")]
    Refused(String),
    #[error("unpacking the archive")]
    Host(#[from] io::Error),
}

impl UnpackError {
    fn into_driver(self, digest: &Digest) -> DriverError {
        match self {
            UnpackError::Refused(_) => {
                DriverError::Unrunnable(format!("artifact {}: {self}", digest.short()))
            }
            UnpackError::Host(source) => {
                DriverError::Host { what: format!("unpacking artifact {}", digest.short()), source }
            }
        }
    }
}

impl Unpacked {
    pub(super) fn new(root: &Path, random: Random) -> Self {
        Unpacked { folder: root.join("artifacts"), random }
    }

    /// The folder of an artifact, if it was unpacked.
    pub(super) fn find(&self, digest: &Digest) -> Option<PathBuf> {
        let folder = self.folder.join(digest.hex());
        folder.is_dir().then_some(folder)
    }

    /// Unpacks an artifact unless that was done before.
    pub(super) fn unpack(&self, artifact: &Artifact) -> Result<(), DriverError> {
        self.try_unpack(artifact).map_err(|error| error.into_driver(&artifact.digest))
    }

    fn try_unpack(&self, artifact: &Artifact) -> Result<(), UnpackError> {
        self.forget_earlier_starts()?;
        if self.find(&artifact.digest).is_some() {
            return Ok(());
        }
        let [layer] = artifact.layers.as_slice() else {
            let count = artifact.layers.len();
            return Err(UnpackError::Refused(format!("a program archive has one layer, this has {count}")));
        };
        if layer.media_type != MEDIA_TYPE {
            return Err(UnpackError::Refused(format!(
                "a program archive is {MEDIA_TYPE}, this is {}",
                layer.media_type
            )));
        }
        let partial = self.folder.join(format!("{PARTIAL}{}", self.random.uid()));
        let result = File::open(&layer.path)
            .map_err(UnpackError::from)
            .and_then(|file| fill(&partial, file, ENTRIES))
            .and_then(|()| {
                match fs::rename(&partial, self.folder.join(artifact.digest.hex())) {
                    // Somebody else was faster with the same.
                    Err(_) if self.find(&artifact.digest).is_some() => remove_tree(&partial),
                    other => other,
                }
                .map_err(UnpackError::from)
            });
        if result.is_err() {
            let _ = remove_tree(&partial);
        }
        result
    }

    /// Removes what was unpacked before the machine's last start. It was not forced to disk, so after a power cut some
    /// of it might be empty; and unpacking again is quicker than forcing each to disk.
    fn forget_earlier_starts(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let boot = crate::record::boot_id()?;
        if fs::read_to_string(self.folder.join(BOOT)).is_ok_and(|known| known == boot) {
            return Ok(());
        }
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.is_dir() {
                remove_tree(&path)?;
            }
        }
        fs::write(self.folder.join(BOOT), boot)
    }
}

/// The one executable file of an unpacked archive, relative to its folder.
pub(super) fn only_executable(folder: &Path) -> Result<String, String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = fs::read_dir(&next).map_err(|error| error.to_string())?;
        for entry in entries.filter_map(Result::ok) {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file()
                && metadata.permissions().mode() & 0o111 != 0
                && let Ok(path) = entry.path().strip_prefix(folder)
            {
                found.push(path.display().to_string());
            }
        }
    }
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err("nothing to run: the artifact has no executable file, and the manifest no \"run\"".into()),
        [first, second, ..] => Err(format!(
            "what to run? the artifact has {} executable files, \"{first}\" and \"{second}\" among them, and the manifest no \"run\"",
            found.len()
        )),
    }
}

fn refused<T>(why: impl Into<String>) -> Result<T, UnpackError> {
    Err(UnpackError::Refused(why.into()))
}

/// Fills a new folder from an archive with at most so many entries, and folders.
fn fill(folder: &Path, archive: impl Read, most: usize) -> Result<(), UnpackError> {
    fs::create_dir(folder)?;
    let left = Rc::new(Cell::new(HEAD_BYTES));
    let mut archive = tar::Archive::new(Bounded { archive, left: Rc::clone(&left) });
    let mut links = Vec::new();
    let mut folders = vec![folder.to_owned()];
    let mut bytes = 0u64;
    let entries = archive.entries().map_err(|error| UnpackError::Refused(error.to_string()))?;
    for (count, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|error| UnpackError::Refused(error.to_string()))?;
        if count >= most {
            return refused(format!("it has more than {most} entries"));
        }
        // One entry's name may make two thousand folders.
        if folders.len() > most {
            return refused(format!("it has more than {most} folders"));
        }
        let name = entry.path().map_err(|error| UnpackError::Refused(error.to_string()))?.into_owned();
        let to = folder.join(inside(&name)?);
        match entry.header().entry_type() {
            tar::EntryType::Directory => make_folders(folder, &to, &mut folders)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                bytes = bytes.saturating_add(entry.size());
                if bytes > limits::BLOB_BYTES {
                    return refused(format!("it unpacks to more than {} bytes", limits::BLOB_BYTES));
                }
                make_folders(folder, to.parent().unwrap_or(folder), &mut folders)?;
                let executable = entry.header().mode().unwrap_or(0) & 0o111 != 0;
                left.set(u64::MAX);
                make_file(&to, &mut entry, executable, &name)?;
            }
            kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                let target = entry.link_name().ok().flatten().map(std::borrow::Cow::into_owned);
                links.push((name, to, target, kind == tar::EntryType::Symlink));
            }
            tar::EntryType::XGlobalHeader => {}
            kind => {
                return refused(format!(
                    "\"{}\" is neither file, folder nor link ({kind:?})",
                    name.display()
                ));
            }
        }
        left.set(HEAD_BYTES);
    }
    for (name, to, target, symbolic) in links {
        let Some(target) = target else {
            return refused(format!("link \"{}\" leads nowhere", name.display()));
        };
        make_folders(folder, to.parent().unwrap_or(folder), &mut folders)?;
        make_link(folder, &name, &to, &target, symbolic)?;
    }
    // Whatever the agent's umask is. Instances have no right to write here, by their user, their mount or Landlock; but
    // an operator who is not root must be able to remove it with plain `rm -r`.
    for folder in &folders {
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// An archive of which no more than `left` bytes are read.
struct Bounded<R> {
    archive: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.archive.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        self.left.set(left.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("a head is longer than {HEAD_BYTES} bytes"))
        })?);
        Ok(count)
    }
}

/// The path relative to the archive's folder, if it stays in it.
fn inside(name: &Path) -> Result<PathBuf, UnpackError> {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return refused(format!("\"{}\" leads out of it", name.display())),
        }
    }
    Ok(path)
}

/// Makes the folders on the way to `to`, of which none may be something else.
fn make_folders(top: &Path, to: &Path, made: &mut Vec<PathBuf>) -> Result<(), UnpackError> {
    let mut path = top.to_owned();
    for part in to.strip_prefix(top).unwrap_or(Path::new("")).components() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return refused(format!("\"{}\" is a folder and not a folder", to.display())),
            Err(_) => {
                fs::create_dir(&path)?;
                made.push(path.clone());
            }
        }
    }
    Ok(())
}

fn make_file(to: &Path, content: &mut impl Read, executable: bool, name: &Path) -> Result<(), UnpackError> {
    let mode = if executable { 0o555 } else { 0o444 };
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(to);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return refused(format!("\"{}\" is in it twice", name.display()));
        }
        other => other?,
    };
    io::copy(content, &mut file)?;
    // Whatever the agent's umask is, instances of other users are to read it.
    Ok(file.set_permissions(Permissions::from_mode(mode))?)
}

fn make_link(
    folder: &Path,
    name: &Path,
    to: &Path,
    target: &Path,
    symbolic: bool,
) -> Result<(), UnpackError> {
    let shown = name.display();
    if fs::symlink_metadata(to).is_ok() {
        return refused(format!("\"{shown}\" is in it twice"));
    }
    if !symbolic {
        let from = folder.join(inside(target)?);
        // The way there may lead through links made before; they stay inside, and this does not rely on it.
        let stays = match (from.parent().unwrap_or(folder).canonicalize(), folder.canonicalize()) {
            (Ok(from), Ok(folder)) => from.starts_with(folder),
            _ => false,
        };
        if !stays || !fs::symlink_metadata(&from).is_ok_and(|metadata| metadata.is_file()) {
            return refused(format!("link \"{shown}\" does not lead to a file of it"));
        }
        return Ok(fs::hard_link(from, to)?);
    }
    // The link stands in a folder that is none itself, so steps up from there are what they seem. After a name they
    // are not: that may be a link, whose target is then what is stepped up from.
    let mut depth = inside(name)?.components().count().saturating_sub(1);
    let mut named = false;
    for part in target.components() {
        match part {
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::ParentDir if named => {
                return refused(format!(
                    "link \"{shown}\" leads to \"{}\": write it without \"..\" after a name",
                    target.display()
                ));
            }
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return refused(format!("link \"{shown}\" leads out of it, to \"{}\"", target.display())),
        }
    }
    Ok(symlink(target, to)?)
}

/// Removes a folder and all in it, folders that their owner may not write to included.
pub(super) fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let mut folders = vec![folder.to_owned()];
            while let Some(next) = folders.pop() {
                let _ = fs::set_permissions(&next, Permissions::from_mode(0o700));
                for entry in fs::read_dir(&next)?.filter_map(Result::ok) {
                    // Not through links, which `file_type` does not follow.
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        folders.push(entry.path());
                    }
                }
            }
            fs::remove_dir_all(folder)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
