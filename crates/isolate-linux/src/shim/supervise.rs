//! Stays with a running process: carries its output to the log, ends it when asked or when its time is up, and leaves a
//! note of how it ended and nothing else.

use super::{Running, now};
use crate::{
    cgroup,
    record::{self, Ended, Message},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, WaitOptions, WaitStatus},
};
use std::{
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};
use tutti_base::Uptime;
use tutti_model::{Millis, log::Output, quantity::ByteSize};

/// Agents that may be connected at once: one, and one that was killed and whose end the kernel has not told yet; more
/// are turned away.
const CONNECTIONS: usize = 8;

/// Longest message of an agent, in bytes; `Stop` with a number is far shorter.
const MESSAGE_BYTES: usize = 256;

/// How often the shim looks whether its folder is still there. Once it was removed nobody can ever find the instance
/// again, so it ends.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long output may still come after the process and all below it were killed. Only a process that left all that
/// holds it could keep a pipe open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// An agent that is connected.
struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
}

/// How far ending it has gone.
#[derive(Default)]
struct Stopping {
    /// When it is killed.
    deadline: Option<Instant>,
    /// What it was given at most.
    grace: Millis,
    killed: bool,
    /// Whether it is killed because its lease has run out.
    lapsed: bool,
}

impl Running {
    /// Returns once the process has ended and that is on disk.
    pub(super) fn supervise(mut self) -> io::Result<()> {
        for (output, pipe) in
            [(Output::Stdout, self.launched.stdout.take()), (Output::Stderr, self.launched.stderr.take())]
        {
            if let Some(pipe) = pipe {
                self.outputs.add(output, pipe)?;
            }
        }
        self.outputs.say(&format!("started, is to listen on port {}", self.spec.port));
        let mut connections: Vec<Connection> = Vec::new();
        let mut stopping = Stopping::default();
        let status = loop {
            self.wait(&connections, &stopping)?;
            self.outputs.read();
            while let Ok((stream, _)) = self.listener.accept() {
                if connections.len() < CONNECTIONS && stream.set_nonblocking(true).is_ok() {
                    connections.push(Connection { stream, received: Vec::new() });
                }
            }
            let mut asked = Vec::new();
            connections.retain_mut(|connection| connection.read(&mut asked));
            if self.was_signalled() {
                asked.push(Message::Stop(self.spec.grace.0));
            }
            if self.is_forsaken() {
                asked.push(Message::Stop(0));
            }
            for message in asked {
                match message {
                    Message::Stop(grace) => self.ask(&mut stopping, Millis(grace)),
                    // Who was started without an end gets none.
                    Message::Extend(until) => self.spec.until = self.spec.until.map(|end| end.max(until)),
                    Message::Ended(_) => {}
                }
            }
            if self.spec.until.is_some_and(|until| Uptime::now() >= until) && !stopping.killed {
                (stopping.killed, stopping.lapsed) = (true, true);
                self.kill();
            }
            if stopping.deadline.is_some_and(|deadline| Instant::now() >= deadline) && !stopping.killed {
                stopping.killed = true;
                self.kill();
            }
            if let Some((_, status)) = rustix::process::waitpid(Some(self.launched.pid), WaitOptions::NOHANG)?
            {
                break status;
            }
        };
        self.finish(status, &stopping, &mut connections)
    }

    /// Waits until something is to be done.
    fn wait(&self, connections: &[Connection], stopping: &Stopping) -> io::Result<()> {
        let mut waits: Vec<PollFd<'_>> = Vec::with_capacity(5 + connections.len());
        waits.push(PollFd::new(&self.launched.handle, PollFlags::IN));
        waits.push(PollFd::new(&self.listener, PollFlags::IN));
        waits.push(PollFd::new(&self.signals, PollFlags::IN));
        waits.extend(self.outputs.waits().map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
        for connection in connections {
            waits.push(PollFd::from_borrowed_fd(connection.stream.as_fd(), PollFlags::IN));
        }
        let pending = stopping.deadline.filter(|_| !stopping.killed);
        let mut most =
            pending.map_or(LOOK_EVERY, |deadline| deadline.saturating_duration_since(Instant::now()));
        if let Some(until) = self.spec.until.filter(|_| !stopping.killed) {
            most = most.min(until.since(Uptime::now()).duration());
        }
        let most = Timespec::try_from(most.min(LOOK_EVERY)).map_err(io::Error::other)?;
        match poll(&mut waits, Some(&most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn was_signalled(&self) -> bool {
        // A signalfd gives 128 bytes a signal.
        let mut buffer = [0u8; 128];
        rustix::io::read(&self.signals, &mut buffer).is_ok()
    }

    /// Whether the instance's folder was removed.
    fn is_forsaken(&self) -> bool {
        rustix::fs::stat(&self.folder).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Asks the process to end. Asking again can only bring the end nearer.
    fn ask(&mut self, stopping: &mut Stopping, grace: Millis) {
        // Years would overflow the clock; a day is for ever here.
        let deadline = Instant::now() + grace.duration().min(Duration::from_secs(86_400));
        // Without grace there is nothing to ask for.
        if stopping.deadline.is_none() && grace.0 > 0 {
            let _ = rustix::process::pidfd_send_signal(&self.launched.handle, Signal::TERM);
        }
        if stopping.deadline.is_none_or(|before| deadline < before) {
            stopping.deadline = Some(deadline);
            stopping.grace = grace;
        }
    }

    fn kill(&self) {
        if let Some(init) = &self.launched.init {
            let _ = rustix::process::kill_process(init.pid, Signal::KILL);
        }
        let _ = rustix::process::pidfd_send_signal(&self.launched.handle, Signal::KILL);
        cgroup::kill(&self.state.groups);
    }

    /// The process has ended: ends all below it, empties the pipes, notes the end and tells it.
    fn finish(
        mut self,
        status: WaitStatus,
        stopping: &Stopping,
        connections: &mut [Connection],
    ) -> io::Result<()> {
        let out_of_memory = cgroup::out_of_memory_kills(&self.state.groups) > 0;
        if let Some(init) = &self.launched.init {
            let _ = rustix::process::kill_process(init.pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(init.pid), WaitOptions::empty());
        }
        let groups = cgroup::end(&self.state.groups);
        end_orphans();
        let deadline = Instant::now() + LAST_OUTPUT;
        while self.outputs.waits().next().is_some() && Instant::now() < deadline {
            let mut waits: Vec<PollFd<'_>> =
                self.outputs.waits().map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)).collect();
            let _ = poll(&mut waits, Timespec::try_from(LAST_OUTPUT).ok().as_ref());
            drop(waits);
            self.outputs.read();
        }
        let memory = out_of_memory.then_some(ByteSize(self.spec.memory));
        let ended = describe(status, stopping, memory);
        self.outputs.say(&ended.text);
        if let Err(error) = groups {
            self.outputs.say(&format!("a control group stays behind: {error}"));
        }
        let noted = record::write_durably(&self.folder, record::EXIT, &ended);
        let _ = record::remove(Path::new(record::SOCKET));
        let mut line = serde_json::to_vec(&Message::Ended(ended))?;
        line.push(b'\n');
        for connection in connections {
            let _ = connection.stream.write_all(&line);
        }
        noted
    }
}

impl Connection {
    /// Takes what has come; `false` once the agent is gone or talks nonsense.
    fn read(&mut self, asked: &mut Vec<Message>) -> bool {
        let mut chunk = [0; MESSAGE_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) => self.received.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) => {
                return matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            }
        }
        while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(message @ (Message::Stop(_) | Message::Extend(_))) => asked.push(message),
                Ok(Message::Ended(_)) | Err(_) => return false,
            }
        }
        self.received.len() <= MESSAGE_BYTES
    }
}

/// Kills and reaps what the process left behind and the kernel gave to this one.
fn end_orphans() {
    let me = rustix::process::getpid().as_raw_nonzero();
    // Each killed orphan may leave orphans in turn; a bound on the rounds keeps a shim from going on for ever.
    for _ in 0..cgroup::TASKS {
        let listed = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
        let pids = listed
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter_map(rustix::process::Pid::from_raw);
        let mut any = false;
        for pid in pids {
            any = true;
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
        if !any {
            return;
        }
    }
}

/// How it ended, in words. `memory` is the limit that something was killed for.
fn describe(status: WaitStatus, stopping: &Stopping, memory: Option<ByteSize>) -> Ended {
    let (code, signal) = (status.exit_status(), status.terminating_signal());
    let mut text = match (code, signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("killed by signal {signal} ({name})"),
            None => format!("killed by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    };
    if stopping.lapsed {
        text.push_str(": its lease ran out, and control gave it no other");
    } else if stopping.killed && signal == Some(libc::SIGKILL) {
        text.push_str(&match stopping.grace {
            Millis(0) => ": ended at once, without grace".to_owned(),
            grace => format!(": did not stop within {grace}"),
        });
    } else if let Some(memory) = memory {
        let what = if code.is_some() { " after one of its processes was killed: " } else { ": " };
        text.push_str(&format!("{what}out of memory (its limit is {memory})"));
    }
    Ended { code, signal, text, at: now() }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}
