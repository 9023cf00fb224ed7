//! How a command ends: what it says when it failed, and its exit code.
//!
//! 0 is done, 1 that what was asked for failed (a deployment that did not reach its share), 2 that the command line
//! cannot be read, then one for each error code, and 130 for an interruption.

use crate::ui::{Tone, Ui};
use clap::Parser;
use std::{io, process::ExitCode};
use tutti_model::{ErrorCode, Problem};

/// What was asked for ran, and failed.
pub const FAILED: u8 = 1;
/// The command line cannot be read.
pub const USAGE: u8 = 2;
/// Interrupted from the keyboard, as shells count it.
pub const INTERRUPTED: u8 = 130;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failed {
    /// One problem.
    Problem(Problem),
    /// Several faults of the same thing.
    Faults(Vec<Problem>),
    /// Everything has been said; only the exit code is left.
    Said(u8),
    /// Whoever read our output has gone; there is nobody to tell.
    Unread,
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Failed::Problem(problem)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failed::Unread,
            _ => Failed::Problem(Problem::unavailable(format!("the output cannot be written: {error}"))),
        }
    }
}

impl Failed {
    /// Says why on standard error, and gives the exit code.
    pub(crate) fn report(&self, ui: &Ui) -> ExitCode {
        match self {
            Failed::Problem(problem) => {
                say(ui, problem);
                ExitCode::from(problem.code.exit_code())
            }
            Failed::Faults(problems) => {
                for problem in problems {
                    say(ui, problem);
                }
                ExitCode::from(problems.first().map_or(FAILED, |problem| problem.code.exit_code()))
            }
            Failed::Said(code) => ExitCode::from(*code),
            Failed::Unread => ExitCode::SUCCESS,
        }
    }
}

fn say(ui: &Ui, problem: &Problem) {
    let detail = ui.err_wrap(&problem.detail, "error: ".len());
    ui.note(&format!("{} {detail}", ui.err_paint(Tone::Bad, "error:")));
    if let Some(hint) = &problem.hint {
        let hint = ui.err_wrap(hint, "  hint: ".len());
        ui.note(&format!("  {} {hint}", ui.err_paint(Tone::Dim, "hint:")));
    }
}

/// Reads the process's own command line, or says what is wrong with it and gives the exit code.
///
/// # Errors
/// The exit code to end with: 0 after help and version, else [`USAGE`].
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| {
        let ui = Ui::of_process(crate::Format::Table);
        let words: Vec<String> =
            std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        match crate::usage::problem(&error, &C::command(), &words) {
            Some(problem) => {
                say(&ui, &problem);
                ExitCode::from(USAGE)
            }
            None => {
                let _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
            }
        }
    })
}

/// Every exit code with its meaning, in order.
pub fn table() -> impl Iterator<Item = (u8, String)> {
    let own = [
        (0, "done".to_owned()),
        (FAILED, "what was asked for ran and failed, such as a deployment that was aborted".to_owned()),
        (USAGE, "the command line cannot be read".to_owned()),
    ];
    let codes =
        ErrorCode::ALL.into_iter().map(|code| (code.exit_code(), format!("`{code}`: {}", code.title())));
    own.into_iter().chain(codes).chain([(INTERRUPTED, "interrupted; what was started goes on".to_owned())])
}
