//! What is pushed: looked at whole, and refused with every fault, before anything is sent.

mod grpc;
mod oci;
mod tree;

pub(crate) use grpc::prepare_grpc;
pub(crate) use oci::{Blob, EMPTY, Image, MANIFEST_TYPE};

use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use tree::Tree;
use tutti_model::{Digest, Problem, limits, manifest::Manifest, version::Isolate};

/// Size of the pieces that files are read in, in bytes.
const PIECE: usize = 256 * 1024;

/// Something that can be pushed.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What runs it.
    pub(crate) isolate: Isolate,
    /// How it wants to be run.
    pub(crate) manifest: Manifest,
    /// Its bytes.
    pub(crate) content: Content,
    /// What a gRPC service is declared by: a serialized `FileDescriptorSet`.
    pub(crate) descriptors: Option<Vec<u8>>,
    /// The last part of its path.
    pub(crate) title: String,
}

/// The bytes of the first layer. They are read twice, once for their digest and once to be sent, and must be the same.
#[derive(Debug)]
pub(crate) enum Content {
    /// A file as it is.
    File(PathBuf),
    /// An archive of these files.
    Archive(Tree),
}

impl Content {
    /// Writes the bytes.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Content::File(path) => {
                let mut file = File::open(path)?;
                let mut piece = vec![0; PIECE];
                loop {
                    match file.read(&mut piece)? {
                        0 => return Ok(()),
                        read => out.write_all(piece.get(..read).unwrap_or_default())?,
                    }
                }
            }
            Content::Archive(tree) => tree.write(out),
        }
    }

    /// Their digest, and how many they are.
    pub(crate) fn digest(&self) -> io::Result<(Digest, u64)> {
        let mut hashed = Hashed { hasher: Sha256::new(), size: 0 };
        self.write(&mut hashed)?;
        Ok((Digest::from_sha256(&hashed.hasher.finalize().into()), hashed.size))
    }
}

struct Hashed {
    hasher: Sha256,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks at a path and its manifest.
///
/// # Errors
/// Everything that is wrong with either, and a component that only its `.proto` makes callable.
pub(crate) fn prepare(path: &Path, manifest: Option<&Path>) -> Result<Prepared, Vec<Problem>> {
    let prepared = prepare_any(path, manifest)?;
    grpc::without_proto(path, &prepared.content).map_err(|problem| vec![problem])?;
    Ok(prepared)
}

/// The same for anything that can be run.
fn prepare_any(path: &Path, manifest: Option<&Path>) -> Result<Prepared, Vec<Problem>> {
    let meta = fs::metadata(path).map_err(|error| vec![unreadable(path, &error)])?;
    let mut faults = Vec::new();
    let place = manifest_place(path, meta.is_dir(), manifest);
    let read = place.as_deref().map_or_else(|| Ok(Manifest::default()), read_manifest);
    let manifest = read.unwrap_or_else(|found| {
        faults.extend(found);
        Manifest::default()
    });
    let content = if meta.is_dir() { folder(path, &manifest) } else { file(path, &meta) };
    let (isolate, content) = match content {
        Ok(found) => found,
        Err(found) => {
            faults.extend(found);
            return Err(faults);
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let title = title(path);
    let manifest = fit(manifest, isolate, &content, &title, path, place.as_deref())?;
    Ok(Prepared { isolate, manifest, content, descriptors: None, title })
}

fn title(path: &Path) -> String {
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => {
            Problem::invalid(format!("there is no file or folder \"{}\"", path.display()))
        }
        _ => Problem::invalid(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Where the manifest is: where the user says, else `tutti.toml` in the folder or beside the file, if there is one.
fn manifest_place(path: &Path, folder: bool, given: Option<&Path>) -> Option<PathBuf> {
    if let Some(given) = given {
        return Some(given.to_owned());
    }
    let beside = if folder { path.join("tutti.toml") } else { path.with_file_name("tutti.toml") };
    beside.exists().then_some(beside)
}

fn read_manifest(path: &Path) -> Result<Manifest, Vec<Problem>> {
    let limit = u64::try_from(limits::MANIFEST_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(|error| vec![unreadable(path, &error)])?;
    Manifest::from_toml(&text).map_err(|faults| faults.into_iter().map(|fault| at(path, fault)).collect())
}

/// A fault with the file it is in.
fn at(path: &Path, mut fault: Problem) -> Problem {
    fault.detail = format!("{}: {}", path.display(), fault.detail);
    fault
}

fn folder(path: &Path, manifest: &Manifest) -> Result<(Isolate, Content), Vec<Problem>> {
    if manifest.isolate == Some(Isolate::Wasm) {
        let component = component_in(path).unwrap_or_else(|| path.join("COMPONENT.wasm"));
        let problem = Problem::invalid(format!(
            "{} is a folder, and its manifest is for a wasm component",
            path.display()
        ));
        return Err(vec![problem.hint(format!("push the component itself: {}", component.display()))]);
    }
    Ok((Isolate::Process, Content::Archive(Tree::of_folder(path)?)))
}

/// The file in a folder that looks like a component; the first by name.
fn component_in(path: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(path).ok()?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")).min()
}

fn file(path: &Path, meta: &fs::Metadata) -> Result<(Isolate, Content), Vec<Problem>> {
    let refuse = |problem: Problem| Err(vec![problem]);
    if !meta.is_file() {
        return refuse(Problem::invalid(format!("{} is neither a file nor a folder", path.display())));
    }
    if meta.len() > limits::BLOB_BYTES {
        return refuse(Problem::invalid(format!(
            "{} has {}, more than {}",
            path.display(),
            crate::text::size(meta.len()),
            crate::text::size(limits::BLOB_BYTES)
        )));
    }
    let mut magic = Vec::new();
    File::open(path)
        .and_then(|file| file.take(8).read_to_end(&mut magic))
        .map_err(|error| vec![unreadable(path, &error)])?;
    match magic.as_slice() {
        // Layer 1 is a component, layer 0 a core module (Component Model, Binary.md).
        [0, b'a', b's', b'm', _, _, 1, 0] => Ok((Isolate::Wasm, Content::File(path.to_owned()))),
        [0, b'a', b's', b'm', ..] => refuse(
            Problem::invalid(format!("{} is a core wasm module, not a component", path.display())).hint(
                "build it for wasm32-wasip2, or make a component of it: wasm-tools component new MODULE --adapt ADAPTER",
            ),
        ),
        _ if meta.permissions().mode() & 0o111 == 0 => refuse(
            Problem::invalid(format!("{} is neither a wasm component nor executable", path.display()))
                .hint(format!("if it is a program: chmod +x {}", path.display())),
        ),
        _ => Ok((Isolate::Process, Content::Archive(Tree::of_program(path)?))),
    }
}

/// Lays the manifest against what was found, and fills in what follows from that.
fn fit(
    mut manifest: Manifest,
    isolate: Isolate,
    content: &Content,
    title: &str,
    path: &Path,
    place: Option<&Path>,
) -> Result<Manifest, Vec<Problem>> {
    let mut faults = Vec::new();
    let mut fault = |problem: Problem| match place {
        Some(place) => faults.push(at(place, problem)),
        None => faults.push(problem),
    };
    if let Some(wanted) = manifest.isolate.filter(|wanted| *wanted != isolate) {
        let hint = match isolate {
            Isolate::Process => "push the component itself: tutti push FILE.wasm … --manifest FILE",
            Isolate::Wasm => "leave the key out, or push a program",
        };
        let found = path.display();
        fault(
            Problem::invalid(format!("[service] isolate: \"{wanted}\", but {found} is for {isolate}"))
                .hint(hint),
        );
    }
    match (isolate, content) {
        (Isolate::Wasm, _) => {
            if !manifest.run.is_empty() || manifest.port.is_some() {
                fault(Problem::invalid("[service] run, port: a wasm component has neither"));
            }
        }
        (Isolate::Process, Content::Archive(tree)) if tree.is_program() => {
            if manifest.run.is_empty() {
                manifest.run = vec![format!("./{title}")];
            }
        }
        (Isolate::Process, _) if manifest.run.is_empty() => fault(
            Problem::invalid(format!(
                "[service] run: {} is a folder, and nothing says what to run in it",
                path.display()
            ))
            .hint("write a tutti.toml into it with: [service] and run = [\"./program\"]"),
        ),
        (Isolate::Process, _) => {}
    }
    if let (Content::Archive(tree), Some(program)) = (content, manifest.run.first())
        && let Err(problem) = tree.check_program(program)
    {
        fault(problem);
    }
    manifest.isolate = Some(isolate);
    if faults.is_empty() { Ok(manifest) } else { Err(faults) }
}

#[cfg(test)]
mod tests;
