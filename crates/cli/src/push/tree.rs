//! Files as an archive that is the same, bit for bit, wherever and whenever it is made: sorted, without times and
//! owners.

use super::{PIECE, unreadable};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Component, Path, PathBuf},
};
use tutti_model::{Problem, limits};

/// Most files, folders and links in one archive. A large application with its dependencies has tens of thousands.
const ENTRIES: usize = 200_000;
/// Most faults that are told at once.
const FAULTS: usize = 20;

/// What goes into an archive, in its order.
#[derive(Debug)]
pub(crate) struct Tree {
    entries: Vec<Entry>,
    /// Whether it is one program rather than a folder.
    program: bool,
}

#[derive(Debug)]
struct Entry {
    /// Where it is in the archive.
    name: PathBuf,
    /// Where it is here.
    source: PathBuf,
    /// Permission bits, without set-user-id and its like.
    mode: u32,
    what: What,
}

#[derive(Debug)]
enum What {
    Folder,
    File { size: u64 },
    Link { target: PathBuf },
}

impl Tree {
    /// One program.
    pub(super) fn of_program(path: &Path) -> Result<Tree, Vec<Problem>> {
        // Through a link to the program itself, which is what is meant.
        let source = fs::canonicalize(path).map_err(|error| vec![unreadable(path, &error)])?;
        let name = source.file_name().map(PathBuf::from).unwrap_or_default();
        let entry = entry(name, source).map_err(|problem| vec![problem])?;
        Ok(Tree { entries: vec![entry], program: true })
    }

    /// A folder with all that is in it, but for `.git`.
    pub(super) fn of_folder(root: &Path) -> Result<Tree, Vec<Problem>> {
        let real = fs::canonicalize(root).map_err(|error| vec![unreadable(root, &error)])?;
        let mut tree = Tree { entries: Vec::new(), program: false };
        let mut faults = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let read = fs::read_dir(real.join(&folder)).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let found = match read {
                Ok(found) => found,
                Err(error) => {
                    faults.push(unreadable(&root.join(&folder), &error));
                    continue;
                }
            };
            for found in found.into_iter().filter(|found| found.file_name() != ".git") {
                let name = folder.join(found.file_name());
                match entry(name, found.path()) {
                    Err(problem) => faults.push(problem),
                    Ok(entry) => {
                        match &entry.what {
                            What::Folder => folders.push(entry.name.clone()),
                            What::Link { target } => faults.extend(escape(&real, root, &entry.name, target)),
                            What::File { .. } => {}
                        }
                        tree.entries.push(entry);
                    }
                }
            }
            if faults.len() >= FAULTS || tree.entries.len() > ENTRIES {
                break;
            }
        }
        faults.extend(tree.too_large(root));
        faults.truncate(FAULTS);
        // By bytes, which are the same in every locale; a folder comes before what is in it.
        tree.entries.sort_by(|a, b| a.name.as_os_str().as_bytes().cmp(b.name.as_os_str().as_bytes()));
        if faults.is_empty() { Ok(tree) } else { Err(faults) }
    }

    fn too_large(&self, root: &Path) -> Option<Problem> {
        if self.entries.is_empty() {
            return Some(Problem::invalid(format!("{} has nothing in it", root.display())));
        }
        if self.entries.len() > ENTRIES {
            return Some(Problem::invalid(format!("{} has more than {ENTRIES} files", root.display())));
        }
        let sizes = self.entries.iter().map(|entry| match entry.what {
            What::File { size } => size,
            What::Folder | What::Link { .. } => 0,
        });
        let size: u64 = sizes.fold(0, u64::saturating_add);
        (size > limits::BLOB_BYTES).then(|| {
            let (has, most) = (crate::text::size(size), crate::text::size(limits::BLOB_BYTES));
            Problem::invalid(format!("{} has {has}, more than {most}", root.display()))
        })
    }

    /// Whether it is one program rather than a folder.
    pub(super) const fn is_program(&self) -> bool {
        self.program
    }

    /// Checks that a command's program is there and can be run. One without a slash is found on the node's `PATH`.
    pub(super) fn check_program(&self, program: &str) -> Result<(), Problem> {
        if !program.contains('/') || program.starts_with('/') {
            return Ok(());
        }
        let name: PathBuf =
            Path::new(program).components().filter(|part| *part != Component::CurDir).collect();
        let Some(entry) = self.entries.iter().find(|entry| entry.name == name) else {
            let problem = Problem::invalid(format!("[service] run: \"{program}\" is not in what is pushed"));
            let last = name.file_name();
            let near = self.entries.iter().find(|entry| entry.name.file_name() == last && last.is_some());
            return Err(match near {
                Some(near) => problem.hint(format!("did you mean \"./{}\"?", near.name.display())),
                None => problem,
            });
        };
        match entry.what {
            What::File { .. } if entry.mode & 0o111 == 0 => {
                Err(Problem::invalid(format!("[service] run: \"{program}\" is not executable"))
                    .hint(format!("chmod +x {}", entry.source.display())))
            }
            What::Folder => Err(Problem::invalid(format!("[service] run: \"{program}\" is a folder"))),
            What::File { .. } | What::Link { .. } => Ok(()),
        }
    }

    /// Writes the archive.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(BufWriter::with_capacity(PIECE, out));
        for entry in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(0);
            match &entry.what {
                What::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    archive.append_data(&mut header, &entry.name, io::empty())?;
                }
                What::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    archive.append_link(&mut header, &entry.name, target)?;
                }
                What::File { size } => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(*size);
                    let file = Exact { file: File::open(&entry.source)?, left: *size, path: &entry.source };
                    archive.append_data(&mut header, &entry.name, file)?;
                }
            }
        }
        archive.into_inner()?.flush()
    }
}

/// A file that must have exactly the bytes it had when it was looked at: an archive says sizes before contents.
struct Exact<'a> {
    file: File,
    left: u64,
    path: &'a Path,
}

impl Read for Exact<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let changed = || io::Error::other(format!("{} changed while it was read", self.path.display()));
        let read = self.file.read(into)?;
        let length = u64::try_from(read).unwrap_or(u64::MAX);
        match (read, self.left) {
            (0, 0) => Ok(0),
            (0, _) => Err(changed()),
            (_, left) if length > left => Err(changed()),
            (_, left) => {
                self.left = left - length;
                Ok(read)
            }
        }
    }
}

fn entry(name: PathBuf, source: PathBuf) -> Result<Entry, Problem> {
    let meta = fs::symlink_metadata(&source).map_err(|error| unreadable(&source, &error))?;
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        What::Folder
    } else if kind.is_file() {
        File::open(&source).map_err(|error| unreadable(&source, &error))?;
        What::File { size: meta.len() }
    } else if kind.is_symlink() {
        What::Link { target: fs::read_link(&source).map_err(|error| unreadable(&source, &error))? }
    } else {
        return Err(Problem::invalid(format!(
            "{} is a socket, pipe or device: only files, folders and links can be pushed",
            source.display()
        )));
    };
    // A link's own bits mean nothing and differ between systems.
    let mode = if kind.is_symlink() { 0o777 } else { meta.permissions().mode() & 0o777 };
    Ok(Entry { name, source, mode, what })
}

/// Refuses a link that leads out of the folder, by its text or by where it really ends.
fn escape(real_root: &Path, shown_root: &Path, name: &Path, target: &Path) -> Option<Problem> {
    let by_text = target.is_absolute() || {
        let mut depth: i64 = name.components().count().try_into().unwrap_or(i64::MAX) - 1;
        target.components().any(|part| {
            depth += match part {
                Component::ParentDir => -1,
                Component::Normal(_) => 1,
                Component::CurDir | Component::RootDir | Component::Prefix(_) => 0,
            };
            depth < 0
        })
    };
    let really = || fs::canonicalize(real_root.join(name)).is_ok_and(|end| !end.starts_with(real_root));
    (by_text || really()).then(|| {
        Problem::invalid(format!(
            "{} is a link to {}, outside of what is pushed",
            shown_root.join(name).display(),
            target.display()
        ))
        .hint("put a copy in its place, or link to something inside by a relative path")
    })
}
