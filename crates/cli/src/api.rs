//! A service as its `.proto` declares it: read, compiled and chosen, with every fault at its place.
//!
//! What a `.proto` means to a component is `tutti-proto`'s; here it is found on this machine and its faults are turned
//! into what commands say.

use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tutti_model::{Problem, nearest::nearest};
use tutti_proto::{
    compile::{Compiled, compile},
    docs::Docs,
    fault::Fault,
    paths::Routes,
    schema::{Schema, Service},
};

/// Largest `.proto` that is copied into a new project, in bytes: the largest that people write are a tenth of it.
const PROTO_BYTES: u64 = 4 << 20;

/// A compiled `.proto` with all its services.
#[derive(Debug)]
pub(crate) struct Api {
    compiled: Compiled,
    /// What its services mean to a component.
    pub(crate) schema: Schema,
    proto: PathBuf,
    paths: Vec<PathBuf>,
}

/// A file that a service is declared with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// As an import names it.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

impl Api {
    /// Compiles a `.proto` with all that it imports.
    ///
    /// # Errors
    /// Every fault in it, with file, line and column.
    pub(crate) fn read(proto: &Path, paths: &[PathBuf]) -> Result<Api, Vec<Problem>> {
        let said =
            |faults: Vec<Fault>| faults.into_iter().map(|fault| problem(fault, proto)).collect::<Vec<_>>();
        let compiled =
            compile(&[proto], &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>()).map_err(said)?;
        let schema = Schema::build(&compiled.pool, &compiled.files).map_err(said)?;
        for service in &schema.services {
            if let Some(service) = compiled.pool.get_service_by_name(&service.name) {
                Routes::of(&service).map_err(said)?;
            }
        }
        Ok(Api { compiled, schema, proto: proto.to_owned(), paths: paths.to_vec() })
    }

    /// The one service of this file, or the one of this name: the full one, or its last part.
    ///
    /// # Errors
    /// There are several, or none of this name.
    pub(crate) fn service(&self, wanted: Option<&str>) -> Result<&Service, Problem> {
        let services = &self.schema.services;
        let file = self.proto.display();
        let Some(wanted) = wanted else {
            return match services.as_slice() {
                [one] => Ok(one),
                _ => Err(Problem::invalid(format!("{file} declares several services"))
                    .hint(format!("say which with --service: {}", self.names()))),
            };
        };
        let short = |service: &&Service| service.name.rsplit('.').next() == Some(wanted);
        services
            .iter()
            .find(|service| service.name == wanted)
            .or_else(|| services.iter().find(short))
            .ok_or_else(|| {
                let problem = Problem::invalid(format!("{file} declares no service \"{wanted}\""));
                match nearest(wanted, services.iter().map(|service| service.name.as_str())) {
                    Some(near) => problem.hint(format!("did you mean {near}?")),
                    None => problem.hint(format!("it declares {}", self.names())),
                }
            })
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.schema.services.iter().map(|service| service.name.as_str()).collect();
        names.join(", ")
    }

    /// Its comments.
    pub(crate) fn docs(&self) -> Docs {
        Docs::of(&self.compiled.pool)
    }

    /// The descriptors of everything, as they are stored beside a component.
    pub(crate) fn set(&self) -> &[u8] {
        &self.compiled.set
    }

    /// The file itself, then those that it imports and that do not come with every compiler.
    ///
    /// # Errors
    /// A file that cannot be read again.
    pub(crate) fn sources(&self) -> Result<Vec<Source>, Problem> {
        let mut sources = Vec::new();
        let own = self.compiled.files.first().map(String::as_str).unwrap_or_default();
        let all: Vec<String> = self.compiled.pool.files().map(|file| file.name().to_owned()).collect();
        let imported = all.iter().map(String::as_str).filter(|name| *name != own);
        for name in std::iter::once(own).chain(imported) {
            let found =
                if name == own && self.proto.is_file() { Some(self.proto.clone()) } else { self.find(name) };
            // What is nowhere on this machine comes with the compiler.
            let Some(path) = found else { continue };
            let size = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
            if size > PROTO_BYTES {
                let what = format!("{} has {size} bytes, more than {PROTO_BYTES}", path.display());
                return Err(Problem::invalid(what));
            }
            let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
            sources.push(Source { name: name.to_owned(), text });
        }
        Ok(sources)
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let own = self.proto.parent().map(Path::to_owned);
        let folders = if self.paths.is_empty() { own.as_slice() } else { self.paths.as_slice() };
        folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::invalid(format!("{} cannot be read: {error}", path.display()))
}

/// A fault as a command says it: with the path that was typed, so that an editor can jump there.
fn problem(mut fault: Fault, proto: &Path) -> Problem {
    if !fault.file.is_empty() && proto.ends_with(&fault.file) {
        fault.file = proto.display().to_string();
    }
    let hint = fault.hint.take();
    let problem = Problem::invalid(fault.to_string());
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

#[cfg(test)]
mod tests;
