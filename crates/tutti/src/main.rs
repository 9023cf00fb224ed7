//! The `tutti` binary: arguments, settings, and the wiring of roles. What a role does is in its crate.

mod agent;
mod args;
mod artifacts;
mod backup;
mod bootstrap;
mod claim;
mod control;
mod dev;
mod dns;
mod figures;
mod folder;
mod handover;
mod ingress;
mod join;
mod keys;
mod membership;
mod migrate;
mod node_api;
mod notices;
mod parts;
mod ready;
mod recovery;
mod server;
mod settings;
mod stop;

use args::{Command, StoreCommand, Tutti};
use clap::CommandFactory as _;
use settings::{
    AgentSettings, DnsSettings, Effective, IngressSettings, JoinSettings, ServerSettings, Settings,
};
use std::process::ExitCode;
use tutti_base::telemetry::Format;
use tutti_model::Problem;

fn main() -> ExitCode {
    // A shim is this program started again as the parent of one process, and a compiler is it for one component. They
    // must stay small, and begin single-threaded, so they branch off before anything else is made.
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(first) if first == "shim" => return tutti_isolate_linux::shim::entry(words),
        Some(first) if first == "compile" => return tutti_isolate_wasm::compiler::entry(words),
        _ => {}
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
                Ok(settings) => {
                    let (log, format) = (settings.log.clone(), settings.log_format);
                    runtime.block_on(role(&log, format, dev::run(settings, json)))
                }
                Err(faults) => refuse(&faults),
            }
        }
        Command::Agent(agent) => {
            let json = globals.output == tutti_cli::Format::Json;
            match agent.effective().and_then(|effective| AgentSettings::try_from(&effective)) {
                Ok(settings) => {
                    let (log, format) = (settings.log.clone(), settings.log_format);
                    let run = agent::run(settings, agent.stop_instances, json);
                    runtime.block_on(role(&log, format, run))
                }
                Err(faults) => refuse(&faults),
            }
        }
        Command::Ingress(ingress) => {
            let json = globals.output == tutti_cli::Format::Json;
            match ingress.effective().and_then(|effective| IngressSettings::try_from(&effective)) {
                Ok(settings) => {
                    let (log, format) = (settings.log.clone(), settings.log_format);
                    runtime.block_on(role(&log, format, ingress::run(settings, json)))
                }
                Err(faults) => refuse(&faults),
            }
        }
        Command::Dns(dns) => {
            let json = globals.output == tutti_cli::Format::Json;
            match dns.effective().and_then(|effective| DnsSettings::try_from(&effective)) {
                Ok(settings) => {
                    let (log, format) = (settings.log.clone(), settings.log_format);
                    runtime.block_on(role(&log, format, dns::run(settings, json)))
                }
                Err(faults) => refuse(&faults),
            }
        }
        Command::Server(server) => {
            let json = globals.output == tutti_cli::Format::Json;
            match server.effective(&globals).and_then(|effective| ServerSettings::try_from(&effective)) {
                Ok(settings) => {
                    let (log, format) = (settings.control.log.clone(), settings.control.log_format);
                    runtime.block_on(role(&log, format, server::run(settings, server.begins(), json)))
                }
                Err(faults) => refuse(&faults),
            }
        }
        Command::Join(join) => {
            let json = globals.output == tutti_cli::Format::Json;
            match join.effective(&globals).and_then(|effective| JoinSettings::try_from(&effective)) {
                Ok(settings) => runtime.block_on(role("warn", Format::Text, join::run(settings, json))),
                Err(faults) => refuse(&faults),
            }
        }
        Command::Bootstrap(asked) => match &asked.script {
            Some(host) => {
                bootstrap::script(&asked.file, host).err().map_or(ExitCode::SUCCESS, |faults| refuse(&faults))
            }
            None => runtime.block_on(whole("warn", Format::Text, bootstrap::run(&asked.file, asked.check))),
        },
        Command::Host { verb } => runtime.block_on(role("error", Format::Text, bootstrap::host(verb))),
        Command::Supervise => runtime.block_on(role("info", Format::Text, bootstrap::supervise())),
        Command::Store(StoreCommand::Migrate(stores)) => {
            let json = globals.output == tutti_cli::Format::Json;
            let run = migrate::run(&stores.from, &stores.to, json);
            runtime.block_on(role("warn", Format::Text, run))
        }
        Command::Store(StoreCommand::RecoveryKey(of)) => {
            match of.effective().and_then(|effective| Settings::try_from(&effective)) {
                Ok(settings) => {
                    runtime.block_on(role("warn", Format::Text, backup::new_recovery_key(settings)))
                }
                Err(faults) => refuse(&faults),
            }
        }
        Command::Backup(asked) => {
            let json = globals.output == tutti_cli::Format::Json;
            match asked.effective().and_then(|effective| Settings::try_from(&effective)) {
                Ok(settings) => {
                    let run = backup::run(settings, asked.asked(json));
                    runtime.block_on(role("warn", Format::Text, run))
                }
                Err(faults) => refuse(&faults),
            }
        }
        Command::Restore(asked) => {
            let json = globals.output == tutti_cli::Format::Json;
            match asked.effective().and_then(|effective| Settings::try_from(&effective)) {
                Ok(settings) => {
                    let run = backup::restore(settings, asked.asked(json));
                    runtime.block_on(role("warn", Format::Text, run))
                }
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

/// Runs a role until it ends.
async fn role(log: &str, format: Format, run: impl Future<Output = Result<(), Problem>>) -> ExitCode {
    whole(log, format, async { run.await.map_err(|problem| vec![problem]) }).await
}

/// The same for what says every fault at once.
async fn whole(log: &str, format: Format, run: impl Future<Output = Result<(), Vec<Problem>>>) -> ExitCode {
    // Stores, ledgers and logs hold what tenants keep secret. Whatever is for others says so where it is made.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if let Err(text) = tutti_base::telemetry::start(log, format) {
        return refuse(&[Problem::invalid(text)]);
    }
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => refuse(&faults),
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
