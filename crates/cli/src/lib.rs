//! The command line: the tree of commands, the clouds it knows (contexts), tables, and live progress.
//!
//! Everything here is a client of the API. What starts a role (`tutti dev`) belongs to the binary, which adds it to
//! the same tree:
//!
//! ```ignore
//! #[derive(clap::Parser)]
//! struct Tutti {
//!     #[command(flatten)]
//!     globals: tutti_cli::Globals,
//!     #[command(subcommand)]
//!     command: Command,
//! }
//! #[derive(clap::Subcommand)]
//! enum Command {
//!     Dev(DevArgs),
//!     #[command(flatten)]
//!     Client(tutti_cli::ClientCommand),
//! }
//! ```
//!
//! Results go to standard output, progress and errors to standard error. Nothing is asked when nobody is there to
//! answer. Exit codes: see [`exit`].

mod api;
pub mod args;
mod bindings;
mod commands;
pub mod contexts;
mod effective;
pub mod exit;
mod live;
mod project;
mod push;
mod redact;
pub mod reference;
mod rollout;
mod table;
mod text;
mod ui;
mod usage;

pub use args::{Cli, ClientCommand, Globals, command};
pub use exit::parse;
pub use ui::Format;

use std::process::ExitCode;

/// What the binary knows and the client does not.
#[derive(Debug, Clone)]
pub struct Program {
    /// The whole tree, for completions.
    pub command: clap::Command,
    /// Further rows of `tutti config`: setting, value, where it came from.
    pub settings: Vec<(String, String, String)>,
}

impl Default for Program {
    fn default() -> Self {
        Program { command: command(), settings: Vec::new() }
    }
}

/// Runs one command to its end. Everything it has to say has been said when it returns.
pub async fn run(globals: Globals, command: ClientCommand, program: &Program) -> ExitCode {
    let ui = ui::Ui::of_process(globals.output);
    match commands::run(&globals, command, program, &ui).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => failed.report(&ui),
    }
}
