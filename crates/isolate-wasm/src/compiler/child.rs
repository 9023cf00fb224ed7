//! The child: gives up what it does not need, then compiles one component from standard input to standard output.

use crate::{compiler::hash, engine};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    process::ExitCode,
};

/// Exit code for what is no component; why is on standard error.
pub(super) const REFUSED: i32 = 65;
/// Exit code for more code than is allowed.
pub(super) const OVERSIZED: i32 = 66;
/// Exit code for a host that refuses something; what is on standard error.
const TROUBLE: u8 = 71;
/// Exit code of a panic.
pub(super) const PANICKED: i32 = 101;
/// A third of the time that a guest gets which wants the same processor. More would make a push on a busy host wait for
/// minutes.
const NICENESS: i32 = 5;
/// What is reserved and never touched, in bytes: the engine's own program, and an arena for each thread's allocations.
const RESERVED: u64 = 2 << 30;
/// Files it may have open: the standard streams, and what the standard library looks up about the host.
const OPEN_FILES: u64 = 16;

/// What a child is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The process that wants the code.
    pub(super) parent: u32,
    /// The hash of that one's engine.
    pub(super) engine: String,
    /// Bytes.
    pub(super) memory: u64,
    /// Seconds of processor time.
    pub(super) cpu: u64,
    /// Bytes of compiled code.
    pub(super) code: u64,
}

impl Order {
    pub(super) fn words(&self) -> [String; 5] {
        [
            self.parent.to_string(),
            self.engine.clone(),
            self.memory.to_string(),
            self.cpu.to_string(),
            self.code.to_string(),
        ]
    }

    fn read(words: impl Iterator<Item = OsString>) -> Option<Order> {
        let words: Vec<String> = words.map(|word| word.into_string().ok()).collect::<Option<_>>()?;
        let [parent, engine, memory, cpu, code] = words.as_slice() else { return None };
        Some(Order {
            parent: parent.parse().ok()?,
            engine: engine.clone(),
            memory: memory.parse().ok()?,
            cpu: cpu.parse().ok()?,
            code: code.parse().ok()?,
        })
    }
}

/// Compiles the component on standard input. To be called first thing in `main`, before there are threads or open files.
pub fn entry(words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(order) = Order::read(words) else {
        let _ = writeln!(io::stderr(), "usage: tutti compile … (started by the agent, not by hand)");
        return ExitCode::from(2);
    };
    match run(&order) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(TROUBLE)
        }
    }
}

fn run(order: &Order) -> io::Result<u8> {
    give_up(order)?;
    let mut component = Vec::new();
    File::from(io::stdin().as_fd().try_clone_to_owned()?).read_to_end(&mut component)?;
    let engine = engine::for_compiling().map_err(|error| io::Error::other(format!("{error:#}")))?;
    if hash(&engine) != order.engine {
        return Err(io::Error::other("the compiler is of another build than the agent"));
    }
    let code = match engine.precompile_component(&component) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            return Ok(u8::try_from(REFUSED).unwrap_or(TROUBLE));
        }
    };
    if code.len() as u64 > order.code {
        return Ok(u8::try_from(OVERSIZED).unwrap_or(TROUBLE));
    }
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(&code)?;
    Ok(0)
}

/// Gives up what compiling does not need, before the first byte of a stranger's is read.
fn give_up(order: &Order) -> io::Result<()> {
    rustix::thread::set_name(c"tutti-compile")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have gone before that was set.
    if rustix::process::getppid().map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok())
        != Some(order.parent)
    {
        return Err(io::Error::other("the agent is gone"));
    }
    rustix::process::nice(NICENESS)?;
    // Whatever runs out of memory on this host, it is this that can be done again. Not every container has the file.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, OPEN_FILES)?;
    limit(Resource::Fsize, order.code)?;
    limit(Resource::Data, order.memory)?;
    limit(Resource::As, order.memory.saturating_add(RESERVED))?;
    limit(Resource::Cpu, order.cpu)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
    // Of processor time the hard limit kills without a name, and the soft one says what it was.
    let above = if resource == Resource::Cpu { hard.saturating_add(1) } else { hard };
    let above = rustix::process::getrlimit(resource).maximum.map_or(above, |most| most.min(above));
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(above) })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_is_told_it_reads() {
        let order = Order { parent: 1, engine: "ab".to_owned(), memory: 2, cpu: 3, code: u64::MAX };
        let words = || order.words().map(OsString::from).into_iter();
        assert_eq!(Order::read(words()).as_ref(), Some(&order));
        assert_eq!(Order::read(words().take(4)), None);
        assert_eq!(Order::read(words().chain(["more".into()])), None);
        assert_eq!(Order::read(words().map(|_| "x".into())), None);
    }
}
