//! What keeps programs running on a host: systemd where it is the first process, else the supervisor (`tutti supervise`).
//! Both are told the same units.

use super::order::{PROGRAM, SETTINGS, Unit};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tutti_model::Problem;

/// Where systemd finds an operator's units.
const UNITS: &str = "/etc/systemd/system";
/// The supervisor's list.
pub(crate) const LIST: &str = "/etc/tutti/units.json";

/// The first program of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Init {
    /// systemd.
    Systemd,
    /// Something else: a supervisor of Tutti's own runs the units.
    Supervisor,
}

impl Init {
    /// What this host has. systemd says so by this folder (sd_booted(3)).
    pub(crate) fn of_this_host() -> Init {
        if Path::new("/run/systemd/system").is_dir() { Init::Systemd } else { Init::Supervisor }
    }

    /// Has the units be known and run, those of `changed` anew. Says what it did.
    ///
    /// # Errors
    /// What could not be written or started.
    pub(crate) fn run(self, units: &[Unit], changed: &dyn Fn(&Unit) -> bool) -> Result<Vec<String>, Problem> {
        match self {
            Init::Systemd => systemd(units, changed),
            Init::Supervisor => supervisor(units, changed),
        }
    }
}

fn systemd(units: &[Unit], changed: &dyn Fn(&Unit) -> bool) -> Result<Vec<String>, Problem> {
    let mut done = Vec::new();
    let mut rewritten = Vec::new();
    for unit in units {
        let path = PathBuf::from(UNITS).join(format!("{}.service", unit.name));
        if super::apply::put(&path, &unit.text(), 0o644)? {
            done.push(format!("wrote {}", path.display()));
            rewritten.push(unit.name.clone());
        }
    }
    if !rewritten.is_empty() {
        command("systemctl", &["daemon-reload"])?;
    }
    for unit in units {
        let is = |what: &str| command("systemctl", &[what, "--quiet", &unit.name]).is_ok();
        if !is("is-enabled") {
            command("systemctl", &["enable", "--quiet", &unit.name])?;
            done.push(format!("enabled {}", unit.name));
        }
        if !is("is-active") {
            command("systemctl", &["start", &unit.name])?;
            done.push(format!("started {}", unit.name));
        } else if changed(unit) || rewritten.contains(&unit.name) {
            command("systemctl", &["restart", &unit.name])?;
            done.push(format!("started {} again", unit.name));
        }
    }
    Ok(done)
}

fn supervisor(units: &[Unit], changed: &dyn Fn(&Unit) -> bool) -> Result<Vec<String>, Problem> {
    let mut done = Vec::new();
    let text = serde_json::to_string_pretty(units).map_err(|error| Problem::internal(error.to_string()))?;
    let is_new = super::apply::put(Path::new(LIST), &text, 0o600)?;
    if is_new {
        done.push(format!("wrote {LIST}"));
    }
    let anew: Vec<&str> = units.iter().filter(|unit| changed(unit)).map(|unit| unit.name.as_str()).collect();
    match super::supervise::running() {
        None => {
            // A session of its own, so that it outlives the connection that it was started over.
            let log = fs::File::options()
                .create(true)
                .append(true)
                .open("/var/log/tutti-supervise.log")
                .map_err(|error| Problem::unavailable(format!("the supervisor's log: {error}")))?;
            let started = Command::new("setsid")
                .args(["--fork", PROGRAM, "supervise"])
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .status();
            match started {
                Ok(status) if status.success() => done.push("started the supervisor".to_owned()),
                other => {
                    return Err(Problem::unavailable(format!("the supervisor does not start: {other:?}")));
                }
            }
        }
        // It finds out itself what is another than it was.
        Some(pid) if is_new || !anew.is_empty() => {
            let told = rustix::process::kill_process(pid, rustix::process::Signal::HUP);
            told.map_err(|error| Problem::unavailable(format!("the supervisor cannot be told: {error}")))?;
            done.extend(anew.iter().map(|name| format!("started {name} again")));
        }
        Some(_) => {}
    }
    Ok(done)
}

fn command(program: &str, arguments: &[&str]) -> Result<String, Problem> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Problem::unavailable(format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Problem::unavailable(format!("{program} {}: {said}", arguments.join(" "))))
}

/// Folders of a host that hold what only root may read.
pub(crate) const FOLDERS: [&str; 2] = [SETTINGS, super::order::DATA];
