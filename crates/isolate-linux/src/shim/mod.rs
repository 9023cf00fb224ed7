//! The shim: the parent of one instance's process. Small, single-threaded and without a runtime, since there are as many
//! as there are instances, and none may fail.
//!
//! It is started by the agent in its own process group, with the instance's lock as its standard input and as its
//! standard output a socket, over which it is told the secrets of the instance and answers. [`launch`] starts the process, [`supervise`] stays with it until it ends.

mod launch;
mod output;
mod supervise;

use crate::{
    cgroup::{self, Limits},
    record::{self, Failed, Process, ShimSpec, Started, State},
    sys::{self, Disposition},
};
use output::Outputs;
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};
use tutti_base::{SecretValues, Uptime};
use tutti_model::{Timestamp, limits};
use zeroize::Zeroizing;

/// Most bytes of secrets that are heard. Each byte of a value takes at most six as JSON.
const SECRETS_BYTES: u64 = (limits::SECRETS_PER_VERSION * (6 * limits::SECRET_VALUE_BYTES + 4096)) as u64;

/// Runs the shim of the instance whose folder is the one argument. To be called first thing in `main`, before there are
/// threads or open files.
pub fn entry(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let [folder] = args.as_slice() else {
        let _ = writeln!(io::stderr(), "usage: tutti shim FOLDER (started by the agent, not by hand)");
        return ExitCode::from(2);
    };
    match run(Path::new(folder)) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "tutti shim {}: {error}", Path::new(folder).display());
            ExitCode::FAILURE
        }
    }
}

/// The time of day.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn run(folder: &Path) -> io::Result<ExitCode> {
    sys::close_from(3)?;
    // Held, and never looked at: it is locked as long as this process lives.
    let _lock = io::stdin().as_fd().try_clone_to_owned()?;
    let mut answer = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    sys::replace_standard_streams([null.as_fd(); 3])?;
    drop(null);

    let started = secrets(&answer).and_then(|secrets| start(folder, secrets));
    let message = match &started {
        Ok(running) => Started::Running(running.state.clone()),
        Err(failed) => Started::Failed(failed.clone()),
    };
    // An agent that is gone meanwhile reads it from the file.
    let _ = answer.write_all(&serde_json::to_vec(&message)?);
    drop(answer);
    match started {
        Ok(running) => running.supervise().map(|()| ExitCode::SUCCESS),
        Err(_) => Ok(ExitCode::FAILURE),
    }
}

/// Everything that supervision needs.
struct Running {
    spec: ShimSpec,
    folder: PathBuf,
    state: State,
    launched: launch::Launched,
    listener: UnixListener,
    outputs: Outputs,
    signals: std::os::fd::OwnedFd,
}

/// What the agent says before anything else: the secrets of the instance, until it closes its side.
fn secrets(said: &File) -> Result<SecretValues, Failed> {
    let mut values = Zeroizing::new(Vec::new());
    said.take(SECRETS_BYTES)
        .read_to_end(&mut values)
        .map_err(|error| Failed::host("hearing the secrets", error))?;
    // What is wrong with them is not said: it could be a part of one.
    let unreadable = |_| Failed::host("hearing the secrets", io::Error::from(io::ErrorKind::InvalidData));
    serde_json::from_slice(&values).map_err(unreadable)
}

fn start(folder: &Path, secrets: SecretValues) -> Result<Running, Failed> {
    let host = |what: &'static str| move |error: io::Error| Failed::host(what, error);
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGPIPE] {
        sys::on_signal(signal, Disposition::Ignore).map_err(host("ignoring signals"))?;
    }
    let signals = sys::signal_fd(libc::SIGTERM).map_err(host("watching signals"))?;
    // Orphans of the instance become this process's children, and so are found when it ends.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| Failed::host("adopting orphans", error))?;
    // From here on names are relative: the path of a socket may be at most 107 bytes long.
    std::env::set_current_dir(folder).map_err(host("entering the instance's folder"))?;
    let here = PathBuf::from(".");
    let mut spec: ShimSpec = record::read(&here, record::SPEC)
        .and_then(|spec| spec.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(host("reading spec.json"))?;
    spec.secrets = secrets;
    record::remove(Path::new(record::SOCKET)).map_err(host("removing an old socket"))?;
    let listener = UnixListener::bind(record::SOCKET).map_err(host("making its socket"))?;
    listener.set_nonblocking(true).map_err(host("making its socket"))?;
    let outputs = Outputs::open(&spec).map_err(host("opening the log"))?;

    let limits = Limits { memory: spec.memory, milli_cpu: spec.milli_cpu };
    if spec.until.is_some_and(|until| Uptime::now() >= until) {
        return Err(host("starting")(io::Error::other("its lease ran out before it was started")));
    }
    let (groups, weaker) = cgroup::create(spec.instance.as_str(), limits);
    let launched = launch::launch(&spec, &groups);
    let state = launched.and_then(|launched| {
        let state = describe(&spec, &launched, groups.clone(), weaker).map_err(host("noting who runs"))?;
        record::write(&here, record::STATE, &state).map_err(host("writing state.json"))?;
        Ok((launched, state))
    });
    match state {
        Ok((launched, state)) => {
            // The program has them; the shim needs them no longer.
            spec.secrets = SecretValues::default();
            Ok(Running { spec, folder: here, state, launched, listener, outputs, signals })
        }
        Err(failed) => {
            let _ = cgroup::end(&groups);
            let _ = record::remove(Path::new(record::SOCKET));
            Err(failed)
        }
    }
}

fn describe(
    spec: &ShimSpec,
    launched: &launch::Launched,
    groups: Vec<cgroup::Group>,
    mut weaker: Vec<String>,
) -> io::Result<State> {
    weaker.extend(launched.weaker.iter().cloned());
    Ok(State {
        process: Process::of(launched.pid)?,
        shim: Process::of(rustix::process::getpid())?,
        boot: record::boot_id()?,
        port: spec.port,
        started_at: now(),
        init: launched.init.as_ref().and_then(|init| Process::of(init.pid).ok()),
        groups,
        weaker,
    })
}
