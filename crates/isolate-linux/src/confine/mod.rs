//! What a new process does to itself, between fork and exec, so that the program it becomes can do little harm.
//!
//! Each step that the host refuses becomes a sentence in [`Notes`], and the process goes on without it: the operator
//! sees what is weaker. Only what would leave the program wrong rather than weaker is an error. The order matters:
//! mounts need privileges, Landlock forbids mounts, the user is changed after both, and seccomp comes last because it
//! forbids what the others did.

pub(crate) mod landlock;
pub(crate) mod root;
pub(crate) mod seccomp;

use crate::{
    cgroup::{self, Group},
    record::{DATA, Failed, ShimSpec, TMP},
    sys::{self, Disposition},
};
use rustix::{
    fs::Mode,
    process::{Resource, Rlimit, Signal},
    thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid, UnshareFlags},
};
use std::{io, os::unix::fs::MetadataExt as _, path::PathBuf};

/// Most files an instance may have open: eight for each request at a high concurrency of a thousand, well below the
/// 20,000 that some hosts allow to all together.
const OPEN_FILES: u64 = 8192;

/// What the host refused, one sentence each.
#[derive(Debug, Default)]
pub(crate) struct Notes(pub(crate) Vec<String>);

impl Notes {
    /// Keeps the sentence and the reason if a step failed; says whether it succeeded.
    pub(crate) fn unless<T>(&mut self, result: io::Result<T>, weaker: &str) -> bool {
        match result {
            Ok(_) => true,
            Err(error) => {
                self.0.push(format!("{weaker}: {error}"));
                false
            }
        }
    }
}

/// Where the process finds its things once it is confined.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The artifact, read-only; the working directory.
    pub(crate) app: PathBuf,
    /// Its own folder, `HOME`.
    pub(crate) data: PathBuf,
    /// `TMPDIR`.
    pub(crate) tmp: PathBuf,
    /// Whether it has a root of its own.
    pub(crate) own_root: bool,
}

/// Which namespaces the calling process is alone in already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own {
    /// That of process ids.
    pub(crate) pids: bool,
    /// That of users, where the kernel counts its processes apart from all others of its user.
    pub(crate) users: bool,
}

/// Locks the calling process in.
pub(crate) fn confine(
    spec: &ShimSpec,
    groups: &[Group],
    own: Own,
    notes: &mut Notes,
) -> Result<Places, Failed> {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGPIPE, libc::SIGTERM] {
        sys::on_signal(signal, Disposition::Default)
            .map_err(|error| Failed::host("resetting signals", error))?;
    }
    sys::unblock_signals().map_err(|error| Failed::host("resetting signals", error))?;
    // Whatever the agent's is: its files are its own, which their folder's mode sees to.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::setsid().map_err(|error| Failed::host("starting a session", error))?;
    cgroup::enter(groups).map_err(|error| Failed::host("control groups", error))?;
    let places = separate(spec, own.pids, notes)?;
    let uid = spec.uid.filter(|_| places.own_root || may_pass(&places, notes));
    limit(uid.is_some() || own.users, notes);

    rustix::thread::set_no_new_privs(true)
        .map_err(|error| Failed::host("giving up new privileges", error))?;
    landlock::restrict(&places, spec.port, notes);
    drop_privileges(uid, notes)?;
    // After the change of user, which would clear it: nobody outlives its shim unseen.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failed::host("tying the process to its shim", error))?;
    seccomp::apply(notes);
    Ok(places)
}

fn limit(counted_apart: bool, notes: &mut Notes) {
    let to = |resource, most: u64| {
        let hard = rustix::process::getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })
            .map_err(io::Error::from)
    };
    notes.unless(to(Resource::Core, 0), "it may leave core dumps");
    notes.unless(to(Resource::Nofile, OPEN_FILES), "its open files are not limited");
    if counted_apart {
        // The kernel counts by user and user namespace, so this holds an instance only where no other has both.
        notes.unless(
            to(Resource::Nproc, u64::from(cgroup::TASKS)),
            "its processes are not limited by its user",
        );
    }
}

/// Leaves the host's namespaces, and gives the process a file system of its own.
fn separate(spec: &ShimSpec, own_pids: bool, notes: &mut Notes) -> Result<Places, Failed> {
    notes.unless(sys::unshare(UnshareFlags::NEWIPC), "it shares System V IPC with the host");
    notes.unless(sys::unshare(UnshareFlags::NEWCGROUP), "it sees the host's control groups");
    if notes.unless(sys::unshare(UnshareFlags::NEWUTS), "it sees the host's name") {
        let name = rustix::system::sethostname(spec.instance.as_str().as_bytes()).map_err(io::Error::from);
        notes.unless(name, "it sees the host's name");
    }
    let plain = Places {
        app: spec.artifact.clone(),
        data: spec.folder.join(DATA),
        tmp: spec.folder.join(TMP),
        own_root: false,
    };
    if !notes.unless(sys::unshare(UnshareFlags::NEWNS), "it sees the host's files as far as its user may") {
        return Ok(plain);
    }
    match root::build(spec, own_pids, notes) {
        Ok(()) => root::enter(&spec.folder),
        Err(error) => {
            root::abandon(&spec.folder);
            notes.0.push(format!("it sees the host's files as far as its user may: {error}"));
            Ok(plain)
        }
    }
}

/// Whether another user could reach the instance's folders where they are on the host.
fn may_pass(places: &Places, notes: &mut Notes) -> bool {
    let blocked =
        [&places.app, &places.data].into_iter().flat_map(|place| place.ancestors().skip(1)).find(|folder| {
            // The execute bit for others is what lets a stranger pass.
            std::fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o001 == 0)
        });
    if let Some(folder) = blocked {
        notes.0.push(format!("it runs as the agent's own user: others may not pass {}", folder.display()));
    }
    blocked.is_none()
}

fn drop_privileges(uid: Option<u32>, notes: &mut Notes) -> Result<(), Failed> {
    let privileged =
        rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETPCAP));
    if privileged {
        for bit in 0..64 {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
                let removed =
                    rustix::thread::remove_capability_from_bounding_set(capability).map_err(io::Error::from);
                notes.unless(removed, "a capability stays in its bounding set");
            }
        }
        // Also a program that still runs as root is given no capability for that alone.
        let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
        let locked = rustix::thread::set_capabilities_secure_bits(bits).map_err(io::Error::from);
        notes.unless(locked, "root keeps its meaning inside");
    }
    if let Some(uid) = uid {
        let change = || -> io::Result<()> {
            let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
            rustix::thread::set_thread_groups(&[])?;
            rustix::thread::set_thread_res_gid(group, group, group)?;
            Ok(rustix::thread::set_thread_res_uid(user, user, user)?)
        };
        change().map_err(|error| Failed::host(&format!("becoming user {uid}"), error))?;
    } else {
        notes.0.push("it runs as the agent's own user".into());
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).map_err(|error| Failed::host("dropping capabilities", error))
}
