//! Logging of the product itself: one line an event, to standard error.

use tracing_subscriber::{EnvFilter, fmt};

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
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let started = match format {
        Format::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        Format::Json => builder.json().try_init(),
    };
    started.map_err(|error| format!("logging was started already: {error}"))
}
