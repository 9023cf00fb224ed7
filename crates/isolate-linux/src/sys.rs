//! The only module with `unsafe`: system calls that neither the standard library nor rustix offer safely.

#![expect(unsafe_code, reason = "system calls without a safe wrapper; each block says why it is sound")]

use rustix::{
    io::Errno,
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// Which side of a fork this is.
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's id.
    Parent(rustix::process::Pid),
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Forks. Refused in a process with more than one thread, where the child could only make async-signal-safe calls.
pub(crate) fn fork() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::Error::other("a process with several threads may not fork here"));
    }
    // SAFETY: there is one thread only, so no lock is held by a thread that the child lacks.
    let pid = check(unsafe { libc::fork() })?;
    Ok(rustix::process::Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent))
}

/// Leaves namespaces of the parent. Never shares or unshares the table of open files.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(Errno::INVAL.into());
    }
    // SAFETY: only unsharing the file table could invalidate descriptors that others hold, and that is refused above.
    unsafe { unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Ends this process at once, without running what the parent registered for its own end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on. Only for a process that has just begun and owns none of them.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller, at the start of `main`, has opened nothing yet, so nobody relies on these descriptors.
    check(unsafe { libc::close_range(first, u32::MAX, 0) }).map(drop)
}

/// Marks every descriptor from `first` on to be closed on exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    let flag = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).unwrap_or(4);
    // SAFETY: sets a flag; nothing is closed while this program runs.
    check(unsafe { libc::close_range(first, u32::MAX, flag) }).map(drop)
}

/// Makes the standard streams these three.
pub(crate) fn replace_standard_streams(files: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    for (file, stream) in
        files.into_iter().zip([libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO])
    {
        // SAFETY: the standard streams belong to the process and are never closed, only changed in what they mean.
        check(unsafe { libc::dup2(file.as_raw_fd(), stream) })?;
    }
    Ok(())
}

/// Becomes another program. Unlike the standard library's, which does as shells do, it never takes a file that is no
/// program for a shell script. Returns only if that fails.
pub(crate) fn exec(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let list = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (list(arguments), list(environment));
    // SAFETY: both lists end in a null pointer and point to strings that live until the call is over.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// What is done on a signal.
#[derive(Clone, Copy)]
pub(crate) enum Disposition {
    /// What the kernel does by default.
    Default,
    /// Nothing.
    Ignore,
}

/// Sets what is done on a signal.
pub(crate) fn on_signal(signal: libc::c_int, disposition: Disposition) -> io::Result<()> {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // SAFETY: neither disposition runs code of ours.
    let before = unsafe { libc::signal(signal, handler) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Blocks a signal and gives a descriptor that is readable when it has come.
pub(crate) fn signal_fd(signal: libc::c_int) -> io::Result<OwnedFd> {
    let set = signal_set(&[signal])?;
    // SAFETY: `set` is initialised; the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
    // SAFETY: `set` is initialised, and -1 asks for a new descriptor.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Blocks no signal any more.
pub(crate) fn unblock_signals() -> io::Result<()> {
    let set = signal_set(&[])?;
    // SAFETY: `set` is initialised; the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) }).map(drop)
}

fn signal_set(signals: &[libc::c_int]) -> io::Result<libc::sigset_t> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises what it is given.
    check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
    // SAFETY: initialised by the call above, which succeeded.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: `set` is initialised.
        check(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
    }
    Ok(set)
}

/// Sets and clears attributes (`MOUNT_ATTR_*`) of the mount at `path`, and with `recursive` of those below it.
pub(crate) fn mount_attributes(path: &CStr, set: u64, clear: u64, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path ends in a zero byte, and the structure has the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Removes a name from the tree of mounts, and the mount once nobody uses it.
pub(crate) fn detach_mount(path: &CStr) -> io::Result<()> {
    // SAFETY: the path ends in a zero byte.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }).map(drop)
}
