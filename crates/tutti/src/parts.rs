//! What more than one role is made of.

use std::{path::Path, sync::Arc};
use tokio::net::UnixListener;
use tutti_base::{Clock, Random, socket};
use tutti_isolate::Driver;
use tutti_isolate_linux::{ProcessDriver, ProcessOptions};
use tutti_isolate_wasm::{WasmDriver, WasmOptions};
use tutti_model::{ErrorCode, Problem, node::RoleAddress};

/// What runs instances on this machine, with files of its own in this folder.
///
/// # Errors
/// `internal` if the wasm engine cannot start here.
pub(crate) fn drivers(
    folder: &Path,
    clock: &Arc<dyn Clock>,
    random: &Random,
) -> Result<Vec<Arc<dyn Driver>>, Problem> {
    let wasm = WasmDriver::new(WasmOptions::new(folder.join("wasm"), Arc::clone(clock)))
        .map_err(|error| Problem::internal(format!("the wasm engine cannot start: {}", error.chain())))?;
    let options = ProcessOptions::own(folder.join("process"), Arc::clone(clock), random.clone());
    Ok(vec![Arc::new(wasm), Arc::new(ProcessDriver::new(options))])
}

/// What an address that is no socket of this machine is told, where only one will do.
pub(crate) fn no_socket(address: &RoleAddress) -> Problem {
    Problem::invalid(format!("{address} is not a socket of this machine")).hint("write it as unix:/PATH")
}

/// Listens where other roles of this machine come.
///
/// # Errors
/// `unavailable` if somebody else listens there, or the file cannot be made.
pub(crate) async fn listen(address: &RoleAddress) -> Result<UnixListener, Problem> {
    let RoleAddress::Socket(path) = address else { return Err(no_socket(address)) };
    socket::listen(path).await.map_err(|error| {
        Problem::new(ErrorCode::Unavailable, format!("cannot listen on {address}: {error}"))
            .hint("choose another with --socket unix:/PATH, in a folder of this user's own")
    })
}
