//! The `tutti` binary: arguments, settings, and the wiring of roles. What a role does is in its crate.

mod args;
mod dev;
mod folder;
mod ready;
mod settings;

use args::{Command, Tutti};
use clap::CommandFactory as _;
use settings::{Effective, Settings};
use std::process::ExitCode;
use tutti_model::Problem;

fn main() -> ExitCode {
    // A shim is this program started again as the parent of one process. It must stay small and single-threaded, so it
    // branches off before anything else is made.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|first| first == "shim") {
        return tutti_isolate_linux::shim::entry(words);
    }
    let Tutti { globals, command } = match tutti_cli::parse::<Tutti>() {
        Ok(tutti) => tutti,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&[Problem::internal(format!("the runtime cannot start: {error}"))]),
    };
    match command {
        Command::Dev(dev) => {
            let json = globals.output == tutti_cli::Format::Json;
            match dev.effective(&globals).and_then(|effective| Settings::try_from(&effective)) {
                Ok(settings) => runtime.block_on(run_dev(settings, json)),
                Err(faults) => refuse(&faults),
            }
        }
        Command::Client(client) => {
            let rows = Effective::read(&args::surroundings()).as_ref().map(args::rows).unwrap_or_default();
            let program = tutti_cli::Program { command: Tutti::command(), settings: rows };
            let code = runtime.block_on(tutti_cli::run(globals, client, &program));
            // Whoever interrupts a command does not wait for a file that is still being read.
            runtime.shutdown_background();
            code
        }
    }
}

async fn run_dev(settings: Settings, json: bool) -> ExitCode {
    // Stores, ledgers and logs hold what tenants keep secret. Whatever is for others says so where it is made.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if let Err(text) = tutti_base::telemetry::start(&settings.log, settings.log_format) {
        return refuse(&[Problem::invalid(text)]);
    }
    match dev::run(settings, json).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => refuse(&[problem]),
    }
}

/// Says every fault, and gives the exit code of the first.
fn refuse(faults: &[Problem]) -> ExitCode {
    for problem in faults {
        eprintln!("error: {problem}");
        if let Some(hint) = &problem.hint {
            eprintln!("  hint: {hint}");
        }
    }
    ExitCode::from(faults.first().map_or(1, |problem| problem.code.exit_code()))
}
