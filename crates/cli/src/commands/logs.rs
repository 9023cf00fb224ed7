//! `tutti logs`: what instances write, followed through restarts of control.

use super::{Session, now};
use crate::{Format, args::LogsArgs, exit::Failed, text, ui::Tone};
use futures_util::StreamExt as _;
use tutti_api::client::{LogScope, LogsRequest};
use tutti_base::{Backoff, Random};
use tutti_model::{
    ErrorCode, InstanceId, Millis, Problem, Timestamp,
    log::{LogLine, Output},
    name::{ServiceText, VersionText},
};

/// Lines shown unless more are asked for: some screens.
const TAIL: usize = 100;
/// Pauses before a followed log is opened again.
const FIRST_PAUSE: Millis = Millis(200);
/// The longest of them.
const LONGEST_PAUSE: Millis = Millis::seconds(5);

pub(super) async fn logs(session: &Session<'_>, args: &LogsArgs) -> Result<(), Failed> {
    let since = args.since.map(|span| Timestamp(now().0.saturating_sub(span.0)));
    let tail = args.tail.or_else(|| since.is_none().then_some(TAIL));
    let mut request =
        LogsRequest { scope: scope(&args.of)?, tail, since, follow: args.follow, previous: args.previous };
    let mut told = Told::default();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, Random::from_os());
    let mut first = true;
    loop {
        let ended = read(session, &request, &mut told, &mut backoff).await;
        match ended {
            Ok(()) if !args.follow => {
                if told.at.is_none() {
                    note_nothing(session, args);
                }
                return Ok(());
            }
            Ok(()) => {}
            Err(Failed::Problem(problem)) if args.follow && !first && passes(&problem) => {
                if backoff.failures() == 0 {
                    session.ui.note(&session.ui.err_paint(Tone::Dim, &format!("{problem}; trying again")));
                }
            }
            Err(failed) => return Err(failed),
        }
        first = false;
        tokio::time::sleep(backoff.fail().duration()).await;
        // From the last line on; those of the same moment that were shown are left out.
        if let Some(at) = told.at {
            request.since = Some(at);
            request.tail = None;
        }
    }
}

/// Says, beside the empty result, that it is empty, and where else to look.
fn note_nothing(session: &Session<'_>, args: &LogsArgs) {
    let of = &args.of;
    session.ui.note(&match args.since {
        Some(since) => format!("no lines of {of} in the last {since}"),
        None if args.previous => {
            format!("no lines of {of}: no instance of it has ended, or none of those wrote any")
        }
        None => format!("no lines of {of}: no instance of it whose lines are kept has written any"),
    });
    session.ui.note(&format!("  hint: why that is so: tutti explain {of}"));
}

fn scope(of: &str) -> Result<LogScope, Problem> {
    if let Ok(instance) = of.parse::<InstanceId>() {
        return Ok(LogScope::Instance(instance.to_string()));
    }
    if of.contains('@') {
        return Ok(LogScope::Version(of.parse::<VersionText>()?.to_string()));
    }
    Ok(LogScope::Service(of.parse::<ServiceText>()?.to_string()))
}

fn passes(problem: &Problem) -> bool {
    matches!(problem.code, ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::QuotaExceeded)
}

async fn read(
    session: &Session<'_>,
    request: &LogsRequest,
    told: &mut Told,
    backoff: &mut Backoff,
) -> Result<(), Failed> {
    let mut lines = session.client.logs(request).await?;
    told.again();
    while let Some(line) = lines.next().await {
        let line = line?;
        backoff.succeed();
        if told.is_new(&line) {
            show(session, &line)?;
        }
    }
    Ok(())
}

/// Which lines were shown, as far as they could come again.
#[derive(Debug, Default)]
struct Told {
    /// The moment of the last line.
    at: Option<Timestamp>,
    /// The lines of that moment.
    lines: Vec<LogLine>,
    /// Those of them that did not come again yet.
    expected: Vec<LogLine>,
}

impl Told {
    /// The log is opened again, from that moment on.
    fn again(&mut self) {
        self.expected.clone_from(&self.lines);
    }

    fn is_new(&mut self, line: &LogLine) -> bool {
        if let Some(index) = self.expected.iter().position(|shown| shown == line) {
            self.expected.swap_remove(index);
            return false;
        }
        if self.at.is_none_or(|at| line.at > at) {
            self.at = Some(line.at);
            self.lines.clear();
        }
        if self.at == Some(line.at) {
            self.lines.push(line.clone());
        }
        true
    }
}

fn show(session: &Session<'_>, line: &LogLine) -> Result<(), Failed> {
    if session.ui.format != Format::Table {
        return session.ui.event(line);
    }
    let tone = match line.output {
        Output::Stdout => Tone::Plain,
        Output::Stderr => Tone::Busy,
        Output::Tutti => Tone::Dim,
    };
    let head = format!("{}  {}", text::moment(line.at), line.instance);
    let said = text::harmless(&line.line);
    let said = if line.output == Output::Tutti { format!("[tutti] {said}") } else { said };
    Ok(session.ui.print(&format!(
        "{}  {}",
        session.ui.paint(Tone::Dim, &head),
        session.ui.paint(tone, &said)
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, text: &str) -> LogLine {
        LogLine {
            at: Timestamp(at),
            instance: InstanceId::from_bits(1),
            output: Output::Stdout,
            line: text.into(),
        }
    }

    #[test]
    fn what_was_shown_is_not_shown_again_and_nothing_else_is_left_out() {
        let mut told = Told::default();
        for new in [line(1, "a"), line(2, "b"), line(2, "b"), line(2, "c")] {
            assert!(told.is_new(&new));
        }
        told.again();
        // The same moment comes again, with one line that was still on its way, and one that was written twice.
        let again = [line(2, "b"), line(2, "b"), line(2, "c"), line(2, "b"), line(2, "d"), line(3, "a")];
        let new: Vec<bool> = again.iter().map(|line| told.is_new(line)).collect();
        assert_eq!(new, [false, false, false, true, true, true]);
    }

    #[test]
    fn knows_what_is_meant() {
        assert!(matches!(scope("i-0123456789"), Ok(LogScope::Instance(_))));
        assert!(matches!(scope("example.com:web@1.0"), Ok(LogScope::Version(_))));
        assert!(matches!(scope("example.com:web"), Ok(LogScope::Service(_))));
        assert!(scope("Example").is_err());
    }
}
