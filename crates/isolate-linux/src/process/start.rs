//! Starts a shim: lays out the instance's folder, runs the shim's program, and hears what became of it.

use super::{
    ProcessDriver, artifact, host, left, off_executor,
    ports::Port,
    register::{self, PROBE_USER},
};
use crate::record::{self, Failed, ShimSpec, Started, State};
use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
};
use tutti_base::SecretValues;
use tutti_isolate::{DriverError, StartSpec};
use tutti_model::{InstanceId, Millis};
use zeroize::Zeroizing;

/// How long a shim may take until its process runs. It needs some ten milliseconds; a host that swaps needs longer.
pub(super) const STARTED_WITHIN: Duration = Duration::from_secs(20);

/// Longest answer of a shim, in bytes: its sentences about the host are some hundred each.
const ANSWER_BYTES: u64 = 64 * 1024;

/// Begins the names of folders in which a host is tried out.
const PROBE: &str = "probe-";

/// What is ready for a shim to be started.
pub(super) struct Prepared {
    pub(super) lock: File,
    pub(super) port: Port,
    pub(super) folder: PathBuf,
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

impl ProcessDriver {
    /// Makes the instance's folder and all that its shim needs.
    pub(super) fn prepare(&self, spec: &StartSpec) -> Result<Prepared, DriverError> {
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
        let Some(lock) = left::wait_gone(&folder).map_err(what("its lock"))? else {
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
            secrets: SecretValues::default(),
            port: port.number(),
            uid: entry.uid,
            memory: spec.manifest.memory.0,
            milli_cpu: spec.manifest.cpu.0,
            grace: spec.manifest.drain,
            until: spec.until,
            probe: false,
        };
        record::write(&folder, record::SPEC, &shim).map_err(what("its spec"))?;
        Ok(Prepared { lock, port, folder })
    }

    /// Starts a shim, says the secrets to it, and hears what became of it.
    pub(super) async fn launch(
        &self,
        folder: &Path,
        lock: File,
        secrets: &SecretValues,
    ) -> Result<(Child, State), DriverError> {
        let (own, its) = channel().map_err(host("making a channel to the shim"))?;
        let mut child = Command::new(&self.options.shim)
            .arg0("tutti")
            .args(&self.options.shim_args)
            .arg(folder)
            .env_clear()
            .current_dir("/")
            // A group of its own: what is typed at the agent's terminal is not for it.
            .process_group(0)
            .stdin(Stdio::from(lock))
            .stdout(Stdio::from(its))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(host(format!("starting the shim {}", self.options.shim.display())))?;
        let answer = tokio::time::timeout(STARTED_WITHIN, answer(&mut child, own, secrets)).await;
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
    pub(super) async fn probe(&self) -> Result<State, DriverError> {
        let folder = self.options.root.join(format!("{PROBE}{}", self.options.random.uid()));
        let instance = self.options.random.instance_id();
        let result = self.probe_in(&folder, instance).await;
        let _ = off_executor(move || left::clear(&folder).map_err(host("removing a probe"))).await;
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
                env: BTreeMap::new(),
                secrets: SecretValues::default(),
                port: port.number(),
                uid,
                memory: 16 << 20,
                milli_cpu: 100,
                grace: Millis(0),
                until: None,
                probe: true,
                folder: folder.clone(),
            };
            record::write(&folder, record::SPEC, &spec)?;
            let lock = record::lock(&folder)?.ok_or_else(|| io::Error::other("a new folder is locked"))?;
            Ok((folder, lock))
        };
        let (folder, lock) = made().map_err(host(format!("making {}", folder.display())))?;
        let (mut child, state) = self.launch(&folder, lock, &SecretValues::default()).await?;
        let _ = child.wait().await;
        Ok(state)
    }
}

/// Removes what probes left that were cut short.
pub(super) fn clear_probes(root: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.filter_map(Result::ok) {
        let probe = entry.file_name().to_str().is_some_and(|name| name.starts_with(PROBE));
        // One that is locked is being used right now.
        if probe && record::lock(&entry.path()).is_ok_and(|lock| lock.is_some()) {
            left::clear(&entry.path())?;
        }
    }
    Ok(())
}

/// Both ends of what agent and shim talk over while it starts. It goes both ways, and leaves no file behind.
fn channel() -> io::Result<(UnixStream, OwnedFd)> {
    let (own, its) = std::os::unix::net::UnixStream::pair()?;
    own.set_nonblocking(true)?;
    Ok((UnixStream::from_std(own)?, its.into()))
}

/// Says the secrets, and hears everything that a shim says: its answer, and what it complains of if it could not even
/// begin.
async fn answer(
    child: &mut Child,
    own: UnixStream,
    secrets: &SecretValues,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (hears, mut says) = own.into_split();
    let (mut hears, mut stderr) = (hears.take(ANSWER_BYTES), stderr.take(ANSWER_BYTES));
    let values = Zeroizing::new(serde_json::to_vec(secrets)?);
    let say = async {
        // A shim that ended before it listened says why by its answer or complaint.
        let _ = says.write_all(&values).await;
        let _ = says.shutdown().await;
        Ok(())
    };
    tokio::try_join!(say, hears.read_to_end(&mut answer), stderr.read_to_end(&mut complaint))?;
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
fn environment(spec: &StartSpec) -> BTreeMap<String, String> {
    let mut environment = spec.manifest.env.clone();
    environment.insert("TUTTI_INSTANCE".into(), spec.instance.to_string());
    environment.insert("TUTTI_SERVICE".into(), spec.version.service.to_string());
    environment.insert("TUTTI_VERSION".into(), spec.version.version.to_string());
    environment
}
