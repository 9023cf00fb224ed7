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
mod ports;
mod register;
mod running;

pub use artifact::MEDIA_TYPE;

use crate::{
    record::{self, Failed, ShimSpec, Started, State},
    shim::now,
};
use async_trait::async_trait;
use ports::{Port, Ports};
use register::{PROBE_USER, Register};
use running::ProcessRunning;
use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
};
use tutti_base::{Clock, Random};
use tutti_isolate::{Artifact, Driver, DriverError, Recovery, Running, StartSpec};
use tutti_model::{InstanceId, node::Fingerprint, version::Isolate};

/// How long a shim may take until its process runs. It needs some ten milliseconds; a host that swaps needs longer.
const STARTED_WITHIN: Duration = Duration::from_secs(20);

/// Longest answer of a shim, in bytes: its sentences about the host are some hundred each.
const ANSWER_BYTES: u64 = 64 * 1024;

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

/// What is ready for a shim to be started.
struct Prepared {
    lock: File,
    port: Port,
    folder: PathBuf,
}

fn host(what: impl Into<String>) -> impl FnOnce(io::Error) -> DriverError {
    let what = what.into();
    move |source| DriverError::Host { what, source }
}

impl From<Failed> for DriverError {
    fn from(failed: Failed) -> Self {
        if failed.unrunnable {
            DriverError::Unrunnable(failed.text)
        } else {
            DriverError::Host { what: "starting the process".into(), source: io::Error::other(failed.text) }
        }
    }
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
        let (register, known) = (self.register.clone(), known.to_vec());
        off_executor(move || {
            let mut swept = Vec::new();
            let mut result = Ok(());
            for entry in register.all().map_err(host("reading the register of instances"))? {
                if known.contains(&entry.instance) {
                    continue;
                }
                match running::clear(&entry.folder).and_then(|()| register.leave(&entry.instance)) {
                    Ok(()) => swept.push(entry.instance),
                    Err(error) => result = Err(host(format!("removing instance {}", entry.instance))(error)),
                }
            }
            result.map(|()| swept)
        })
        .await
    }

    /// Makes the instance's folder and all that its shim needs.
    fn prepare(&self, spec: &StartSpec) -> Result<Prepared, DriverError> {
        let what = |part: &str| host(format!("instance {}: {part}", spec.instance));
        let app = self.unpacked.find(&spec.artifact.digest).ok_or_else(|| {
            DriverError::Unrunnable(format!("artifact {} was not preloaded", spec.artifact.digest.short()))
        })?;
        let run = if spec.manifest.run.is_empty() {
            vec![artifact::only_executable(&app).map_err(DriverError::Unrunnable)?]
        } else {
            spec.manifest.run.clone()
        };
        let port = self.ports.reserve(spec.manifest.port).map_err(match spec.manifest.port {
            Some(port) => what(&format!("port {port}")),
            None => what("a port"),
        })?;
        fs::create_dir_all(&spec.folder).map_err(what("its folder"))?;
        let folder = spec.folder.canonicalize().map_err(what("its folder"))?;
        let Some(lock) = running::wait_gone(&folder).map_err(what("its lock"))? else {
            return Err(what("starting")(io::Error::new(io::ErrorKind::AlreadyExists, "it already runs")));
        };
        fs::create_dir_all(&spec.logs).map_err(what("its log"))?;
        let entry = self.register.enter(&spec.instance, &folder).map_err(what("its user"))?;
        lay_out(&folder, entry.uid).map_err(what("its folder"))?;
        let shim = ShimSpec {
            instance: spec.instance.clone(),
            artifact: app.canonicalize().map_err(what("its artifact"))?,
            folder: folder.clone(),
            logs: spec.logs.canonicalize().map_err(what("its log"))?,
            run,
            env: environment(spec),
            port: port.number(),
            uid: entry.uid,
            memory: spec.manifest.memory.0,
            milli_cpu: spec.manifest.cpu.0,
            grace: spec.manifest.drain,
            probe: false,
        };
        record::write(&folder, record::SPEC, &shim).map_err(what("its spec"))?;
        Ok(Prepared { lock, port, folder })
    }

    /// Starts a shim and hears what became of it.
    async fn launch(&self, folder: &Path, lock: File) -> Result<(Child, State), DriverError> {
        let mut child = Command::new(&self.options.shim)
            .arg0("tutti")
            .args(&self.options.shim_args)
            .arg(folder)
            .env_clear()
            .current_dir("/")
            // A group of its own: what is typed at the agent's terminal is not for it.
            .process_group(0)
            .stdin(Stdio::from(lock))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(host(format!("starting the shim {}", self.options.shim.display())))?;
        let answer = tokio::time::timeout(STARTED_WITHIN, answer(&mut child)).await;
        let (answer, complaint) = match answer {
            Ok(answer) => answer.map_err(host("hearing from the shim"))?,
            Err(_) => {
                let _ = child.kill().await;
                return Err(host("waiting for the shim")(io::ErrorKind::TimedOut.into()));
            }
        };
        match serde_json::from_slice(&answer) {
            Ok(Started::Running(state)) => Ok((child, state)),
            Ok(Started::Failed(failed)) => {
                let _ = child.wait().await;
                Err(failed.into())
            }
            Err(_) => {
                let _ = child.kill().await;
                let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
                Err(host("the shim gave no answer")(io::Error::other(complaint)))
            }
        }
    }

    /// Starts nothing, but goes all the way there.
    async fn probe(&self) -> Result<State, DriverError> {
        let folder = self.options.root.join(format!("probe-{}", self.options.random.uid()));
        let instance = self.options.random.instance_id();
        let result = self.probe_in(&folder, instance).await;
        let _ = off_executor(move || running::clear(&folder).map_err(host("removing a probe"))).await;
        result
    }

    async fn probe_in(&self, folder: &Path, instance: InstanceId) -> Result<State, DriverError> {
        let port = self.ports.reserve(None).map_err(host("a port"))?;
        let made = || {
            fs::create_dir_all(folder)?;
            let folder = folder.canonicalize()?;
            let uid = register::may_give_users().then_some(PROBE_USER);
            lay_out(&folder, uid)?;
            let spec = ShimSpec {
                instance,
                artifact: folder.join(record::DATA),
                logs: folder.join("log"),
                run: Vec::new(),
                env: Default::default(),
                port: port.number(),
                uid,
                memory: 16 << 20,
                milli_cpu: 100,
                grace: tutti_model::Millis(0),
                probe: true,
                folder: folder.clone(),
            };
            record::write(&folder, record::SPEC, &spec)?;
            let lock = record::lock(&folder)?.ok_or_else(|| io::Error::other("a new folder is locked"))?;
            Ok((folder, lock))
        };
        let (folder, lock) = made().map_err(host(format!("making {}", folder.display())))?;
        let (mut child, state) = self.launch(&folder, lock).await?;
        let _ = child.wait().await;
        Ok(state)
    }
}

/// Everything that a shim says: its answer, and what it complains of if it could not even begin.
async fn answer(child: &mut Child) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (mut stdout, mut stderr) = (stdout.take(ANSWER_BYTES), stderr.take(ANSWER_BYTES));
    tokio::try_join!(stdout.read_to_end(&mut answer), stderr.read_to_end(&mut complaint))?;
    Ok((answer, complaint))
}

/// Makes what is in an instance's folder, and removes what an earlier run left there beside its data.
fn lay_out(folder: &Path, uid: Option<u32>) -> io::Result<()> {
    // Others may pass, for hosts where the instance has no root of its own, but not look.
    fs::set_permissions(folder, Permissions::from_mode(0o711))?;
    for name in [record::STATE, record::EXIT, record::SOCKET] {
        record::remove(&folder.join(name))?;
    }
    artifact::remove_tree(&folder.join(record::TMP))?;
    for name in [record::DATA, record::TMP, record::ROOT] {
        fs::create_dir_all(folder.join(name))?;
    }
    for name in [record::DATA, record::TMP] {
        let path = folder.join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        if let Some(uid) = uid {
            chown(&path, Some(uid), Some(uid))?;
        }
    }
    Ok(())
}

/// What the instance learns of itself.
fn environment(spec: &StartSpec) -> std::collections::BTreeMap<String, String> {
    let mut environment = spec.manifest.env.clone();
    environment.insert("TUTTI_INSTANCE".into(), spec.instance.to_string());
    environment.insert("TUTTI_SERVICE".into(), spec.version.service.to_string());
    environment.insert("TUTTI_VERSION".into(), spec.version.version.to_string());
    environment
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
        let (child, state) = self.launch(&prepared.folder, prepared.lock).await?;
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
        let found = off_executor(move || find(&folder).map_err(host(what))).await?;
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
                        let ended = off_executor(move || match running::wait_gone(&folder) {
                            Ok(Some(_lock)) => Ok((running::settle(&folder, &state), state)),
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
            running::clear(&spec.folder)
                .and_then(|()| register.leave(&spec.instance))
                .map_err(host(format!("instance {}: removing it", spec.instance)))
        })
        .await
    }
}

/// What is found in a folder that an earlier agent may have used.
enum Found {
    Nothing,
    Alive(State),
    Ended(Option<State>, record::Ended),
}

/// How long a living shim may take until it has noted who runs; it does so right after the start.
const NOTED_WITHIN: Duration = STARTED_WITHIN;

fn find(folder: &Path) -> io::Result<Found> {
    if !folder.join(record::LOCK).exists() {
        return Ok(Found::Nothing);
    }
    let begun = now();
    loop {
        let alive = record::lock(folder)?.is_none();
        let state: Option<State> = record::read(folder, record::STATE)?;
        match (alive, state) {
            (true, Some(state)) => return Ok(Found::Alive(state)),
            (false, Some(state)) => {
                let ended = running::settle(folder, &state);
                return Ok(Found::Ended(Some(state), ended));
            }
            // Its shim was killed before anything ran, or could run nothing.
            (false, None) => return Ok(Found::Nothing),
            (true, None) if now().since(begun).duration() > NOTED_WITHIN => {
                return Err(io::Error::other("its shim lives but never said who runs"));
            }
            (true, None) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
