//! A running instance as the agent holds it: a connection to its shim.

use super::{
    left::{settle, wait_gone},
    ports::Port,
};
use crate::{
    cgroup,
    record::{self, Ended, Message, State},
    shim::now,
};
use async_trait::async_trait;
use rustix::fs::{Mode, OFlags};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::Child,
    sync::{Mutex, watch},
    task::JoinHandle,
};
use tutti_base::Uptime;
use tutti_isolate::{Exit, Running, Target, Usage};
use tutti_model::Millis;

/// What a shim may take beyond the grace to kill what is left, empty the pipes and note the end: its own bounds are 5 s
/// for control groups and 1 s for output. After that it is taken for dead.
const BEYOND_GRACE: Duration = Duration::from_secs(10);

/// Longest message of a shim, in bytes.
const MESSAGE_BYTES: u64 = 4096;

/// A running instance.
#[derive(Debug)]
pub(super) struct ProcessRunning {
    folder: PathBuf,
    state: Option<State>,
    exit: watch::Receiver<Option<Exit>>,
    orders: Mutex<Option<OwnedWriteHalf>>,
    watching: Option<JoinHandle<()>>,
}

impl Drop for ProcessRunning {
    /// The instance goes on; only this handle's task ends.
    fn drop(&mut self) {
        if let Some(watching) = &self.watching {
            watching.abort();
        }
    }
}

impl ProcessRunning {
    /// Connects to a living shim.
    pub(super) async fn attach(
        folder: &Path,
        state: State,
        child: Option<Child>,
        port: Option<Port>,
    ) -> io::Result<Self> {
        let (read, write) = connect(folder).await?.into_split();
        let (sender, exit) = watch::channel(None);
        let watched = Watched { folder: folder.to_owned(), state: state.clone(), port };
        let watching = tokio::spawn(watched.watch(read, child, sender));
        let orders = Mutex::new(Some(write));
        Ok(ProcessRunning {
            folder: folder.to_owned(),
            state: Some(state),
            exit,
            orders,
            watching: Some(watching),
        })
    }

    /// An instance that has ended.
    pub(super) fn ended(folder: &Path, state: Option<State>, ended: Ended) -> Self {
        let (_, exit) = watch::channel(Some(ended.into()));
        ProcessRunning { folder: folder.to_owned(), state, exit, orders: Mutex::new(None), watching: None }
    }

    async fn order(&self, message: &Message) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut orders = self.orders.lock().await;
        let stream = orders.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        stream.write_all(&line).await
    }

    async fn force(&self) -> Exit {
        let (folder, state) = (self.folder.clone(), self.state.clone());
        let settled = tokio::task::spawn_blocking(move || match state {
            Some(state) => {
                state.shim.kill();
                settle(&folder, &state)
            }
            None => lost("nothing is known of it"),
        });
        settled.await.unwrap_or_else(|error| lost(&error.to_string())).into()
    }
}

#[async_trait]
impl Running for ProcessRunning {
    fn target(&self) -> Target {
        let port = self.state.as_ref().map_or(0, |state| state.port);
        Target::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    async fn stop(&self, grace: Millis) -> Exit {
        let mut exit = self.exit.clone();
        if let Some(exit) = exit.borrow().clone() {
            return exit;
        }
        // If it cannot be told, its end is near, or it hangs: either shows below.
        let _ = self.order(&Message::Stop(grace.0)).await;
        let most = grace.duration().saturating_add(BEYOND_GRACE);
        let ended = match tokio::time::timeout(most, exit.wait_for(Option::is_some)).await {
            Ok(Ok(exit)) => exit.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        match ended {
            Some(exit) => exit,
            None => self.force().await,
        }
    }

    async fn extend(&self, until: Uptime) {
        // If it cannot be told, it ends when it was to, and that is told as its exit.
        let _ = self.order(&Message::Extend(until)).await;
    }

    async fn usage(&self) -> Usage {
        let Some(state) = self.state.as_ref().filter(|_| self.exit.borrow().is_none()) else {
            return Usage::default();
        };
        let process = process_usage(state.process.pid);
        Usage {
            memory: cgroup::memory(&state.groups).unwrap_or(process.memory),
            cpu_micros: cgroup::cpu_micros(&state.groups).unwrap_or(process.cpu_micros),
        }
    }

    fn weaker(&self) -> Vec<String> {
        self.state.as_ref().map(|state| state.weaker.clone()).unwrap_or_default()
    }
}

/// What the process alone uses, without those it started, for hosts without control groups.
fn process_usage(pid: i32) -> Usage {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let pages: u64 =
        read("statm").split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let stat = read("stat");
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    // Fields 14 and 15, in ticks of a hundredth of a second on every Linux of today.
    let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    Usage { memory: pages.saturating_mul(page), cpu_micros: ticks.saturating_mul(10_000) }
}

/// Connects to the socket in `folder`, however long its path is.
async fn connect(folder: &Path) -> io::Result<UnixStream> {
    // A socket's address holds 107 bytes, so it is named through a descriptor of its folder.
    let handle = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), record::SOCKET)).await
}

/// What is watched until it ends.
struct Watched {
    folder: PathBuf,
    state: State,
    /// Given back at the end.
    port: Option<Port>,
}

impl Watched {
    async fn watch(self, mut read: OwnedReadHalf, child: Option<Child>, exit: watch::Sender<Option<Exit>>) {
        let ended = loop {
            if let Some(ended) = heard(&mut read).await {
                break ended;
            }
            // The connection ended without a word: the shim was killed, or it turned us away and lives.
            let (folder, state) = (self.folder.clone(), self.state.clone());
            let settled = tokio::task::spawn_blocking(move || {
                match wait_gone(&folder) {
                    Ok(None) => Ok(None),
                    Ok(Some(_lock)) => Ok(Some(settle(&folder, &state))),
                    // The folder was removed, and its shim ended for that.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        Ok(Some(settle(&folder, &state)))
                    }
                    Err(error) => Err(error),
                }
            });
            match settled.await {
                Ok(Ok(Some(ended))) => break ended,
                Ok(Ok(None)) => match connect(&self.folder).await {
                    Ok(stream) => read = stream.into_split().0,
                    Err(error) => break lost(&error.to_string()),
                },
                Ok(Err(error)) => break lost(&error.to_string()),
                Err(error) => break lost(&error.to_string()),
            }
        };
        drop(self.port);
        exit.send_replace(Some(ended.into()));
        if let Some(mut child) = child {
            let _ = child.wait().await;
        }
    }
}

/// The shim's last word; `None` if it ended without.
async fn heard(read: &mut OwnedReadHalf) -> Option<Ended> {
    let mut line = String::new();
    BufReader::new(read.take(MESSAGE_BYTES)).read_line(&mut line).await.ok()?;
    match serde_json::from_str(&line).ok()? {
        Message::Ended(ended) => Some(ended),
        Message::Stop(_) | Message::Extend(_) => None,
    }
}

fn lost(why: &str) -> Ended {
    Ended { code: None, signal: None, text: format!("ended, it is not known how: {why}"), at: now() }
}

/// As the contract gives it.
pub(super) fn shared(running: ProcessRunning) -> Arc<dyn Running> {
    Arc::new(running)
}
