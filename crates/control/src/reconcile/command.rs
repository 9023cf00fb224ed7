//! Runs one command of the operator's: bounded in time and in what is kept of its output, without what control's own
//! environment holds. What it is run for, and when again, is the caller's business.

use std::{
    ffi::OsString,
    fmt,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    task::JoinSet,
};
use tutti_base::Secret;
use tutti_model::Millis;

/// Most that is kept of what a command says, in bytes: its end, where the reason of a failure stands.
const TAIL_BYTES: usize = 4096;
/// Longest part of that which is told, in characters.
const TOLD_CHARS: usize = 300;
/// How long it is waited for the output of a command that has ended: what it left running may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What of control's own environment a command is given. The rest may hold its passwords.
const PASSED_ON: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "XDG_CONFIG_HOME"];
/// What a command finds programs by where control has no such path itself.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command, as its operator wrote it. It is shown by its first word only, since the others may be secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments, run as they are.
    Arguments {
        /// The program.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// A line for `/bin/sh`.
    Shell(String),
}

impl Program {
    fn command(&self) -> Command {
        match self {
            Program::Arguments { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
            Program::Shell(line) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", line]);
                command
            }
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Program::Arguments { program, arguments } if arguments.is_empty() => f.write_str(program),
            Program::Arguments { program, .. } => write!(f, "{program} …"),
            Program::Shell(line) => write!(f, "{} …", line.split_whitespace().next().unwrap_or_default()),
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({self})")
    }
}

/// What a command is told, by name.
pub(super) type Environment = Vec<(&'static str, Secret<String>)>;

/// Runs a command to its end.
///
/// # Errors
/// In one sentence, why it did not do what it was to: it could not be started, ended with another status than 0, or did
/// not end in time. Its last line is told with it, without what of its environment is secret. Dropped before its end, it
/// is killed with all that it started in its process group.
pub(super) async fn run(program: &Program, environment: &Environment, limit: Millis) -> Result<(), String> {
    let mut command = program.command();
    command.env_clear().env("PATH", USUAL_PATH);
    command.envs(PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    command.envs(environment.iter().map(|(name, value)| (*name, OsString::from(value.reveal()))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
    let mut group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()));
    let said = Arc::new(Mutex::new(Vec::new()));
    let mut readers = JoinSet::new();
    if let Some(out) = child.stdout.take() {
        readers.spawn(listen(out, Arc::clone(&said)));
    }
    if let Some(err) = child.stderr.take() {
        readers.spawn(listen(err, Arc::clone(&said)));
    }
    let ended = tokio::time::timeout(limit.duration(), child.wait()).await;
    let wrong = match ended {
        Ok(Ok(status)) if status.success() => {
            // What it was run for may go on in its group.
            group.0 = None;
            return Ok(());
        }
        Ok(Ok(status)) => format!("{program} ended with {status}"),
        Ok(Err(error)) => format!("{program} cannot be waited for: {error}"),
        Err(_) => format!("{program} did not end within {limit} and was killed"),
    };
    drop(group);
    let _ = tokio::time::timeout(LAST_WORDS, async { while readers.join_next().await.is_some() {} }).await;
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    Err(match last_line(&said, environment) {
        Some(line) => format!("{wrong}: {line}"),
        None => wrong,
    })
}

/// A process group, killed when this is dropped.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(rustix::process::Pid::from_raw) {
            // If it has gone already, so much the better.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Reads to the end, and keeps the last of it.
async fn listen(mut from: impl AsyncRead + Unpin, said: Arc<Mutex<Vec<u8>>>) {
    let mut some = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut some).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend(some.get(..count).unwrap_or_default());
        let over = said.len().saturating_sub(TAIL_BYTES);
        said.drain(..over);
    }
}

/// The last line that was said, fit to be shown.
fn last_line(said: &[u8], environment: &Environment) -> Option<String> {
    let mut text = String::from_utf8_lossy(said).into_owned();
    for (_, value) in environment.iter().filter(|(name, _)| *name == JOIN_TOKEN) {
        text = text.replace(value.reveal(), "[secret]");
    }
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().filter(|letter| !letter.is_control()).take(TOLD_CHARS).collect())
}

/// The variable that holds a join token.
pub(super) const JOIN_TOKEN: &str = "TUTTI_JOIN_TOKEN";

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Program {
        Program::Shell(line.to_owned())
    }

    fn telling(token: &str) -> Environment {
        vec![(JOIN_TOKEN, Secret::new(token.to_owned())), ("TUTTI_NODE", Secret::new("n1".to_owned()))]
    }

    const LONG: Millis = Millis::seconds(30);

    #[tokio::test]
    async fn a_command_gets_what_it_is_told_and_nothing_of_control() {
        let only = r#"test "$TUTTI_NODE" = n1 && test -n "$PATH" && test -z "$CARGO_MANIFEST_DIR""#;
        assert_eq!(run(&shell(only), &telling("hunter2"), LONG).await, Ok(()));
        let plain = Program::Arguments {
            program: "test".into(),
            arguments: vec!["a b".into(), "=".into(), "a b".into()],
        };
        assert_eq!(run(&plain, &telling("hunter2"), LONG).await, Ok(()));
        assert_eq!(format!("{plain:?} {:?}", shell("x --secret y")), "Program(test …) Program(x …)");
    }

    #[tokio::test]
    async fn a_failure_says_the_last_line_without_the_token() {
        let line = "echo first; echo no quota for $TUTTI_JOIN_TOKEN >&2; exit 3";
        let why = run(&shell(line), &telling("hunter2"), LONG).await.unwrap_err();
        assert_eq!(why, "echo … ended with exit status: 3: no quota for [secret]");
        let missing = Program::Arguments { program: "/no/such".into(), arguments: Vec::new() };
        let why = run(&missing, &telling("hunter2"), LONG).await.unwrap_err();
        assert!(why.starts_with("/no/such cannot be started: "), "{why}");
    }

    #[tokio::test]
    async fn output_beyond_what_is_kept_is_read_and_forgotten() {
        let line = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1";
        let why = run(&shell(line), &telling("hunter2"), LONG).await.unwrap_err();
        assert!(why.ends_with("exit status: 1: the end"), "{why}");
        let line = "head -c 4000 /dev/zero | tr '\\0' x; exit 1";
        let why = run(&shell(line), &telling("hunter2"), LONG).await.unwrap_err();
        assert_eq!(
            why.chars().filter(|letter| *letter == 'x').count(),
            TOLD_CHARS + "exit".matches('x').count()
        );
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let line = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let why = run(&shell(&line), &telling("hunter2"), Millis(500)).await.unwrap_err();
        assert!(why.contains("did not end within 500ms and was killed"), "{why}");
        let pid = std::fs::read_to_string(&file).unwrap();
        let path = format!("/proc/{}/stat", pid.trim());
        // Whoever adopts it may take a moment to bury it.
        let is_over = || std::fs::read_to_string(&path).map_or(true, |stat| stat.contains(") Z"));
        tokio::time::timeout(Duration::from_secs(10), async {
            while !is_over() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn what_a_command_leaves_running_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let line = format!("sleep 1000 >/dev/null 2>&1 & echo $! > {}", file.display());
        assert_eq!(run(&shell(&line), &telling("hunter2"), LONG).await, Ok(()));
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        assert!(rustix::process::test_kill_process(pid).is_ok());
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}
