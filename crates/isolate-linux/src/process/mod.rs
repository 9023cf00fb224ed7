//! The driver of isolate `process`: the agent's side.
//!
//! Folders below the driver's root:
//!
//! ```text
//! artifacts/HEX/      an unpacked program archive, read-only, named by the artifact's digest
//! instances/ID.json   which instances there are, with their users
//! ```
//!
//! An instance's own folder is where [`StartSpec`] says; see `record` for what is in it. The log is not removed with the
//! instance: how long it is kept is the agent's business.

mod artifact;
mod left;
mod ports;
mod register;
mod running;
mod start;

pub use artifact::MEDIA_TYPE;

use async_trait::async_trait;
use left::Found;
use ports::Ports;
use register::Register;
use running::ProcessRunning;
use std::{io, path::PathBuf, sync::Arc};
use tutti_base::{Clock, Random};
use tutti_isolate::{Artifact, Driver, DriverError, Recovery, Running, StartSpec};
use tutti_model::{InstanceId, node::Fingerprint, version::Isolate};

/// What the driver needs.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// Where it keeps what it must know of artifacts and instances.
    pub root: PathBuf,
    /// The program that is a shim when run with `shim_args` and a folder: our own binary, `/proc/self/exe`.
    pub shim: PathBuf,
    /// Its first arguments: `["shim"]`.
    pub shim_args: Vec<String>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for names and ports.
    pub random: Random,
}

impl ProcessOptions {
    /// The running program as its own shim, called as `PROGRAM shim FOLDER`.
    #[must_use]
    pub fn own(root: PathBuf, clock: Arc<dyn Clock>, random: Random) -> Self {
        ProcessOptions { root, shim: "/proc/self/exe".into(), shim_args: vec!["shim".into()], clock, random }
    }
}

/// Runs programs as processes under a shim.
#[derive(Debug, Clone)]
pub struct ProcessDriver {
    options: ProcessOptions,
    unpacked: artifact::Unpacked,
    register: Register,
    ports: Ports,
}

fn host(what: impl Into<String>) -> impl FnOnce(io::Error) -> DriverError {
    let what = what.into();
    move |source| DriverError::Host { what, source }
}

async fn off_executor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(host("working off the executor")(io::Error::other(error))),
    }
}

impl ProcessDriver {
    /// A driver over what an earlier one left below the same root.
    #[must_use]
    pub fn new(options: ProcessOptions) -> Self {
        ProcessDriver {
            unpacked: artifact::Unpacked::new(&options.root, options.random.clone()),
            register: Register::new(&options.root, register::may_give_users()),
            ports: Ports::new(options.random.clone()),
            options,
        }
    }

    /// Ends and removes every instance that this driver had started and that is not `known` any more: those whose end
    /// an agent did not live to see. Gives their ids.
    ///
    /// # Errors
    /// What the host refused; the others are ended nevertheless.
    pub async fn sweep(&self, known: &[InstanceId]) -> Result<Vec<InstanceId>, DriverError> {
        let (register, root, known) = (self.register.clone(), self.options.root.clone(), known.to_vec());
        off_executor(move || {
            let mut swept = Vec::new();
            let mut result = start::clear_probes(&root).map_err(host("removing old probes"));
            for entry in register.all().map_err(host("reading the register of instances"))? {
                if known.contains(&entry.instance) {
                    continue;
                }
                match left::clear(&entry.folder).and_then(|()| register.leave(&entry.instance)) {
                    Ok(()) => swept.push(entry.instance),
                    Err(error) => result = Err(host(format!("removing instance {}", entry.instance))(error)),
                }
            }
            result.map(|()| swept)
        })
        .await
    }
}

#[async_trait]
impl Driver for ProcessDriver {
    fn isolate(&self) -> Isolate {
        Isolate::Process
    }

    async fn fingerprint(&self) -> Fingerprint {
        match self.probe().await {
            Ok(state) => Fingerprint { isolate: Isolate::Process, usable: true, notes: state.weaker },
            Err(error) => {
                Fingerprint { isolate: Isolate::Process, usable: false, notes: vec![error.chain()] }
            }
        }
    }

    async fn preload(&self, artifact: &Artifact) -> Result<(), DriverError> {
        let (unpacked, artifact) = (self.unpacked.clone(), artifact.clone());
        off_executor(move || unpacked.unpack(&artifact)).await
    }

    async fn start(&self, spec: &StartSpec) -> Result<Arc<dyn Running>, DriverError> {
        let (driver, copy) = (self.clone(), spec.clone());
        let prepared = off_executor(move || driver.prepare(&copy)).await?;
        let (child, state) = self.launch(&prepared.folder, prepared.lock, &spec.secrets).await?;
        let attached =
            ProcessRunning::attach(&prepared.folder, state, Some(child), Some(prepared.port)).await;
        attached.map(running::shared).map_err(host(format!("instance {}: reaching its shim", spec.instance)))
    }

    fn recovery(&self) -> Recovery {
        Recovery::Undisturbed
    }

    async fn recover(&self, spec: &StartSpec) -> Result<Option<Arc<dyn Running>>, DriverError> {
        let folder = spec.folder.clone();
        let what = format!("instance {}: taking it up again", spec.instance);
        let found = off_executor(move || left::find(&folder).map_err(host(what))).await?;
        match found {
            Found::Nothing => Ok(None),
            Found::Ended(state, ended) => {
                Ok(Some(running::shared(ProcessRunning::ended(&spec.folder, state, ended))))
            }
            Found::Alive(state) => {
                let port = self.ports.claim(state.port);
                match ProcessRunning::attach(&spec.folder, state.clone(), None, port).await {
                    Ok(running) => Ok(Some(running::shared(running))),
                    // It ended between the look and now.
                    Err(_) => {
                        let folder = spec.folder.clone();
                        let what = format!("instance {}: reaching its shim", spec.instance);
                        let ended = off_executor(move || match left::wait_gone(&folder) {
                            Ok(Some(_lock)) => Ok((left::settle(&folder, &state), state)),
                            Ok(None) => Err(host(what)(io::Error::other("it lives and does not answer"))),
                            Err(error) => Err(host(what)(error)),
                        });
                        let (ended, state) = ended.await?;
                        Ok(Some(running::shared(ProcessRunning::ended(&spec.folder, Some(state), ended))))
                    }
                }
            }
        }
    }

    async fn remove(&self, spec: &StartSpec) -> Result<(), DriverError> {
        let (register, spec) = (self.register.clone(), spec.clone());
        off_executor(move || {
            left::clear(&spec.folder)
                .and_then(|()| register.leave(&spec.instance))
                .map_err(host(format!("instance {}: removing it", spec.instance)))
        })
        .await
    }
}
