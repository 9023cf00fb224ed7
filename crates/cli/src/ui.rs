//! Where output goes, and how it looks there.

use crate::text;
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};
use tutti_model::Problem;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// What a piece of text stands for, and so its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Not as it should be.
    Bad,
    /// Of lesser interest.
    Dim,
    /// A title.
    Title,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Good => "\x1b[32m",
            Tone::Busy => "\x1b[33m",
            Tone::Bad => "\x1b[31m",
            Tone::Dim => "\x1b[2m",
            Tone::Title => "\x1b[1m",
        }
    }

    /// The text in this tone's colour.
    pub(crate) fn paint(self, text: &str) -> String {
        match self.code() {
            "" => text.to_owned(),
            code => format!("{code}{text}\x1b[0m"),
        }
    }
}

/// Width of tables where no terminal says another.
pub(crate) const WIDTH: usize = 80;
/// The narrowest width that tables are made for.
const NARROWEST: usize = 40;

/// Where output goes, and how it looks there.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    /// How results are written.
    pub(crate) format: Format,
    /// Whether standard output is a terminal, on which a picture can be redrawn.
    pub(crate) terminal: bool,
    /// Whether standard error is a terminal, on which progress can move.
    pub(crate) err_terminal: bool,
    /// Whether somebody could answer a question.
    pub(crate) answers: bool,
    colour: bool,
    err_colour: bool,
    /// Columns of a table.
    pub(crate) width: usize,
    /// Columns of standard error.
    pub(crate) err_width: usize,
    /// Lines of the screen.
    pub(crate) height: usize,
}

impl Ui {
    /// As this process was started.
    pub(crate) fn of_process(format: Format) -> Self {
        let (terminal, err_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let seen = terminal.then(|| terminal_size::terminal_size_of(io::stdout())).flatten();
        let (width, height) =
            seen.map_or((WIDTH, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        let err_seen = err_terminal.then(|| terminal_size::terminal_size_of(io::stderr())).flatten();
        let err_width = err_seen.map_or(WIDTH, |(width, _)| usize::from(width.0));
        Ui {
            format,
            terminal,
            err_terminal,
            answers: terminal && io::stdin().is_terminal(),
            colour: terminal && !plain,
            err_colour: err_terminal && !plain,
            width: width.max(NARROWEST),
            err_width: err_width.max(NARROWEST),
            height,
        }
    }

    /// Writes text to standard output, its last line ended.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') && !text.is_empty() {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Says something beside the result, on standard error. Nobody to hear it is no failure.
    pub(crate) fn note(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Prose for standard output, whose first line starts at column `indent`: broken between words on a terminal, and
    /// one line elsewhere, where it may be searched.
    pub(crate) fn wrap(&self, text: &str, indent: usize) -> String {
        if self.terminal { text::wrap(text, self.width, indent) } else { text.to_owned() }
    }

    /// The same for standard error.
    pub(crate) fn err_wrap(&self, text: &str, indent: usize) -> String {
        if self.err_terminal { text::wrap(text, self.err_width, indent) } else { text.to_owned() }
    }

    /// Text in a colour of standard output.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        if self.colour { tone.paint(text) } else { text.to_owned() }
    }

    /// Text in a colour of standard error.
    pub(crate) fn err_paint(&self, tone: Tone, text: &str) -> String {
        if self.err_colour { tone.paint(text) } else { text.to_owned() }
    }

    /// Whether standard output takes colours.
    pub(crate) const fn colour(&self) -> bool {
        self.colour
    }

    /// Writes a result: as `people` makes it, or the value itself as JSON or YAML.
    pub(crate) fn result<T: Serialize>(
        &self,
        value: &T,
        people: impl FnOnce() -> String,
    ) -> Result<(), crate::exit::Failed> {
        let text = match self.format {
            Format::Table => people(),
            Format::Json => serde_json::to_string_pretty(value).map_err(|error| unwritable(&error))?,
            Format::Yaml => yaml(value)?,
        };
        Ok(self.print(&text)?)
    }

    /// Writes one of many results in a row: a line of JSON, or a document of YAML.
    pub(crate) fn event<T: Serialize>(&self, value: &T) -> Result<(), crate::exit::Failed> {
        let text = match self.format {
            Format::Yaml => format!("---\n{}", yaml(value)?),
            Format::Table | Format::Json => {
                serde_json::to_string(value).map_err(|error| unwritable(&error))?
            }
        };
        Ok(self.print(&text)?)
    }

    /// Asks whether to go on; with nobody there to answer, the command line was the answer.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool, crate::exit::Failed> {
        if !self.answers {
            return Ok(true);
        }
        let mut out = io::stdout().lock();
        write!(out, "{question} [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

fn unwritable(error: &serde_json::Error) -> Problem {
    Problem::internal(format!("the result cannot be written as JSON: {error}"))
}

/// YAML of what the JSON would be, so that both have the same shape.
pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String, Problem> {
    let value = serde_json::to_value(value).map_err(|error| unwritable(&error))?;
    serde_saphyr::to_string(&value)
        .map_err(|error| Problem::internal(format!("the result cannot be written as YAML: {error}")))
}
