//! The watch of every engine that keeps its own history: replay, then live, without a gap or a repeat.
//!
//! A watch is a stream that does nothing until it is polled; it has no task. It goes through these phases:
//!
//! 1. `Items` (only without a starting revision): pages of the list at the revision at which the watch was asked for.
//! 2. `Replay`: pages of history. Once it has caught up it registers for live commits *and then* asks for the current
//!    revision again, and replays to there. Whatever is committed after that answer is published after the
//!    registration, so nothing falls in between; what is in both is known by its revision.
//! 3. `Live`: what is published, less what was replayed.
//!
//! Registering only after the long replay means that a watcher far behind is not cut off for what was written while
//! it caught up.

use crate::{
    Change, List, Listing, Revision, StoreError, Watch, WatchEvent,
    watchers::{Commit, Live, Watchers, change_key},
};
use async_trait::async_trait;
use futures_util::stream;
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

/// Keys on one page of the initial list: at the largest value size a page is 16 MiB.
const ITEMS: usize = 64;

/// Where an engine's history begins and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The oldest revision that can be listed, and watched from.
    pub(crate) oldest: Revision,
    pub(crate) current: Revision,
}

impl Bounds {
    /// Whether the state as of `asked` is still, and already, known.
    pub(crate) fn check(self, asked: Revision) -> Result<(), StoreError> {
        if asked < self.oldest {
            return Err(StoreError::Compacted { asked, oldest: self.oldest });
        }
        if asked > self.current {
            return Err(StoreError::Future { asked, current: self.current });
        }
        Ok(())
    }
}

/// A part of history.
#[derive(Debug)]
pub(crate) struct Page {
    /// Whole transactions in order, with the changes below the prefix only; those without any are left out.
    pub(crate) commits: Vec<Commit>,
    /// Everything up to this revision is in here.
    pub(crate) through: Revision,
}

/// What a watch asks of its engine.
#[async_trait]
pub(crate) trait History: Send + Sync + 'static {
    async fn bounds(&self) -> Result<Bounds, StoreError>;
    async fn items(&self, list: List) -> Result<Listing, StoreError>;
    /// The changes below `prefix` after one revision and up to another, or a first part of them.
    async fn changes(&self, prefix: &str, after: Revision, upto: Revision) -> Result<Page, StoreError>;
    fn watchers(&self) -> &Arc<Watchers>;
}

/// Begins a watch. The watch does not keep the engine alive; it ends with `Unavailable` when that is gone.
pub(crate) async fn open(
    history: Arc<dyn History>,
    prefix: &str,
    after: Option<Revision>,
) -> Result<Watch, StoreError> {
    crate::check::prefix(prefix)?;
    let bounds = history.bounds().await?;
    let mut ready = VecDeque::new();
    let phase = match after {
        Some(after) => {
            bounds.check(after)?;
            Phase::Replay { position: after, upto: bounds.current, live: None }
        }
        None => {
            ready.push_back(WatchEvent::Init);
            Phase::Items { at: bounds.current, after: None }
        }
    };
    let watching = Watching { history: Arc::downgrade(&history), prefix: prefix.to_owned(), phase, ready };
    Ok(Box::pin(stream::unfold(watching, |mut watching| async {
        let next = watching.next().await?;
        if next.is_err() {
            watching.phase = Phase::Ended;
            watching.ready.clear();
        }
        Some((next, watching))
    })))
}

#[derive(Debug)]
enum Phase {
    /// The list as of `at`, from the key after `after` on.
    Items { at: Revision, after: Option<String> },
    /// History after `position` up to `upto`; registered for what follows once `live` is there.
    Replay { position: Revision, upto: Revision, live: Option<Live> },
    /// Everything up to `position` was told.
    Live { position: Revision, live: Live },
    /// An error was told.
    Ended,
}

struct Watching {
    history: Weak<dyn History>,
    prefix: String,
    phase: Phase,
    ready: VecDeque<WatchEvent>,
}

impl Watching {
    async fn next(&mut self) -> Option<Result<WatchEvent, StoreError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let advanced = match std::mem::replace(&mut self.phase, Phase::Ended) {
                Phase::Items { at, after } => self.items(at, after).await,
                Phase::Replay { position, upto, live } => self.replay(position, upto, live).await,
                Phase::Live { position, live } => self.live(position, live).await,
                Phase::Ended => return None,
            };
            match advanced {
                Ok(phase) => self.phase = phase,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn history(&self) -> Result<Arc<dyn History>, StoreError> {
        self.history.upgrade().ok_or_else(|| StoreError::Unavailable("it was closed".into()))
    }

    async fn items(&mut self, at: Revision, after: Option<String>) -> Result<Phase, StoreError> {
        let list = List { prefix: self.prefix.clone(), at: Some(at), after, limit: Some(ITEMS) };
        let listing = self.history()?.items(list).await?;
        let last = listing.entries.last().map(|entry| entry.key.clone());
        self.ready.extend(listing.entries.into_iter().map(WatchEvent::InitItem));
        if listing.more {
            return Ok(Phase::Items { at, after: last });
        }
        self.ready.push_back(WatchEvent::InitDone { revision: at });
        Ok(Phase::Replay { position: at, upto: at, live: None })
    }

    async fn replay(
        &mut self,
        position: Revision,
        upto: Revision,
        live: Option<Live>,
    ) -> Result<Phase, StoreError> {
        let history = self.history()?;
        if position < upto {
            let page = history.changes(&self.prefix, position, upto).await?;
            self.ready.extend(page.commits.iter().map(|commit| changes(commit.revision, &commit.changes)));
            return Ok(Phase::Replay { position: page.through.max(position), upto, live });
        }
        match live {
            Some(live) => Ok(Phase::Live { position, live }),
            None => {
                let live = history.watchers().register(&self.prefix)?;
                let upto = history.bounds().await?.current;
                Ok(Phase::Replay { position, upto, live: Some(live) })
            }
        }
    }

    async fn live(&mut self, position: Revision, mut live: Live) -> Result<Phase, StoreError> {
        let event = live.next().await?;
        if event.revision <= position {
            return Ok(Phase::Live { position, live });
        }
        self.ready.push_back(changes(event.revision, &event.changes));
        Ok(Phase::Live { position: event.revision, live })
    }
}

fn changes(revision: Revision, changes: &[Change]) -> WatchEvent {
    WatchEvent::Changes { revision, changes: changes.to_vec() }
}

/// The part of a commit below a prefix, if there is any.
pub(crate) fn below(commit: &Commit, prefix: &str) -> Option<Commit> {
    let changes: Arc<[Change]> =
        commit.changes.iter().filter(|change| change_key(change).starts_with(prefix)).cloned().collect();
    (!changes.is_empty()).then_some(Commit { revision: commit.revision, changes })
}

#[cfg(test)]
mod tests;
