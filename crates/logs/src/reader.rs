//! Streams of lines: one instance's, or several merged in order of their time.

use crate::cursor::Cursor;
use futures_util::stream::{BoxStream, Stream, StreamExt as _, unfold};
use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tutti_model::{
    ErrorCode, InstanceId, Problem,
    log::{LogLine, LogQuery, Output},
};

/// How often a follower looks for new lines. A person does not notice a tenth of a second, a look costs a few
/// microseconds, and unlike inotify it needs none of the 128 instances that a user may have by default.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Lines handed from the disk to the stream at once.
const BATCH_LINES: usize = 1024;

/// Most instances read by one query: each holds an open file.
pub const INSTANCES: usize = 1000;

/// Reads the logs of every instance below one folder: `root/INSTANCE/`.
#[derive(Debug, Clone)]
pub struct Reader {
    root: PathBuf,
}

impl Reader {
    /// Reads below `root`.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Reader { root }
    }

    /// The folder of one instance's log.
    #[must_use]
    pub fn folder(&self, instance: &InstanceId) -> PathBuf {
        self.root.join(instance.as_str())
    }

    /// The lines asked for, in order of their time as far as they were there; those that come later follow as they
    /// come. An instance without a log has no lines; a log that is removed ends.
    #[must_use]
    pub fn read(&self, query: LogQuery) -> BoxStream<'static, Result<LogLine, Problem>> {
        if query.instances.len() > INSTANCES {
            let problem = Problem::invalid(format!("more than {INSTANCES} instances in one query"));
            return futures_util::stream::once(async { Err(problem) }).boxed();
        }
        let folders = query.instances.iter().map(|id| (id.clone(), self.folder(id))).collect();
        lines(folders, query)
            .map(|line| {
                line.map_err(|error| Problem::new(ErrorCode::Unavailable, format!("reading logs: {error}")))
            })
            .boxed()
    }
}

/// One instance's lines; `query.instances` is not looked at.
pub fn read(
    folder: &Path,
    instance: InstanceId,
    query: LogQuery,
) -> impl Stream<Item = io::Result<LogLine>> + Send + use<> {
    lines(vec![(instance, folder.to_owned())], query)
}

/// The last `count` lines that the instance itself wrote, oldest first; fewer if there are fewer, or the log cannot be
/// read. Reads little, but from disk.
#[must_use]
pub fn last_lines(folder: &Path, count: usize) -> Vec<String> {
    // Tutti's own lines are left out, of which there are a few at each start and end.
    let generous = count.saturating_mul(2).saturating_add(16);
    let Ok(mut cursor) = Cursor::at_tail(folder.to_owned(), InstanceId::from_bits(0), generous) else {
        return Vec::new();
    };
    let mut lines = VecDeque::with_capacity(count.min(BATCH_LINES));
    while cursor.fill().is_ok() {
        let before = lines.len();
        while let Some(line) = cursor.take() {
            if line.output != Output::Tutti {
                lines.push_back(line.line);
            }
            if lines.len() > count {
                lines.pop_front();
            }
        }
        if cursor.at_end() || (lines.len() == before && cursor.gone()) {
            break;
        }
    }
    lines.into()
}

/// Where a stream of merged lines stands.
struct Merge {
    cursors: Vec<Cursor>,
    query: LogQuery,
    /// Lines to leave out before the first that is wanted.
    skip: usize,
}

/// What one look at the disk gave.
struct Batch {
    merge: Merge,
    lines: VecDeque<LogLine>,
    /// Whether everything that was there has been given.
    drained: bool,
    /// Whether nothing will ever come.
    over: bool,
}

enum State {
    Start(Vec<(InstanceId, PathBuf)>, LogQuery),
    Going(Batch),
    End,
}

fn lines(
    folders: Vec<(InstanceId, PathBuf)>,
    query: LogQuery,
) -> impl Stream<Item = io::Result<LogLine>> + Send + use<> {
    unfold(State::Start(folders, query), |mut state| async move {
        loop {
            state = match state {
                State::End => return None,
                State::Start(folders, query) => {
                    match off_executor(move || Merge::start(folders, query).and_then(Merge::batch)).await {
                        Ok(batch) => State::Going(batch),
                        Err(error) => return Some((Err(error), State::End)),
                    }
                }
                State::Going(mut batch) => {
                    if let Some(line) = batch.lines.pop_front() {
                        return Some((Ok(line), State::Going(batch)));
                    }
                    if batch.over || (batch.drained && !batch.merge.query.follow) {
                        return None;
                    }
                    if batch.drained {
                        tokio::time::sleep(LOOK_EVERY).await;
                    }
                    match off_executor(move || batch.merge.batch()).await {
                        Ok(batch) => State::Going(batch),
                        Err(error) => return Some((Err(error), State::End)),
                    }
                }
            };
        }
    })
}

async fn off_executor<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

impl Merge {
    fn start(folders: Vec<(InstanceId, PathBuf)>, query: LogQuery) -> io::Result<Merge> {
        let Some(count) = query.tail else {
            let cursors = folders.into_iter().map(|(id, folder)| Cursor::at_start(folder, id)).collect();
            return Ok(Merge { cursors, query, skip: 0 });
        };
        let tails = |folders: &[(InstanceId, PathBuf)]| -> io::Result<Vec<Cursor>> {
            folders.iter().map(|(id, folder)| Cursor::at_tail(folder.clone(), id.clone(), count)).collect()
        };
        // The last lines of each hold the last lines of all. Count them first, rather than keep them.
        let mut counting = Merge { cursors: tails(&folders)?, query: query.clone(), skip: 0 };
        let mut there = 0usize;
        while let Some(_line) = counting.next()? {
            there += 1;
        }
        Ok(Merge { cursors: tails(&folders)?, query, skip: there.saturating_sub(count) })
    }

    /// The next line in order of time; `None` when there is nothing more for now.
    fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            for cursor in &mut self.cursors {
                if cursor.peek().is_none() && !cursor.at_end() {
                    cursor.fill()?;
                }
            }
            let first = self
                .cursors
                .iter_mut()
                .filter(|cursor| cursor.peek().is_some())
                .min_by_key(|cursor| cursor.peek());
            let Some(line) = first.and_then(Cursor::take) else { return Ok(None) };
            if self.query.since.is_none_or(|since| line.at >= since) {
                return Ok(Some(line));
            }
        }
    }

    fn batch(mut self) -> io::Result<Batch> {
        // What had come to its end may have grown.
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.peek().is_none()) {
            cursor.fill()?;
        }
        let mut lines = VecDeque::new();
        let mut drained = false;
        while lines.len() < BATCH_LINES {
            match self.next()? {
                Some(_) if self.skip > 0 => self.skip -= 1,
                Some(line) => lines.push_back(line),
                None => {
                    drained = true;
                    break;
                }
            }
        }
        // What came between the count and now is not to be left out.
        if drained {
            self.skip = 0;
        }
        let over = drained && self.cursors.iter().all(Cursor::gone);
        Ok(Batch { merge: self, lines, drained, over })
    }
}

#[cfg(test)]
mod tests;
