//! `tutti supervise`: keeps the units of a host running where systemd is not the first process. It starts what ends again
//! after a pause, starts anew what has changed when it is told to look (SIGHUP), and ends everything in order (SIGTERM).
//!
//! Which units there are is [`super::order`]'s to say.

use super::{init::LIST, order::Unit};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tutti_base::{Backoff, Random};
use tutti_model::{Millis, Problem};

/// Its lock, with its process's number.
const LOCK: &str = "/run/tutti-supervise.lock";
/// Where what the units write goes.
const LOGS: &str = "/var/log/tutti";
/// A log longer than this is put aside, and the one before that removed.
const LOG_BYTES: u64 = 10 * 1024 * 1024;
/// How often logs are looked at.
const LOOK_AT_LOGS: Duration = Duration::from_secs(60);
/// The first pause before a unit that has ended is started again, and the longest.
const PAUSES: (Millis, Millis) = (Millis::seconds(1), Millis::seconds(30));
/// How long a unit may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Where a unit's log is.
pub(crate) fn log(unit: &str) -> PathBuf {
    Path::new(LOGS).join(format!("{unit}.log"))
}

/// The supervisor that runs on this host.
pub(crate) fn running() -> Option<rustix::process::Pid> {
    let mut lock = fs::File::open(LOCK).ok()?;
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut pid = String::new();
    lock.read_to_string(&mut pid).ok()?;
    rustix::process::Pid::from_raw(pid.trim().parse().ok()?)
}

/// A unit as it was started: what would start it anew if it were another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Started {
    unit: Unit,
    environment: String,
    /// Of the other files that it reads.
    reads: Vec<String>,
    program: (u64, i64),
}

impl Started {
    fn now(unit: Unit) -> Started {
        let text = |path: &String| fs::read_to_string(path).unwrap_or_default();
        let environment = text(&unit.environment);
        let reads = unit.reads.iter().map(text).collect();
        // One that is looked up is the system's, and stays as it was started.
        let program =
            fs::metadata(&unit.program).map(|found| (found.ino(), found.mtime())).unwrap_or_default();
        Started { unit, environment, reads, program }
    }
}

/// Runs until it is told to end.
///
/// # Errors
/// `conflict` if another runs here, and what it cannot read.
pub(crate) async fn run() -> Result<(), Problem> {
    let _lock = take()?;
    fs::create_dir_all(LOGS).map_err(|error| Problem::unavailable(format!("{LOGS}: {error}")))?;
    let heard = |kind| signal(kind).map_err(|error| Problem::internal(format!("signals: {error}")));
    let (mut look, mut term) = (heard(SignalKind::hangup())?, heard(SignalKind::terminate())?);
    let mut interrupt = heard(SignalKind::interrupt())?;
    let mut kept: BTreeMap<String, (Started, CancellationToken)> = BTreeMap::new();
    let mut all = JoinSet::new();
    let mut logs = tokio::time::interval(LOOK_AT_LOGS);
    follow(&mut kept, &mut all).await;
    loop {
        tokio::select! {
            _ = look.recv() => follow(&mut kept, &mut all).await,
            _ = logs.tick() => put_aside(kept.keys()),
            // What has been told to end is let go.
            Some(_) = all.join_next(), if !all.is_empty() => {}
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    for (_, stop) in kept.values() {
        stop.cancel();
    }
    while all.join_next().await.is_some() {}
    Ok(())
}

fn take() -> Result<fs::File, Problem> {
    let failed = |error: std::io::Error| Problem::unavailable(format!("{LOCK}: {error}"));
    let mut lock =
        fs::File::options().read(true).write(true).create(true).truncate(false).open(LOCK).map_err(failed)?;
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(Problem::conflict("a supervisor runs on this host already")
            .hint("to have it look at its units again: kill -HUP its process"));
    }
    let noted =
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
    noted.map_err(failed)?;
    Ok(lock)
}

/// Starts what is new or another than it was, and ends what is no longer wanted.
async fn follow(kept: &mut BTreeMap<String, (Started, CancellationToken)>, all: &mut JoinSet<()>) {
    let units: Vec<Unit> = match fs::read(LIST).map(|text| serde_json::from_slice(&text)) {
        Ok(Ok(units)) => units,
        Ok(Err(error)) => return tracing::error!(%error, "{LIST} cannot be read; everything stays as it is"),
        Err(error) => return tracing::error!(%error, "{LIST} cannot be read; everything stays as it is"),
    };
    let wanted: BTreeMap<String, Started> =
        units.into_iter().map(|unit| (unit.name.clone(), Started::now(unit))).collect();
    kept.retain(|name, (started, stop)| {
        let stays = wanted.get(name) == Some(started);
        if !stays {
            stop.cancel();
        }
        stays
    });
    for (name, started) in wanted {
        kept.entry(name).or_insert_with(|| {
            let stop = CancellationToken::new();
            all.spawn(keep(started.clone(), stop.clone()));
            (started, stop)
        });
    }
}

/// Keeps one unit running.
async fn keep(started: Started, stop: CancellationToken) {
    let name = &started.unit.name;
    let mut pauses = Backoff::new(PAUSES.0, PAUSES.1, Random::from_os());
    loop {
        let began = tokio::time::Instant::now();
        match start(&started) {
            Err(error) => tracing::error!(unit = %name, %error, "does not start"),
            Ok(mut child) => {
                tracing::info!(unit = %name, pid = child.id(), "started");
                tokio::select! {
                    status = child.wait() => tracing::warn!(unit = %name, ?status, "ended"),
                    () = stop.cancelled() => return end(name, child).await,
                }
            }
        }
        if began.elapsed() > PAUSES.1.duration() {
            pauses.succeed();
        }
        tokio::select! {
            () = tokio::time::sleep(pauses.fail().duration()) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn start(started: &Started) -> std::io::Result<tokio::process::Child> {
    let log = fs::File::options().create(true).append(true).open(log(&started.unit.name))?;
    let variables = started.environment.lines().filter_map(|line| line.split_once('='));
    // Should the supervisor be killed, its units end in order, for the next one to start them.
    Command::new("setpriv")
        .args(["--pdeathsig", "TERM", &started.unit.program])
        .args(&started.unit.arguments)
        .env_clear()
        .env("PATH", super::PATH)
        .envs(variables)
        .current_dir("/")
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

async fn end(name: &str, mut child: tokio::process::Child) {
    if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(ENDS_WITHIN, child.wait()).await.is_err() {
        tracing::warn!(unit = %name, "did not end in time and is killed");
        let _ = child.kill().await;
    }
}

/// Bounds the logs. Who writes them appends, so that an emptied one begins anew.
fn put_aside<'a>(units: impl Iterator<Item = &'a String>) {
    for path in units.map(|unit| log(unit)) {
        if fs::metadata(&path).is_ok_and(|found| found.len() > LOG_BYTES) {
            let aside = path.with_extension("log.1");
            let done =
                fs::copy(&path, aside).and_then(|_| fs::File::options().write(true).open(&path)?.set_len(0));
            if let Err(error) = done {
                tracing::warn!(%error, log = %path.display(), "cannot be put aside");
            }
        }
    }
}
