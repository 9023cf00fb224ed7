//! Compiles components, each in a child process of its own with little priority and bounded memory and time, so that a
//! hostile one takes neither the agent nor its guests with it.
//!
//! The child is this same program ([`entry`]): same compiler, same settings, checked by a hash. It gets the component
//! as a sealed file in memory, and writes the code to another, which is sealed once the child is gone and before
//! anything looks at it. So nothing of it is on disk but what [`crate::compiled`] keeps, and nothing is left behind,
//! however either of them ends.
//!
//! This is no wall against somebody who takes the compiler over by what it compiles: its output is run by the agent.
//! Code comes from nowhere else, not from a registry and not from another node.

mod child;

pub use child::entry;

use child::{OVERSIZED, Order, PANICKED, REFUSED};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, SealFlags},
    io::Errno,
    pipe::PipeFlags,
    process::{PidfdFlags, Signal},
};
use std::{
    fs::File,
    hash::{Hash as _, Hasher as _},
    io::{self, Seek as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tutti_isolate::DriverError;
use tutti_model::{Digest, quantity::ByteSize};
use wasmtime::Engine;

/// Threads of one child, at most: each works on a function of its own, so that memory grows with them.
const THREADS: usize = 8;
/// How much longer than its processor time a child may take by the clock: on a host where guests leave it less than a
/// twentieth of one processor, compiling is put off.
const PATIENCE: u32 = 20;
/// What is kept of a child's words, in bytes. Names of a component's own may be in it.
const WORDS_BYTES: usize = 4096;

/// What compiling one component may take. A component that takes more cannot be run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: u64,
    /// Processor time, over all threads, of the smallest component.
    pub cpu: Duration,
    /// What each MiB of a component adds to that.
    pub cpu_per_mib: Duration,
    /// Bytes of compiled code.
    pub code: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // Measured on a Python component of 17.5 MiB with a compiler that is itself hardly optimized: 16 s of processor
        // time, 344 MiB of memory, 33 MiB of code; on the wasm sample of 85 KiB: 36 ms, 20 MiB, 270 KiB. So each is
        // about five times what large components need, for slower processors and worse languages.
        Limits {
            memory: 2 << 30,
            cpu: Duration::from_secs(30),
            cpu_per_mib: Duration::from_secs(3),
            code: 256 << 20,
        }
    }
}

impl Limits {
    /// Processor time for a component of this many bytes, in whole seconds, as the kernel counts it.
    fn cpu_seconds(&self, bytes: usize) -> u64 {
        let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
        self.cpu.saturating_add(self.cpu_per_mib.saturating_mul(mib)).as_secs().max(1)
    }
}

/// Starts children that compile.
#[derive(Debug)]
pub(crate) struct Compiler {
    program: PathBuf,
    words: Vec<String>,
    /// The hash of this engine's version and settings, which the child's must have too.
    engine: String,
    limits: Limits,
    /// Ends when [`Stop`] is dropped.
    stopped: OwnedFd,
}

/// Children are killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Stop(#[expect(dead_code, reason = "it is there to be closed")] OwnedFd);

/// Code that a child has just compiled: a file in memory that nobody can change any more.
#[derive(Debug)]
pub(crate) struct Code(File);

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("it is not valid WebAssembly: {0}")]
    Invalid(String),
    #[error("it takes more than {0} s of processor time to compile; a component with less code takes less")]
    Cpu(u64),
    #[error("it takes more than {0} of memory to compile; smaller functions take less")]
    Memory(ByteSize),
    #[error("compiled, it has more than {0}; build it with optimization for size")]
    Code(ByteSize),
    #[error("the compiler fails on it: {0}")]
    Crashed(String),
    #[error("{0}")]
    Host(io::Error),
}

impl CompileError {
    /// What it means for the component of this digest.
    pub(crate) fn about(self, component: &Digest) -> DriverError {
        match self {
            CompileError::Host(source) => {
                DriverError::Host { what: format!("compile component {}", component.short()), source }
            }
            fault => DriverError::Unrunnable(format!("component {}: {fault}", component.short())),
        }
    }

    fn host(what: &str) -> impl Fn(io::Error) -> CompileError {
        move |error| CompileError::Host(io::Error::new(error.kind(), format!("{what}: {error}")))
    }
}

impl Compiler {
    /// Runs this program, with these words before its own, for each component.
    ///
    /// # Errors
    /// What the host says when it refuses a pipe.
    pub(crate) fn new(
        program: PathBuf,
        words: Vec<String>,
        limits: Limits,
        engine: &Engine,
    ) -> io::Result<(Compiler, Stop)> {
        let (stopped, stop) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        Ok((Compiler { program, words, engine: hash(engine), limits, stopped }, Stop(stop)))
    }

    /// Compiles a component. Takes as long as that takes; to be called where waiting is allowed, on a thread that stays
    /// until this returns, since the kernel ends the child with the thread that began it.
    pub(crate) fn compile(&self, component: &[u8]) -> Result<Code, CompileError> {
        let order = Order {
            parent: std::process::id(),
            engine: self.engine.clone(),
            memory: self.limits.memory,
            cpu: self.limits.cpu_seconds(component.len()),
            code: self.limits.code,
        };
        let memory = CompileError::host("a file in memory");
        let input = sealed_file(component).map_err(&memory)?;
        let code = memory_file("tutti-code").map_err(&memory)?;
        let output = code.try_clone().map_err(&memory)?;
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS));
        let child = Command::new(&self.program)
            .args(&self.words)
            .args(order.words())
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .current_dir("/")
            // Not a session: where the kernel shares time between sessions first, its low priority would mean nothing.
            .process_group(0)
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(CompileError::host("start the compiler"))?;
        let (status, words) =
            self.attend(Running(child), Duration::from_secs(order.cpu).saturating_mul(PATIENCE))?;
        self.judge(status, words, order.cpu)?;
        // Before anything reads it: whatever the child may have left running cannot change it any more.
        seal(&code).map_err(&memory)?;
        Ok(Code(code))
    }

    /// Waits until the child has ended, but not longer than this, and gives what it said.
    fn attend(&self, mut child: Running, limit: Duration) -> Result<(ExitStatus, String), CompileError> {
        let host = CompileError::host("wait for the compiler");
        let handle =
            rustix::process::pidfd_open(rustix::process::Pid::from_child(&child.0), PidfdFlags::empty())
                .map_err(|error| host(error.into()))?;
        let deadline = Instant::now() + limit;
        let mut stderr = child.0.stderr.take();
        let mut words = Vec::new();
        loop {
            let mut watched =
                vec![PollFd::new(&handle, PollFlags::IN), PollFd::new(&self.stopped, PollFlags::IN)];
            watched.extend(stderr.as_ref().map(|stderr| PollFd::new(stderr, PollFlags::IN)));
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("not done after {} s: this host is too busy", limit.as_secs());
                return Err(CompileError::Host(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            match poll(&mut watched, Timespec::try_from(left).ok().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(host(error.into())),
            }
            let ready: Vec<_> = watched.iter().map(|one| !one.revents().is_empty()).collect();
            if ready.get(1) == Some(&true) {
                let why = "the wasm driver ends";
                return Err(CompileError::Host(io::Error::new(io::ErrorKind::Interrupted, why)));
            }
            if ready.get(2) == Some(&true)
                && let Some(from) = &mut stderr
            {
                if !hear(from, &mut words).map_err(&host)? {
                    stderr = None;
                }
            } else if ready.first() == Some(&true) {
                // After its last word: what is in the pipe is read first.
                return Ok((child.0.wait().map_err(&host)?, printable(&words)));
            }
        }
    }

    fn judge(&self, status: ExitStatus, words: String, cpu: u64) -> Result<(), CompileError> {
        let memory = CompileError::Memory(ByteSize(self.limits.memory));
        let code = CompileError::Code(ByteSize(self.limits.code));
        let ended_by = |signals: &[Signal]| signals.iter().any(|one| status.signal() == Some(one.as_raw()));
        let faults = [Signal::ABORT, Signal::SEGV, Signal::BUS, Signal::ILL];
        Err(match status.code() {
            Some(0) => return Ok(()),
            Some(REFUSED) => CompileError::Invalid(words),
            Some(OVERSIZED) => code,
            None if ended_by(&[Signal::XFSZ]) => code,
            None if ended_by(&[Signal::XCPU]) => CompileError::Cpu(cpu),
            // How the standard library ends when there is no memory: it says so nowhere else.
            None if ended_by(&[Signal::ABORT]) && words.contains("memory allocation of") => memory,
            Some(PANICKED) => CompileError::Crashed(words),
            None if ended_by(&faults) => CompileError::Crashed(format!("{status}: {words}")),
            None if ended_by(&[Signal::KILL]) => {
                let why = "the compiler was killed: most likely this host is out of memory";
                CompileError::Host(io::Error::other(why))
            }
            _ => CompileError::Host(io::Error::other(format!("the compiler ended ({status}): {words}"))),
        })
    }
}

impl Code {
    /// Its bytes, as a file. Its offset is anywhere.
    pub(crate) fn file(&self) -> &File {
        &self.0
    }

    /// Compiles in this process.
    #[cfg(test)]
    pub(crate) fn compiled_here(engine: &Engine, component: &[u8]) -> wasmtime::Result<Code> {
        Ok(Code(sealed_file(&engine.precompile_component(component)?)?))
    }
}

/// A child that is killed and forgotten with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing if it has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What two engines have in common if one can run what the other compiles.
pub(crate) fn hash(engine: &Engine) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Reads what is there; `false` at the end. What is too long is read and forgotten.
fn hear(from: &mut impl io::Read, words: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; WORDS_BYTES];
    let read = from.read(&mut piece)?;
    let room = WORDS_BYTES.saturating_sub(words.len());
    words.extend(piece.get(..read).unwrap_or_default().iter().take(room));
    Ok(read > 0)
}

/// One line without what would change a terminal.
fn printable(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let plain: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    plain.trim().to_owned()
}

fn memory_file(name: &str) -> io::Result<File> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into())
}

/// These bytes as a file that can only be read, from its beginning.
fn sealed_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = memory_file("tutti-component")?;
    file.write_all(bytes)?;
    file.rewind()?;
    seal(&file)?;
    Ok(file)
}

fn seal(file: &File) -> io::Result<()> {
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    Ok(rustix::fs::fcntl_add_seals(file.as_fd(), all)?)
}

#[cfg(test)]
pub(crate) mod tests;
