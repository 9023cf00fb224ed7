//! A host over ssh: commands there, what they are told on their standard input, and the program brought there. It is the
//! machine's own `ssh`, with what its user has set up; it never asks for anything.

use super::{
    apply::{Applied, digest},
    order::{Order, PROGRAM},
    spec::{Host, Ssh},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};
use tutti_base::sha256;
use tutti_model::{ErrorCode, Problem};
use zeroize::Zeroizing;

/// How long a host may take to be connected to, in seconds.
const CONNECTS: &str = "ConnectTimeout=10";
/// How long one command may take, bringing the program there included.
const COMMAND: Duration = Duration::from_secs(600);
/// Most that is read of what a command says, in bytes.
const SAID_BYTES: u64 = 1024 * 1024;
/// What ssh ends with when it could not run the command.
const SSH_FAILED: i32 = 255;

/// The program that runs here, to be brought to hosts that have another.
pub(crate) struct Program {
    path: PathBuf,
    hash: String,
}

impl Program {
    /// This one.
    ///
    /// # Errors
    /// `unavailable` if it cannot be read.
    pub(crate) fn own() -> Result<Program, Problem> {
        let found = std::env::current_exe().and_then(|path| Ok(Program { hash: digest(&path)?, path }));
        found.map_err(|error| Problem::unavailable(format!("this program cannot be read: {error}")))
    }
}

/// A host that commands run on.
pub(crate) struct Remote<'a> {
    pub(crate) host: &'a Host,
    ssh: &'a Ssh,
    /// Where the program is there, for as long as it is not installed.
    program: String,
}

impl<'a> Remote<'a> {
    /// Reaches a host, and brings this program there if it has another.
    ///
    /// # Errors
    /// What keeps it from being reached, or from running this program.
    pub(crate) async fn reach(host: &'a Host, ssh: &'a Ssh, own: &Program) -> Result<Remote<'a>, Problem> {
        let mut remote = Remote { host, ssh, program: PROGRAM.to_owned() };
        let script = format!("uname -s -m; id -u; sha256sum {PROGRAM} 2>/dev/null; true");
        let said = remote.command(&script, &[]).await?;
        let mut lines = said.lines();
        let (machine, user) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let kind = format!("Linux {}", std::env::consts::ARCH);
        if machine != kind {
            return Err(Problem::invalid(format!(
                "it is a {machine} machine, and this program is for {kind}"
            )));
        }
        if user != "0" {
            let text = format!("{} is not root there", host.ssh.0);
            return Err(Problem::new(ErrorCode::Forbidden, text).hint("write ssh = \"root@HOST\""));
        }
        if !lines.next().unwrap_or_default().starts_with(&own.hash) {
            remote.bring(own).await?;
        }
        Ok(remote)
    }

    async fn bring(&mut self, Program { path, hash }: &Program) -> Result<(), Problem> {
        let short = hash.get(..16).unwrap_or(hash);
        self.program = format!("/var/tmp/tutti-{short}");
        let there = format!("test -x {0} && sha256sum {0} | grep -q ^{hash}", self.program);
        if self.command(&there, &[]).await.is_ok() {
            return Ok(());
        }
        let bytes = tokio::fs::read(path).await;
        let bytes =
            bytes.map_err(|error| Problem::unavailable(format!("this program cannot be read: {error}")))?;
        let take = format!("umask 077; cat >{0}.new && chmod 700 {0}.new && mv {0}.new {0}", self.program);
        self.command(&take, &bytes).await.map(drop)
    }

    /// Has the program there do something with what it is told, and gives its answer.
    ///
    /// # Errors
    /// Its own, and what keeps the host from being reached.
    pub(crate) async fn host<Q: Serialize, A: DeserializeOwned>(
        &self,
        verb: &str,
        told: &Q,
    ) -> Result<A, Problem> {
        self.by(&self.program, verb, told).await
    }

    /// The same by the program that is installed there.
    ///
    /// # Errors
    /// As of [`Remote::host`].
    pub(crate) async fn installed<Q: Serialize, A: DeserializeOwned>(
        &self,
        verb: &str,
        told: &Q,
    ) -> Result<A, Problem> {
        self.by(PROGRAM, verb, told).await
    }

    async fn by<Q: Serialize, A: DeserializeOwned>(
        &self,
        program: &str,
        verb: &str,
        told: &Q,
    ) -> Result<A, Problem> {
        let told =
            Zeroizing::new(serde_json::to_vec(told).map_err(|error| Problem::internal(error.to_string()))?);
        let said = self.command(&format!("exec {program} host {verb}"), &told).await?;
        serde_json::from_str(&said)
            .map_err(|error| Problem::internal(format!("the host answered what is not to be read: {error}")))
    }

    /// Makes the host what the order says.
    ///
    /// # Errors
    /// As of [`Remote::host`].
    pub(crate) async fn apply(&self, order: &Order) -> Result<Applied, Problem> {
        let applied = self.host("apply", order).await?;
        self.leave().await;
        Ok(applied)
    }

    /// Removes what was only brought to look.
    pub(crate) async fn leave(&self) {
        if self.program != PROGRAM {
            // Another run removes it, or the next start of the machine.
            let _ = self.command(&format!("rm -f {}", self.program), &[]).await;
        }
    }

    /// Runs a command line of the shell there.
    async fn command(&self, line: &str, told: &[u8]) -> Result<String, Problem> {
        let (target, port) = &self.host.ssh;
        let mut command = Command::new("ssh");
        command.args(["-o", "BatchMode=yes", "-o", CONNECTS, "-p", &port.to_string()]);
        if let Some(identity) = &self.ssh.identity {
            command.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(identity);
        }
        if let Some(known) = &self.ssh.known_hosts {
            command.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        }
        command.arg(target).arg(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let failed = |error: std::io::Error| {
            Problem::unavailable(format!("ssh cannot be run: {error}")).hint("install openssh-client")
        };
        let mut child = command.spawn().map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Problem::internal("ssh has no pipes"));
        };
        let says = async {
            // A command that does not read ends for another reason, which it says.
            let _ = stdin.write_all(told).await;
            drop(stdin);
            Ok(())
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (stdout.take(SAID_BYTES), stderr.take(SAID_BYTES));
        let all = async {
            tokio::try_join!(says, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err))?;
            child.wait().await
        };
        let late = || Problem::new(ErrorCode::Timeout, format!("no answer within {} s", COMMAND.as_secs()));
        let status = tokio::time::timeout(COMMAND, all).await.map_err(|_| late())?.map_err(failed)?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
        let said = String::from_utf8_lossy(&err).trim().to_owned();
        Err(match status.code() {
            Some(SSH_FAILED) => Problem::unavailable(format!(
                "ssh does not reach {target}, port {port}: {said}"
            ))
            .hint(format!("see that this works without being asked anything: ssh -p {port} {target} true")),
            _ => Problem::unavailable(said.trim_start_matches("error: ").to_owned()),
        })
    }
}

/// What a script for one host is made of; see [`super::script`].
pub(crate) fn marker(text: &str) -> String {
    format!("TUTTI-{}", sha256::digest(text.as_bytes()).short())
}
