//! Several nodes' lines as one stream in order of time.
//!
//! What is there when it is asked for comes in order. What is followed comes in order too as long as nodes are not
//! further apart than [`HOLD`]: a line waits that long for an older one of another node that had been writing, and a
//! node that had nothing for so long is not waited for until it has something again.

use super::Lines;
use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{self, Peekable},
};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tutti_model::{Problem, Timestamp, log::LogLine};

/// How long a followed line waits for another node's. A person does not see it; a node on the same machine looks for new
/// lines twice as often.
const HOLD: Duration = Duration::from_millis(200);
/// Most lines held to find the last ones of several nodes. Who asks for more gets those of each node.
const TAIL: usize = 10_000;

/// One node's lines.
struct Part {
    lines: Pin<Box<Peekable<Lines>>>,
    /// It had nothing when it was waited for last.
    idle: bool,
}

impl Part {
    /// Ready once there is a line, or the end of them.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.lines.as_mut().poll_peek(context).map(|_| ())
    }

    /// The next line if it is there, `Some(None)` at their end.
    fn now(&mut self) -> Option<Option<&Result<LogLine, Problem>>> {
        match self.lines.as_mut().poll_peek(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        }
    }
}

/// Merges the parts; of what was there already only the last `tail` lines.
pub(super) fn lines(mut parts: Vec<Lines>, tail: Option<usize>, follow: bool, now: Timestamp) -> Lines {
    if parts.len() < 2 {
        return parts.pop().unwrap_or_else(|| stream::empty().boxed());
    }
    let parts =
        parts.into_iter().map(|lines| Part { lines: Box::pin(lines.peekable()), idle: false }).collect();
    let merge = Merge { parts, follow, past: tail.filter(|tail| *tail <= TAIL), now, kept: VecDeque::new() };
    stream::unfold(merge, |mut merge| async move {
        let line = merge.next().await?;
        Some((line, merge))
    })
    .boxed()
}

struct Merge {
    parts: Vec<Part>,
    follow: bool,
    /// How many lines of the past are wanted, while it is being read.
    past: Option<usize>,
    /// When it was asked: what is younger is not of the past.
    now: Timestamp,
    /// Lines to be given before any other.
    kept: VecDeque<LogLine>,
}

impl Merge {
    async fn next(&mut self) -> Option<Result<LogLine, Problem>> {
        if let Some(tail) = self.past.take()
            && let Err(problem) = self.read_past(tail).await
        {
            return Some(Err(problem));
        }
        match self.kept.pop_front() {
            Some(line) => Some(Ok(line)),
            None => self.oldest().await,
        }
    }

    /// Keeps the last lines of all that is there now.
    async fn read_past(&mut self, tail: usize) -> Result<(), Problem> {
        while self.wait().await {
            let Some(line) = self.take() else { break };
            let line = line?;
            let is_past = line.at <= self.now;
            self.kept.push_back(line);
            if !is_past {
                break;
            }
            if self.kept.len() > tail {
                self.kept.pop_front();
            }
        }
        Ok(())
    }

    /// The oldest line that is there, waiting for one if there is none.
    async fn oldest(&mut self) -> Option<Result<LogLine, Problem>> {
        loop {
            if self.parts.is_empty() {
                return None;
            }
            if !self.wait().await {
                let parts = &mut self.parts;
                poll_fn(|context| {
                    let any = parts.iter_mut().any(|part| part.poll(context).is_ready());
                    if any { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
            if let Some(line) = self.take() {
                return Some(line);
            }
        }
    }

    /// Waits until every part that is not idle has a line or has ended, when lines are followed at most for [`HOLD`].
    /// Whether there is a line, or an end.
    async fn wait(&mut self) -> bool {
        let (parts, follow) = (&mut self.parts, self.follow);
        let all = poll_fn(|context| {
            let waited = parts.iter_mut().filter(|part| !part.idle || !follow);
            let missing = waited.filter_map(|part| part.poll(context).is_pending().then_some(())).count();
            if missing == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        if follow {
            // Whoever is late is found out below.
            let _ = tokio::time::timeout(HOLD, all).await;
        } else {
            all.await;
        }
        let mut any = false;
        for part in &mut self.parts {
            part.idle = part.now().is_none();
            any |= !part.idle;
        }
        any
    }

    /// Takes the oldest line of those that are there, and leaves out the parts that have ended.
    fn take(&mut self) -> Option<Result<LogLine, Problem>> {
        let mut oldest: Option<(usize, u64)> = None;
        let mut ended = Vec::new();
        for (index, part) in self.parts.iter_mut().enumerate() {
            match part.now() {
                None => {}
                Some(None) => ended.push(index),
                Some(Some(line)) => {
                    let at = line.as_ref().map_or(0, |line| line.at.0);
                    if oldest.is_none_or(|(_, oldest)| at < oldest) {
                        oldest = Some((index, at));
                    }
                }
            }
        }
        let line = oldest.and_then(|(index, _)| self.parts.get_mut(index)?.lines.next().now_or_never()?);
        for index in ended.into_iter().rev() {
            self.parts.remove(index);
        }
        line
    }
}
