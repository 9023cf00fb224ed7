//! A new project for a service: everything that its language's stock tools need to build and test it, with an
//! implementation that answers every method.
//!
//! Templates are files under `project/`; what depends on the service is written by `rust` and `python`.

mod names;
mod python;
mod rust;

use crate::{
    api::{Api, Source},
    args::Language,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tutti_model::Problem;
use tutti_proto::{
    schema::{Schema, Service},
    wit,
};

/// Longest name of a project: what package registries of both languages take.
const NAME_BYTES: usize = 64;
/// Names that Rust's own crates have.
const TAKEN: [&str; 5] = ["alloc", "core", "proc-macro", "std", "test"];

/// One file of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Where, in the project's folder.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// The project's name: the last part of its folder.
///
/// # Errors
/// A name that cargo or Python would refuse.
pub(crate) fn name(folder: &Path) -> Result<String, Problem> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let letters = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    let good = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= NAME_BYTES
        && name.chars().all(letters)
        && !name.ends_with('-')
        && !name.contains("--")
        && !TAKEN.contains(&name.as_str())
        && !names::is_keyword(&name);
    if good {
        return Ok(name);
    }
    Err(Problem::invalid(format!("\"{name}\" cannot be a project's name")).hint(
        "lower-case letters, digits and single hyphens, a letter first, and no keyword, such as hello-world",
    ))
}

/// Every file of a new project.
///
/// # Errors
/// A service without methods, or a `.proto` that cannot be read again.
pub(crate) fn files(
    language: Language,
    name: &str,
    api: &Api,
    service: &Service,
) -> Result<Vec<File>, Problem> {
    if service.methods.is_empty() {
        return Err(Problem::invalid(format!(
            "{} has no methods: there is nothing to implement",
            service.name
        )));
    }
    let sources = api.sources()?;
    let mut files = match language {
        Language::Rust => rust::files(&api.schema, service),
        Language::Python => python::files(&api.schema, service),
    };
    for file in &mut files {
        file.text = filled(&file.text, name, service, &sources, api.schema.services.len());
    }
    for file in wit::generate(&api.schema, &api.docs(), service) {
        files.push(File { path: format!("wit/{}", file.path), text: file.text });
    }
    files.extend(
        sources.into_iter().map(|source| File { path: format!("proto/{}", source.name), text: source.text }),
    );
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// The WIT interface of the types of the service's own package.
fn own_interface<'a>(schema: &'a Schema, service: &Service) -> &'a str {
    schema.interface(service.name.rsplit_once('.').map_or("", |(package, _)| package))
}

/// A template's text with what is particular to this project.
fn filled(text: &str, name: &str, service: &Service, sources: &[Source], services: usize) -> String {
    let own = sources.first().map(|source| source.name.as_str()).unwrap_or_default();
    // A file in a folder of its own is found by its import's name only from the top.
    let path = if own.contains('/') { "--proto-path proto " } else { "" };
    // What `tutti` is to be told of the service, where the file has others too.
    let which = if services == 1 { String::new() } else { format!("--service {} ", service.name) };
    let (package, _) = service.name.rsplit_once('.').unwrap_or(("", &service.name));
    text.replace("@NAME@", name)
        .replace("@CRATE@", &name.replace('-', "_"))
        .replace("@SERVICE@", &service.name)
        .replace(
            "@PUSHED@",
            &if package.is_empty() { format!("DOMAIN:{}", service.name) } else { service.name.clone() },
        )
        .replace("@PROTO@", &format!("{path}proto/{own}"))
        .replace("@WHICH@", &which)
        .replace("@WORLD@", &service.wit_world)
}

/// Makes the folder with everything in it, or nothing.
///
/// # Errors
/// The folder is there, or cannot be made.
pub(crate) fn write(folder: &Path, files: &[File]) -> Result<(), Problem> {
    let there = Problem::conflict(format!("{} is there already", folder.display()));
    if folder.symlink_metadata().is_ok() {
        return Err(there.hint("choose another name, or move it away"));
    }
    let beside = beside(folder);
    let made = all(&beside, files).and_then(|()| fs::rename(&beside, folder));
    made.map_err(|error| {
        // What is left of the attempt; the first error is the one to tell.
        let _ = fs::remove_dir_all(&beside);
        Problem::unavailable(format!("{} cannot be made: {error}", folder.display()))
    })
}

fn beside(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.new-{}", std::process::id()))
}

fn all(folder: &Path, files: &[File]) -> io::Result<()> {
    fs::create_dir(folder)?;
    for file in files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, &file.text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
