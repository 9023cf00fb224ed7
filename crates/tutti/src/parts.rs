//! What more than one role is made of.

use crate::{folder::DataFolder, settings::StoreAddress};
use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::{TcpListener, UnixListener};
use tutti_api::Client;
use tutti_base::{Clock, Random, socket};
use tutti_isolate::Driver;
use tutti_isolate_linux::{ProcessDriver, ProcessOptions};
use tutti_isolate_wasm::{WasmDriver, WasmOptions};
use tutti_model::{ErrorCode, Problem, node::RoleAddress};
use tutti_store::{
    EtcdOptions, EtcdStore, PostgresOptions, PostgresStore, Store, migrate,
    sqlite::{SqliteOptions, SqliteStore},
};

/// Opens the store by the engine that its address is of.
///
/// # Errors
/// What keeps it from being one, with its place.
pub(crate) async fn open_store(
    address: &StoreAddress,
    clock: &Arc<dyn Clock>,
    random: &Random,
) -> Result<Arc<dyn Store>, Problem> {
    match address {
        StoreAddress::Sqlite(path) => {
            let options = SqliteOptions { clock: Arc::clone(clock), ..SqliteOptions::default() };
            Ok(Arc::new(SqliteStore::open(path, options)?))
        }
        StoreAddress::Postgres(address) => {
            let options = PostgresOptions { random: random.clone(), ..PostgresOptions::default() };
            let store = PostgresStore::open(address.clone(), options).await.map_err(|error| {
                let problem = Problem::from(error);
                if problem.hint.is_some() { problem } else { problem.hint(POSTGRES_HINT) }
            })?;
            Ok(Arc::new(store))
        }
        StoreAddress::Etcd(address) => {
            let options =
                EtcdOptions { clock: Arc::clone(clock), random: random.clone(), ..EtcdOptions::default() };
            let store = EtcdStore::open(address, options).await.map_err(|error| {
                Problem::from(error)
                    .hint("start etcd, or name members that run with --store etcd://HOST:PORT")
            })?;
            Ok(Arc::new(store))
        }
    }
}

/// What to look at when a database cannot be opened.
const POSTGRES_HINT: &str = "see that the server runs and is reached, that the user and the database exist, and that \
    the user may create a schema there; the password is taken from PGPASSWORD or a password file";
/// Opens the store of a cloud, which must be whole.
///
/// # Errors
/// As of [`open_store`], and `conflict` for the target of a copy that was cut off.
pub(crate) async fn store(
    address: &StoreAddress,
    folder: &DataFolder,
    clock: &Arc<dyn Clock>,
    random: &Random,
) -> Result<Arc<dyn Store>, Problem> {
    let address = match address {
        StoreAddress::Sqlite(path) => StoreAddress::Sqlite(absolute(folder, path)),
        other => other.clone(),
    };
    let store = open_store(&address, clock, random).await?;
    if migrate::is_unfinished(&*store).await? {
        return Err(Problem::conflict("the store is the target of a copy or a restore that was cut off")
            .hint("begin that again: tutti store migrate --from STORE --to STORE, or tutti restore FILE"));
    }
    Ok(store)
}

/// A path from the settings; relative ones are so to where the process was started.
pub(crate) fn absolute(folder: &DataFolder, path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| folder.path().join(path))
}

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

/// Control over its socket on this machine. One that is away may come back.
///
/// # Errors
/// `invalid` for a control on another machine, `forbidden` if another user listens where control should.
pub(crate) async fn control_of_this_machine(control: &RoleAddress, role: &str) -> Result<Client, Problem> {
    let RoleAddress::Socket(path) = control else { return Err(no_socket(control)) };
    match socket::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let text = format!("control at {control} is not this user's: {error}");
            Err(Problem::new(ErrorCode::Forbidden, text).hint(format!(
                "run the {role} as the user that runs tutti dev, or name another with --control"
            )))
        }
        Ok(_) | Err(_) => Ok(Client::over_socket(path)),
    }
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

/// Listens for whoever comes from elsewhere. `what` is the flag that says where.
///
/// # Errors
/// `unavailable`, saying what to do.
pub(crate) async fn bind(what: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Problem> {
    let refused = |error: std::io::Error| {
        let problem =
            Problem::new(ErrorCode::Unavailable, format!("{what} cannot listen on {address}: {error}"));
        match error.kind() {
            std::io::ErrorKind::AddrInUse => problem.hint(format!(
                "stop what listens there, or choose another with --{what} ADDR:PORT (:0 for a free port)"
            )),
            std::io::ErrorKind::PermissionDenied => {
                problem.hint(format!("ports below 1024 are for root: choose another with --{what}"))
            }
            _ => problem.hint(format!("choose another with --{what} ADDR:PORT")),
        }
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// Says something on standard output, at once.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever started it may have gone; that is no reason to stop serving.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
