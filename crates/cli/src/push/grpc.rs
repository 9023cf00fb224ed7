//! A gRPC service: a component and the `.proto` it implements, laid against each other before anything is sent.

use super::{Content, Prepared, prepare_any};
use crate::api::Api;
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};
use tutti_model::{
    Problem,
    version::{Isolate, WASM_INTERFACES},
};
use tutti_proto::{check::check, limits::COMPONENT_BYTES, wit::CALL_INTERFACE};

/// Size of the pieces in which a component is searched, in bytes.
const PIECE: usize = 256 * 1024;

/// Looks at a component and the `.proto` whose service it implements.
///
/// # Errors
/// Everything that is wrong with either, with the manifest, or with how they fit.
pub(crate) fn prepare_grpc(
    proto: &Path,
    proto_paths: &[PathBuf],
    path: &Path,
    service: &str,
    manifest: Option<&Path>,
) -> Result<Prepared, Vec<Problem>> {
    if is_proto(path) && !is_proto(proto) {
        return Err(vec![Problem::invalid("the .proto comes first, then the component").hint(format!(
            "tutti push {} {} NAME@VERSION",
            path.display(),
            proto.display()
        ))]);
    }
    let api = Api::read(proto, proto_paths)?;
    let found = api.service(Some(service)).map_err(|problem| vec![problem])?;
    if found.name != service {
        let problem =
            Problem::invalid(format!("\"{service}\" is the service {} without its package", found.name));
        return Err(vec![problem.hint(format!("push it as {}@VERSION", found.name))]);
    }
    let mut prepared = prepare_any(path, manifest)?;
    if prepared.isolate != Isolate::Wasm {
        let problem = Problem::invalid(format!("{} is not a wasm component", path.display()));
        return Err(vec![problem.hint(
            "a program that serves gRPC by itself is pushed without its .proto: tutti push PATH NAME@VERSION",
        )]);
    }
    let bytes = read(path).map_err(|problem| vec![problem])?;
    check(&bytes, &api.schema, found, &WASM_INTERFACES).map_err(|mismatches| {
        let place = path.display();
        let mut problems: Vec<Problem> =
            mismatches.iter().map(|mismatch| Problem::invalid(format!("{place}: {mismatch}"))).collect();
        if let Some(last) = problems.last_mut() {
            let hint = format!(
                "it was built for another interface than {} has: tutti bindgen writes this one",
                found.name
            );
            last.hint = Some(hint);
        }
        problems
    })?;
    prepared.descriptors = Some(api.set().to_vec());
    Ok(prepared)
}

fn is_proto(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "proto")
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let size = fs::metadata(path).map_err(|error| super::unreadable(path, &error))?.len();
    if usize::try_from(size).map_or(true, |size| size > COMPONENT_BYTES) {
        return Err(Problem::invalid(format!(
            "{} has {}, more than the {} that a gRPC service may have",
            path.display(),
            crate::text::size(size),
            crate::text::size(u64::try_from(COMPONENT_BYTES).unwrap_or(u64::MAX))
        )));
    }
    fs::read(path).map_err(|error| super::unreadable(path, &error))
}

/// Refuses a component that implements a gRPC service where no `.proto` says which: nothing could call it.
pub(super) fn without_proto(path: &Path, content: &Content) -> Result<(), Problem> {
    let Content::File(file) = content else { return Ok(()) };
    if !speaks_grpc(file).map_err(|error| super::unreadable(path, &error))? {
        return Ok(());
    }
    Err(Problem::invalid(format!(
        "{} implements a gRPC service, and there is no .proto that declares it",
        path.display()
    ))
    .hint(format!("tutti push API.proto {} PACKAGE.SERVICE@VERSION", path.display())))
}

/// Whether the name of the interface that only gRPC services import is in a component. The name in a text of another
/// component would be found too: that one is told what to do just the same.
fn speaks_grpc(path: &Path) -> io::Result<bool> {
    let wanted = CALL_INTERFACE.as_bytes();
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    // The end of the piece before, in which the name may have begun.
    let mut kept = 0;
    loop {
        let Some(free) = piece.get_mut(kept..) else { return Ok(false) };
        let read = file.read(free)?;
        let filled = kept.saturating_add(read);
        let seen = piece.get(..filled).unwrap_or_default();
        if seen.windows(wanted.len()).any(|window| window == wanted) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        kept = filled.min(wanted.len().saturating_sub(1));
        piece.copy_within(filled.saturating_sub(kept)..filled, 0);
    }
}

#[cfg(test)]
mod tests;
