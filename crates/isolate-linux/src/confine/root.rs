//! A file system of its own for an instance: the host's programs read-only, its artifact at `/app`, its own folder at
//! `/data`, a `/tmp` and a `/proc` of its own, five devices, and nothing else of the host.

use super::{Notes, Places};
use crate::{
    record::{DATA, Failed, ROOT, ShimSpec, TMP},
    sys,
};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
};
use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
};

/// What an instance sees of the host, where it is there: programs, libraries and their settings.
pub(crate) const SYSTEM: [&str; 11] =
    ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "nix", "gnu"];

/// The devices that no program can do without, and that do no harm.
pub(crate) const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

const APP: &str = "app";

/// Makes the new root below the instance's folder. The calling process is in a mount namespace of its own.
pub(super) fn build(spec: &ShimSpec, own_pids: bool, notes: &mut Notes) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let new = spec.folder.join(ROOT);
    // Holds a few folders and links only.
    mount("tutti", &new, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755,size=256k")?;
    for name in SYSTEM {
        system_folder(&new, name)?;
    }
    devices(&new)?;
    for name in [APP, DATA, TMP, "proc", "run", "var", "dev/shm"] {
        fs::create_dir(new.join(name))?;
    }
    symlink("../tmp", new.join("var/tmp"))?;
    symlink("../run", new.join("var/run"))?;
    resolver(&new)?;
    mount_bind(&spec.artifact, new.join(APP))?;
    attributes(&new, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID, true)?;
    attributes(&new.join(APP), libc::MOUNT_ATTR_NODEV, false)?;

    // What may be written to, mounted after all was made read-only.
    for name in [DATA, TMP] {
        mount_bind(spec.folder.join(name), new.join(name))?;
        attributes(&new.join(name), libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, false)?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Counts towards the instance's memory limit, where there is one; else this is its own.
    mount("tutti", new.join("dev/shm"), "tmpfs", flags, c"mode=1777,size=64m")?;
    let proc = new.join("proc");
    let mounted = own_pids && mount("proc", &proc, "proc", flags, c"").is_ok();
    if !mounted {
        notes.0.push("it sees the processes of the host: /proc cannot be mounted for it alone".into());
        mount_bind_recursive("/proc", &proc)?;
    }
    Ok(())
}

/// Makes the new root the root.
pub(super) fn enter(folder: &Path) -> Result<Places, Failed> {
    let enter = || -> io::Result<()> {
        rustix::process::chdir(folder.join(ROOT))?;
        // With both names the same, the old root lies over the new one until it is detached.
        rustix::process::pivot_root(".", ".")?;
        sys::detach_mount(c".")?;
        Ok(rustix::process::chdir("/")?)
    };
    enter().map_err(|error| Failed::host("entering a root of its own", error))?;
    let place = |name| Path::new("/").join(name);
    Ok(Places { app: place(APP), data: place(DATA), tmp: place(TMP), own_root: true })
}

/// Takes a half-made root away again.
pub(super) fn abandon(folder: &Path) {
    if let Ok(path) = c_path(&folder.join(ROOT)) {
        let _ = sys::detach_mount(&path);
    }
}

/// Shows a folder of the host's root, as a link where the host has a link.
fn system_folder(new: &Path, name: &str) -> io::Result<()> {
    let from = Path::new("/").join(name);
    let to = new.join(name);
    match fs::symlink_metadata(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_symlink() => symlink(fs::read_link(&from)?, to),
        Ok(metadata) if metadata.is_dir() => {
            fs::create_dir(&to)?;
            Ok(mount_bind_recursive(&from, &to)?)
        }
        Ok(_) => Ok(()),
    }
}

fn devices(new: &Path) -> io::Result<()> {
    fs::create_dir(new.join("dev"))?;
    for name in DEVICES {
        let from = Path::new("/dev").join(name);
        let to = new.join("dev").join(name);
        fs::File::create(&to)?;
        mount_bind(&from, &to)?;
    }
    symlink("/proc/self/fd", new.join("dev/fd"))?;
    for (number, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
        symlink(format!("/proc/self/fd/{number}"), new.join("dev").join(name))?;
    }
    Ok(())
}

/// `/etc/resolv.conf` is often a link into `/run`, which the instance does not see: show that one file.
fn resolver(new: &Path) -> io::Result<()> {
    let Ok(real) = fs::canonicalize("/etc/resolv.conf") else { return Ok(()) };
    let Ok(below) = real.strip_prefix("/run") else { return Ok(()) };
    let to = new.join("run").join(below);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create(&to)?;
    Ok(mount_bind(&real, &to)?)
}

fn attributes(path: &Path, set: u64, recursive: bool) -> io::Result<()> {
    sys::mount_attributes(&c_path(path)?, set, 0, recursive)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}
