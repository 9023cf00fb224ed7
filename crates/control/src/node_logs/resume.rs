//! One other node's lines, read on after its stream broke off: an agent that is started again has them all on disk.

use super::{At, Lines};
use futures_util::{StreamExt as _, stream};
use std::{collections::BTreeMap, sync::Arc};
use tutti_base::Clock;
use tutti_model::{
    InstanceId, Millis, Problem, Timestamp,
    log::{LogLine, LogQuery, Output},
};

/// The pause before a node that was lost is asked again: the reader sees it come back soon, and one that is away for
/// long is asked seldom enough.
const PAUSE: Millis = Millis::seconds(1);

/// The lines of one node. A loss is said once, as a line; lines that are followed go on once it is back, each line of an
/// instance once.
pub(super) fn lines(at: At, query: LogQuery, clock: Arc<dyn Clock>) -> Lines {
    let asked = clock.now();
    let reading = Reading {
        seen: query.instances.iter().map(|id| (id.clone(), Seen { at: None, lines: 0, again: 0 })).collect(),
        at,
        query,
        clock,
        asked,
        lines: None,
        is_lost: false,
        over: false,
    };
    stream::unfold(reading, |mut reading| async move {
        let line = reading.next().await?;
        Some((Ok(line), reading))
    })
    .boxed()
}

/// How far an instance's lines were given.
#[derive(Debug)]
struct Seen {
    /// The moment of the last line.
    at: Option<Timestamp>,
    /// Lines of that moment.
    lines: usize,
    /// How many of these did not come again yet, after the stream was opened again.
    again: usize,
}

struct Reading {
    at: At,
    query: LogQuery,
    clock: Arc<dyn Clock>,
    asked: Timestamp,
    seen: BTreeMap<InstanceId, Seen>,
    lines: Option<Lines>,
    is_lost: bool,
    over: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<LogLine> {
        loop {
            if self.over {
                return None;
            }
            let Some(lines) = &mut self.lines else {
                match self.at.read(self.query.clone()).await {
                    Ok(lines) => {
                        self.is_lost = false;
                        self.lines = Some(lines);
                    }
                    Err(problem) => {
                        if let Some(said) = self.lost(&problem).await {
                            return Some(said);
                        }
                    }
                }
                continue;
            };
            match lines.next().await {
                Some(Ok(line)) => {
                    if self.is_new(&line) {
                        return Some(line);
                    }
                }
                Some(Err(problem)) => {
                    if let Some(said) = self.lost(&problem).await {
                        return Some(said);
                    }
                }
                // What is followed ends only with its node.
                None if self.query.follow => {
                    if let Some(said) = self.lost(&Problem::unavailable("its agent has ended")).await {
                        return Some(said);
                    }
                }
                None => return None,
            }
        }
    }

    /// Notes that the node does not answer; gives what is to be said of it, the first time.
    async fn lost(&mut self, problem: &Problem) -> Option<LogLine> {
        self.lines = None;
        self.over = !self.query.follow;
        self.go_on_from_here();
        if std::mem::replace(&mut self.is_lost, true) {
            self.clock.sleep(PAUSE).await;
            return None;
        }
        let instance = self.query.instances.first()?.clone();
        let line =
            format!("node {} does not answer, and its lines are missing here: {problem}", self.at.node);
        Some(LogLine { at: self.clock.now(), instance, output: Output::Tutti, line })
    }

    /// The next query asks for what was not given yet, and the last moment once more.
    fn go_on_from_here(&mut self) {
        for seen in self.seen.values_mut() {
            seen.again = seen.lines;
        }
        // Before anything was read, the query is still as it was asked.
        if self.seen.values().all(|seen| seen.at.is_none()) {
            return;
        }
        // Of an instance without a line so far, what it wrote before it was asked was not wanted.
        let oldest = self.seen.values_mut().map(|seen| *seen.at.get_or_insert(self.asked)).min();
        self.query.since = oldest.max(self.query.since);
        self.query.tail = None;
    }

    fn is_new(&mut self, line: &LogLine) -> bool {
        let Some(seen) = self.seen.get_mut(&line.instance) else { return true };
        match seen.at {
            Some(at) if line.at < at => return false,
            Some(at) if line.at == at => {
                if seen.again > 0 {
                    seen.again -= 1;
                    return false;
                }
                seen.lines += 1;
            }
            _ => *seen = Seen { at: Some(line.at), lines: 1, again: 0 },
        }
        true
    }
}
