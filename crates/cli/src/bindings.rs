//! A generated folder of WIT: written whole or not at all, and never over a file that somebody else wrote.

use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tutti_model::Problem;
use tutti_proto::{schema::Service, wit::WitFile};

/// How the first line of a world ends that bindgen wrote; the service's name stands before it.
const MADE_HERE: &str = " for its component, made from its .proto.";
/// How that line begins.
const OF: &str = "// The interface of ";
/// How the interface begins that is the same for every service.
const CALL: &str = "package tutti:grpc@";

/// One file and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Where.
    pub(crate) path: PathBuf,
    text: String,
    /// Whether it is there as it should be.
    pub(crate) unchanged: bool,
}

/// Looks at what is in the folder.
///
/// # Errors
/// Files that are of another origin, or of another service.
pub(crate) fn plan(folder: &Path, service: &Service, files: Vec<WitFile>) -> Result<Vec<Step>, Vec<Problem>> {
    let mut faults = Vec::new();
    let mut steps = Vec::new();
    for file in files {
        let path = folder.join(&file.path);
        let there = match fs::read(&path) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                faults.push(Problem::invalid(format!("{} cannot be read: {error}", path.display())));
                continue;
            }
        };
        let unchanged = there.as_deref() == Some(file.text.as_bytes());
        if let Some(there) = there.filter(|_| !unchanged)
            && let Some(why) = not_ours(&there, service)
        {
            let problem = Problem::conflict(format!("{} is there, and {why}", path.display()));
            faults.push(problem.hint("choose another folder with --out, or move the file away"));
        }
        steps.push(Step { path, text: file.text, unchanged });
    }
    if faults.is_empty() { Ok(steps) } else { Err(faults) }
}

/// Why a file may not be written over.
fn not_ours(there: &[u8], service: &Service) -> Option<String> {
    let text = String::from_utf8_lossy(there);
    if text.starts_with(CALL) {
        return None;
    }
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix(OF).and_then(|rest| rest.strip_suffix(MADE_HERE)) {
        None => Some("tutti bindgen did not write it".to_owned()),
        Some(of) if of != service.name => Some(format!("it is of the service {of}")),
        Some(_) => None,
    }
}

/// Writes what is not there yet. A file appears whole: a build that runs meanwhile sees the old or the new one.
///
/// # Errors
/// The first that cannot be written.
pub(crate) fn write(steps: &[Step]) -> Result<(), Problem> {
    for step in steps.iter().filter(|step| !step.unchanged) {
        place(&step.path, step.text.as_bytes()).map_err(|error| {
            Problem::unavailable(format!("{} cannot be written: {error}", step.path.display()))
        })?;
    }
    Ok(())
}

fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let beside = PathBuf::from(name);
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is left of the attempt; the first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests;
