//! Logging of the product itself: one line an event, to standard error, and the last lines of it in memory, for whoever
//! asks a running process what it said.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};
use tracing_subscriber::{EnvFilter, fmt};

/// Most bytes of the last lines that are kept: some thousand lines, and little beside what a process takes anyway.
pub const RECENT_BYTES: usize = 512 * 1024;

static RECENT: Mutex<Recent> = Mutex::new(Recent::new());

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Starts logging to standard error. `filter` is in tracing's syntax (`info`, `tutti_agent=debug,warn`).
///
/// # Errors
/// The filter's fault, if it cannot be read.
pub fn start(filter: &str, format: Format) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log filter \"{filter}\": {error}"))?;
    let builder = fmt().with_env_filter(filter).with_writer(|| Both).with_target(true);
    let started = match format {
        Format::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        Format::Json => builder.json().try_init(),
    };
    started.map_err(|error| format!("logging was started already: {error}"))
}

/// The last lines that were logged, the oldest first; at most [`RECENT_BYTES`].
#[must_use]
pub fn recent() -> String {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.lines.iter().map(String::as_str).collect()
}

/// Standard error and the last lines. Each event comes as one write.
struct Both;

impl Write for Both {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        RECENT.lock().unwrap_or_else(PoisonError::into_inner).push(&String::from_utf8_lossy(event));
        io::stderr().write_all(event)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The last events, within [`RECENT_BYTES`].
#[derive(Debug)]
struct Recent {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Recent {
    const fn new() -> Self {
        Recent { lines: VecDeque::new(), bytes: 0 }
    }

    fn push(&mut self, event: &str) {
        let mut event = uncoloured(event);
        if event.len() > RECENT_BYTES / 8 {
            event.truncate(event.floor_char_boundary(RECENT_BYTES / 8));
            event.push_str("…\n");
        }
        self.bytes += event.len();
        self.lines.push_back(event);
        while self.bytes > RECENT_BYTES {
            match self.lines.pop_front() {
                Some(oldest) => self.bytes -= oldest.len(),
                None => return,
            }
        }
    }
}

/// The text without the colours of a terminal.
fn uncoloured(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |whole, part| match part.split_once('m') {
        Some((code, rest)) if code.chars().all(|c| c.is_ascii_digit() || c == ';') => whole + rest,
        _ => whole + "\u{fffd}[" + part,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_within_their_bound() {
        let mut recent = Recent::new();
        for number in 0..100_000 {
            recent.push(&format!("{number} something happened\n"));
        }
        let whole: String = recent.lines.iter().map(String::as_str).collect();
        assert_eq!(whole.len(), recent.bytes);
        assert!(whole.len() <= RECENT_BYTES && whole.len() > RECENT_BYTES - 100);
        assert!(whole.ends_with("99999 something happened\n"));
        recent.push(&"ü".repeat(RECENT_BYTES));
        assert!(recent.bytes <= RECENT_BYTES && recent.lines.len() > 1);
    }

    #[test]
    fn colours_are_left_out() {
        assert_eq!(
            uncoloured("\u{1b}[2m06:10\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m said\n"),
            "06:10  INFO said\n"
        );
        assert_eq!(uncoloured("no\u{1b}[2J"), "no\u{fffd}[2J");
    }
}
