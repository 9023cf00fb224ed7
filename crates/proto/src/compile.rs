//! From `.proto` files on disk to descriptors, without `protoc`.

use crate::fault::Fault;
use crate::limits;
use miette::Diagnostic;
use prost_reflect::DescriptorPool;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use std::path::{Path, PathBuf};

/// Files that come with Tutti besides protobuf's own: what an HTTP annotation needs. A file of the same name in a
/// `--proto-path` goes before it.
const BUILT_IN: [(&str, &str); 2] = [
    ("google/api/annotations.proto", include_str!("builtin/annotations.proto")),
    ("google/api/http.proto", include_str!("builtin/http.proto")),
];

/// What a compilation gives.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Everything that the files and their imports declare, with source positions and comments.
    pub pool: DescriptorPool,
    /// The files that were named, by the name that an import would use.
    pub files: Vec<String>,
    /// A serialized `FileDescriptorSet` of the same, imports before what imports them, without source positions: what is
    /// stored beside the component and read back by [`crate::stored::open`].
    pub set: Vec<u8>,
}

/// Compiles these files. Imports are looked up in each of `proto_paths` in turn, then among protobuf's own files; without
/// any path, in the folders of the files themselves.
///
/// # Errors
/// Every fault that the compiler names, with file, line and column.
pub fn compile<P: AsRef<Path>>(files: &[P], proto_paths: &[P]) -> Result<Compiled, Vec<Fault>> {
    let paths = search_paths(files, proto_paths);
    let mut compiler = Compiler::with_file_resolver(resolver(&paths));
    compiler.include_imports(true);
    let mut names = Vec::new();
    for file in files {
        let file = file.as_ref();
        if !file.is_file() && !paths.iter().any(|path| path.join(file).is_file()) {
            return Err(vec![
                Fault::of_file(file.display().to_string(), "file not found").hint(looked_in(&paths)),
            ]);
        }
        compiler.open_file(file).map_err(|error| faults(&error, &paths))?;
        names.extend(named(&paths, file));
    }
    // The compiler's own pool was resolved before its options were: it takes every `packed` for its default.
    let with_source = compiler.include_source_info(true).encode_file_descriptor_set();
    let pool = DescriptorPool::decode(with_source.as_slice())
        .map_err(|error| vec![Fault::of_file(error.file().unwrap_or_default(), error.to_string())])?;
    let set = compiler.include_source_info(false).encode_file_descriptor_set();
    if set.len() > limits::SET_BYTES {
        let what = format!("the descriptors are {} bytes; the limit is {}", set.len(), limits::SET_BYTES);
        return Err(vec![Fault::of_file("", what).hint("import fewer files")]);
    }
    Ok(Compiled { pool, files: names, set })
}

fn search_paths<P: AsRef<Path>>(files: &[P], proto_paths: &[P]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = proto_paths.iter().map(|path| path.as_ref().to_owned()).collect();
    if paths.is_empty() {
        for file in files {
            let parent = file.as_ref().parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new(".")).to_owned();
            if !paths.contains(&parent) {
                paths.push(parent);
            }
        }
    }
    paths
}

fn resolver(paths: &[PathBuf]) -> ChainFileResolver {
    let mut resolver = ChainFileResolver::new();
    for path in paths {
        resolver.add(IncludeFileResolver::new(path.clone()));
    }
    resolver.add(GoogleFileResolver::new());
    resolver.add(BuiltIn);
    resolver
}

/// The name by which an import would find this file.
fn named(paths: &[PathBuf], file: &Path) -> Option<String> {
    let resolved = paths.iter().find_map(|path| IncludeFileResolver::new(path.clone()).resolve_path(file));
    resolved.or_else(|| Some(file.to_str()?.to_owned()))
}

/// [`BUILT_IN`] as the compiler looks files up.
struct BuiltIn;

impl FileResolver for BuiltIn {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        let (_, source) = found.ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, source)
    }
}

fn looked_in(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("looked in {}; say where else with --proto-path", paths.join(", "))
}

fn faults(error: &protox::Error, paths: &[PathBuf]) -> Vec<Fault> {
    let mut first = Fault {
        position: position(error, error.source_code()),
        hint: error.help().map(|help| help.to_string()),
        ..Fault::of_file(error.file().unwrap_or_default(), error.to_string())
    };
    if error.is_file_not_found() {
        first.hint = Some(looked_in(paths));
    }
    if first.what.ends_with("but found 'edition'") {
        first.what = "editions are not supported".to_owned();
        first.hint =
            Some("declare syntax = \"proto3\" instead; messages on the wire stay the same".to_owned());
    }
    // The compiler forgets to say which name.
    if first.what == "a field with JSON name '' is already defined" {
        first.what = "another field has the same name in JSON".to_owned();
        first.hint = Some("rename one, or give it a json_name of its own".to_owned());
    }
    let related = error.related().into_iter().flatten().map(|other| Fault {
        position: position(other, other.source_code().or(error.source_code())),
        hint: other.help().map(|help| help.to_string()),
        ..Fault::of_file(error.file().unwrap_or_default(), other.to_string())
    });
    let mut faults: Vec<Fault> = std::iter::once(first.clone()).chain(related).collect();
    faults.dedup();
    faults
}

/// Line and column, from 1, of the first place that an error points to.
fn position(error: &dyn Diagnostic, source: Option<&dyn miette::SourceCode>) -> Option<(u32, u32)> {
    let label = error.labels()?.next()?;
    let contents = source?.read_span(label.inner(), 0, 0).ok()?;
    let line = u32::try_from(contents.line()).ok()?;
    let column = u32::try_from(contents.column()).ok()?;
    Some((line.saturating_add(1), column.saturating_add(1)))
}
