//! Starts the instance's process: a pid namespace with an init of its own, a fork, the confinement, the exec.

use crate::{
    cgroup::Group,
    confine::{self, Notes, Own, Places},
    record::{Failed, ShimSpec},
    sys::{self, Disposition, Fork},
};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{DumpableBehavior, Pid, PidfdFlags, Signal},
    thread::{CapabilitySet, UnshareFlags},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Component, Path, PathBuf},
};

/// Where programs are looked for, if the manifest does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A started process.
pub(super) struct Launched {
    pub(super) pid: Pid,
    /// Becomes readable when it ends.
    pub(super) handle: OwnedFd,
    pub(super) init: Option<Init>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) weaker: Vec<String>,
}

/// What the new process says to the shim before it becomes the program. The end of the pipe means that it has.
#[derive(Serialize, Deserialize)]
enum Report {
    Weaker(Vec<String>),
    Failed(Failed),
}

/// Starts the process and waits until it has become the program.
pub(super) fn launch(spec: &ShimSpec, groups: &[Group]) -> Result<Launched, Failed> {
    let host = |what: &'static str| move |error: io::Error| Failed::host(what, error);
    let mut notes = Notes::default();
    let users = spec.uid.is_none() && !may_administer() && own_users(&mut notes)?;
    let init = if notes.unless(sys::unshare(UnshareFlags::NEWPID), "it sees the processes of the host") {
        Some(start_init().map_err(host("starting an init"))?)
    } else {
        None
    };
    let init_pid = init.as_ref().map(|init| init.pid);
    let own = Own { pids: init.is_some(), users };
    let launched = start(spec, groups, own, init, notes);
    hide();
    if launched.is_err()
        && let Some(init) = init_pid
    {
        let _ = rustix::process::kill_process(init, Signal::KILL);
        let _ = rustix::process::waitpid(Some(init), rustix::process::WaitOptions::empty());
    }
    launched
}

fn start(
    spec: &ShimSpec,
    groups: &[Group],
    own: Own,
    init: Option<Init>,
    notes: Notes,
) -> Result<Launched, Failed> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failed::host("making a pipe", error));
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let (report, report_end) = pipe()?;
    let pid = match sys::fork().map_err(|error| Failed::host("forking", error))? {
        Fork::Child => {
            // With the shim's end closed here, a shim that was killed meanwhile shows as a broken pipe, which ends this
            // process too: nobody goes on unseen.
            drop((stdout, stderr, report));
            let mut report = File::from(report_end);
            let failed = become_program(spec, groups, own, stdout_end, stderr_end, &mut report);
            tell(&mut report, &Report::Failed(failed));
            sys::exit_now(127)
        }
        Fork::Parent(pid) => pid,
    };
    drop((stdout_end, stderr_end, report_end));
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|error| Failed::host("watching the process", error))?;
    let mut weaker = notes.0;
    for line in BufReader::new(File::from(report)).lines() {
        let line = line.map_err(|error| Failed::host("hearing from the process", error))?;
        match serde_json::from_str(&line) {
            Ok(Report::Weaker(more)) => weaker.extend(more),
            Ok(Report::Failed(failed)) => {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                return Err(failed);
            }
            Err(error) => return Err(Failed::host("understanding the process", error)),
        }
    }
    Ok(Launched { pid, handle, init, stdout: Some(stdout), stderr: Some(stderr), weaker })
}

fn may_administer() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Moves this process into a user namespace where it may make the others, if it may make that. Its user stays what it is.
fn own_users(notes: &mut Notes) -> Result<bool, Failed> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if !notes.unless(sys::unshare(UnshareFlags::NEWUSER), "no namespaces of its own: this user may make none")
    {
        return Ok(false);
    }
    let map = || -> io::Result<()> {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
    };
    map().map(|()| true).map_err(|error| Failed::host("mapping the user into its own namespace", error))
}

/// Keeps others of the same user out of this process, its memory, and by `/proc` its view of the files.
fn hide() {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The first process of the pid namespace. When it is killed, the kernel kills all others.
pub(super) struct Init {
    pub(super) pid: Pid,
    /// Closed with the shim, however it ends, and then the init ends too.
    _lifeline: OwnedFd,
}

/// Starts the init. It does nothing: orphans are reaped by the kernel, since it ignores their ends.
fn start_init() -> io::Result<Init> {
    let (end, lifeline) = pipe_with(PipeFlags::CLOEXEC)?;
    match sys::fork()? {
        Fork::Parent(pid) => Ok(Init { pid, _lifeline: lifeline }),
        Fork::Child => {
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            let _ = sys::on_signal(libc::SIGCHLD, Disposition::Ignore);
            let _ = rustix::thread::set_name(c"tutti-init");
            hide();
            // The pipes and the lock of the shim are not its business; its standard input is the lifeline.
            let _ = sys::replace_standard_streams([end.as_fd(); 3]);
            let _ = sys::close_from(3);
            // Nothing is ever written, so this returns when the shim is gone, even if that was before the first line.
            while io::stdin().read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
            sys::exit_now(0)
        }
    }
}

/// In the new process: confines it and becomes the program. Returns only if it cannot.
fn become_program(
    spec: &ShimSpec,
    groups: &[Group],
    own: Own,
    stdout: OwnedFd,
    stderr: OwnedFd,
    report: &mut File,
) -> Failed {
    let mut notes = Notes::default();
    let confined = confine::confine(spec, groups, own, &mut notes);
    tell(report, &Report::Weaker(notes.0));
    let places = match confined {
        Ok(places) => places,
        Err(failed) => return failed,
    };
    if spec.probe {
        sys::exit_now(0);
    }
    let environment = environment(spec, &places);
    let program = match find(spec, &places, environment.get("PATH").map_or(PATH, String::as_str)) {
        Ok(program) => program,
        Err(failed) => return failed,
    };
    match exec(spec, &program, &environment, &places, [stdout.as_fd(), stderr.as_fd()]) {
        Ok(error) => not_run(&program, &error),
        Err(error) => Failed::host(&format!("running {}", program.display()), error),
    }
}

/// Becomes the program; gives the reason if the kernel does not let it.
fn exec(
    spec: &ShimSpec,
    program: &Path,
    environment: &BTreeMap<String, String>,
    places: &Places,
    [stdout, stderr]: [BorrowedFd<'_>; 2],
) -> io::Result<io::Error> {
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::from);
    let variables: io::Result<Vec<CString>> =
        environment.iter().map(|(name, value)| text(format!("{name}={value}").into_bytes())).collect();
    let arguments: io::Result<Vec<CString>> =
        spec.run.iter().map(|word| text(word.clone().into_bytes())).collect();
    let name = text(program.as_os_str().as_encoded_bytes().to_vec())?;
    std::env::set_current_dir(&places.app)?;
    let null = File::open("/dev/null")?;
    sys::replace_standard_streams([null.as_fd(), stdout, stderr])?;
    sys::close_on_exec_from(3)?;
    if spec.until.is_some() {
        // It may not outlive the shim by a moment, which alone ends it when its lease has run out. Set last, since a change
        // of user takes it back.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    Ok(sys::exec(&name, &arguments?, &variables?))
}

fn tell(report: &mut File, message: &Report) {
    if let Ok(mut line) = serde_json::to_vec(message) {
        line.push(b'\n');
        let _ = report.write_all(&line);
    }
}

fn environment(spec: &ShimSpec, places: &Places) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("HOME".to_owned(), places.data.display().to_string()),
        ("TMPDIR".to_owned(), places.tmp.display().to_string()),
    ]);
    environment.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    environment.extend(spec.secrets.reveal().map(|(name, value)| (name.to_owned(), value.to_owned())));
    environment.insert("PORT".to_owned(), spec.port.to_string());
    environment
}

/// The program's file: in the artifact if there is one of this name, else on the path.
fn find(spec: &ShimSpec, places: &Places, path: &str) -> Result<PathBuf, Failed> {
    let unrunnable = |text: String| Failed { unrunnable: true, text };
    let Some(name) = spec.run.first() else { return Err(unrunnable("nothing to run".into())) };
    let plain =
        Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let inside = places.app.join(name);
    if plain && inside.is_file() {
        return match std::fs::metadata(&inside) {
            Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Err(unrunnable(format!(
                "\"{name}\" in the artifact is not executable: make it so before the push, or let \"run\" begin with its interpreter"
            ))),
            _ => Ok(inside),
        };
    }
    if name.contains('/') {
        let there = Path::new(name).is_absolute() && Path::new(name).is_file();
        return if there {
            Ok(name.into())
        } else {
            Err(unrunnable(format!("\"{name}\" is not in the artifact")))
        };
    }
    path.split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|file| {
            std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| {
            unrunnable(format!("\"{name}\" is neither in the artifact nor on the host's path ({path})"))
        })
}

fn not_run(program: &Path, error: &io::Error) -> Failed {
    let name = program.display();
    let text = match error.raw_os_error() {
        Some(libc::ENOENT) => {
            format!("cannot run {name}: the interpreter or loader that it names is not on this host")
        }
        Some(libc::ENOEXEC) => {
            format!("cannot run {name}: it is no program for this machine ({})", std::env::consts::ARCH)
        }
        Some(libc::EACCES) => {
            format!("cannot run {name}: not allowed: it, or the interpreter that it names, is not executable")
        }
        _ => return Failed::host(&format!("running {name}"), error),
    };
    Failed { unrunnable: true, text }
}
