//! What agent and shim tell one another: files in the instance's folder, and lines on its socket.
//!
//! | file | written by | holds |
//! |---|---|---|
//! | `spec.json` | agent, mode 0600 | what to run, its environment included |
//! | `lock` | agent | locked as long as the shim lives, which inherits it |
//! | `state.json` | shim | who runs, written once it does |
//! | `exit.json` | shim, or the agent for a killed shim | how it ended |
//! | `shim.sock` | shim | where it takes orders |
//! | `data/`, `tmp/` | the instance | its own files |

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use tutti_base::{SecretValues, Uptime};
use tutti_isolate::Exit;
use tutti_model::{InstanceId, Millis, Timestamp};

pub(crate) const SPEC: &str = "spec.json";
pub(crate) const LOCK: &str = "lock";
pub(crate) const STATE: &str = "state.json";
pub(crate) const EXIT: &str = "exit.json";
pub(crate) const SOCKET: &str = "shim.sock";
pub(crate) const DATA: &str = "data";
pub(crate) const TMP: &str = "tmp";
/// An empty folder over which the instance's own root is mounted, in its own mount namespace only.
pub(crate) const ROOT: &str = "root";

/// What a shim is to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShimSpec {
    pub(crate) instance: InstanceId,
    /// The unpacked artifact.
    pub(crate) artifact: PathBuf,
    /// The instance's folder.
    pub(crate) folder: PathBuf,
    /// The folder of its log.
    pub(crate) logs: PathBuf,
    /// Program and arguments.
    pub(crate) run: Vec<String>,
    /// Variables beside those that the shim sets by itself.
    pub(crate) env: BTreeMap<String, String>,
    /// Variables that are secrets. They are in no file: the agent says them to the shim once it runs.
    #[serde(skip)]
    pub(crate) secrets: SecretValues,
    /// The port it is to listen on.
    pub(crate) port: u16,
    /// The user and group it is to run as; `None` for the agent's own.
    pub(crate) uid: Option<u32>,
    /// Most memory, in bytes.
    pub(crate) memory: u64,
    /// Its share of cpu, in thousandths of one.
    pub(crate) milli_cpu: u32,
    /// How long it may take to end when the shim itself is asked to by a signal.
    pub(crate) grace: Millis,
    /// When it is to be killed, unless that is moved on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Uptime>,
    /// Only try everything out; run nothing.
    pub(crate) probe: bool,
}

/// Who runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The instance's process.
    pub(crate) process: Process,
    /// Its shim.
    pub(crate) shim: Process,
    /// The machine's start that these ids belong to.
    pub(crate) boot: String,
    pub(crate) port: u16,
    pub(crate) started_at: Timestamp,
    /// The first process of its pid namespace, if it has one.
    pub(crate) init: Option<Process>,
    pub(crate) groups: Vec<crate::cgroup::Group>,
    /// What the host could not enforce, one sentence each.
    pub(crate) weaker: Vec<String>,
}

/// A process that is never mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// When it was started, in the kernel's ticks since the machine's start.
    pub(crate) started: u64,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn of(pid: rustix::process::Pid) -> io::Result<Process> {
        let pid = pid.as_raw_nonzero().get();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Field 22; the second field is a name in parentheses that may hold anything.
        let started = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(19))
            .and_then(|ticks| ticks.parse().ok())
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not readable"))
            })?;
        Ok(Process { pid, started })
    }

    /// Whether it still is this process.
    pub(crate) fn lives(&self) -> bool {
        rustix::process::Pid::from_raw(self.pid)
            .and_then(|pid| Process::of(pid).ok())
            .is_some_and(|now| now.started == self.started)
    }

    /// Kills it, and nobody else who may have got its number meanwhile.
    pub(crate) fn kill(&self) {
        let Some(pid) = rustix::process::Pid::from_raw(self.pid) else { return };
        // The descriptor is taken before the look, so that it cannot come to mean another process after it.
        if let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            && self.lives()
        {
            let _ = rustix::process::pidfd_send_signal(handle, rustix::process::Signal::KILL);
        }
    }
}

/// Names the machine's present start.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) text: String,
    pub(crate) at: Timestamp,
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Exit {
        Exit { code: ended.code, signal: ended.signal, text: ended.text }
    }
}

/// What a shim answers whoever started it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Started {
    /// It runs.
    Running(State),
    /// It does not.
    Failed(Failed),
}

/// Why nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failed {
    /// Whether trying again would not help.
    pub(crate) unrunnable: bool,
    pub(crate) text: String,
}

impl Failed {
    /// The host refused.
    pub(crate) fn host(what: &str, error: impl std::fmt::Display) -> Failed {
        Failed { unrunnable: false, text: format!("{what}: {error}") }
    }
}

/// What is said on the socket, one a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// To the shim: end it, within so many milliseconds.
    Stop(u64),
    /// To the shim: its end is moved on to then.
    Extend(Uptime),
    /// From the shim: it has ended, and nothing of it is left.
    Ended(Ended),
}

/// Writes a file whole or not at all; readable by the owner only.
pub(crate) fn write<T: Serialize>(folder: &Path, name: &str, value: &T) -> io::Result<()> {
    replace(folder, name, value, false)
}

/// The same, and it is on disk when this returns.
pub(crate) fn write_durably<T: Serialize>(folder: &Path, name: &str, value: &T) -> io::Result<()> {
    replace(folder, name, value, true)
}

fn replace<T: Serialize>(folder: &Path, name: &str, value: &T, durably: bool) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let temporary = folder.join(format!(".{name}.new"));
    // An earlier one may be another's to read, or cut short.
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(&bytes)?;
    if durably {
        file.sync_all()?;
    }
    std::fs::rename(&temporary, folder.join(name))?;
    if durably { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Reads what [`write`] wrote; `None` if there is no such file.
pub(crate) fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> io::Result<Option<T>> {
    match std::fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the lock that a living shim holds; `None` if one does.
pub(crate) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder.join(LOCK), flags, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file.into())),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
