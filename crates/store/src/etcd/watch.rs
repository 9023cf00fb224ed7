//! Watches: one of etcd's for each, taken in as it comes.
//!
//! A watch begins with pages of the list at one revision, if it was asked for without one, and is etcd's from then on.
//! etcd is asked for what happened *from* the revision after which the watch is to begin, and that one is passed over:
//! asked for the next one, an etcd that has just been compacted to it would begin without what was removed in it.
//!
//! What etcd says is taken off the connection at once, so that a reader that is slow holds up no other. It waits in a
//! bounded buffer; a reader for whom that is not enough is cut off with [`StoreError::Lagged`] after what is in it.
//! A connection that breaks ends the watch, and whoever watched resumes. A watch that is left is cancelled and read to
//! its end: HTTP/2 counts small frames that nobody reads as an attack, and hangs up on all for it.

use super::{
    Shared,
    failure::Failure,
    keys::{Root, of_etcd, to_etcd},
    link::{ANSWER, ANSWER_BYTES, Connection, led},
    proto::{
        Event, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse, event::EventType,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
};
use crate::{
    Change, List, Revision, StoreError, Watch, WatchEvent,
    watchers::{WATCH_BYTES, WATCH_EVENTS, change_bytes, change_key},
};
use futures_util::{StreamExt as _, stream};
use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

/// What a watch is called in its stream, where there is no other.
const WATCH_ID: i64 = 1;
/// Keys on one page of the initial list.
const ITEMS: usize = super::read::PAGE;

/// One transaction's changes below a watch's prefix.
#[derive(Debug)]
struct Commit {
    revision: Revision,
    changes: Vec<Change>,
    bytes: usize,
}

/// Begins a watch.
pub(super) async fn open(
    shared: &Arc<Shared>,
    prefix: &str,
    after: Option<Revision>,
    place: OwnedSemaphorePermit,
) -> Result<Watch, StoreError> {
    let mut ready = VecDeque::new();
    let phase = match after {
        Some(after) => Phase::Live(Live::open(shared, prefix, after).await?),
        None => {
            ready.push_back(WatchEvent::Init);
            Phase::Items { at: of_etcd(shared.revision().await?), after: None }
        }
    };
    let watching =
        Watching { shared: Arc::downgrade(shared), prefix: prefix.to_owned(), phase, ready, _place: place };
    Ok(Box::pin(stream::unfold(watching, |mut watching| async {
        let next = watching.next().await?;
        if next.is_err() {
            watching.phase = Phase::Ended;
            watching.ready.clear();
        }
        Some((next, watching))
    })))
}

enum Phase {
    /// The list as of `at`, from the key after `after` on.
    Items { at: Revision, after: Option<String> },
    /// What etcd's watch says.
    Live(Live),
    /// An error was told.
    Ended,
}

struct Watching {
    shared: Weak<Shared>,
    prefix: String,
    phase: Phase,
    ready: VecDeque<WatchEvent>,
    _place: OwnedSemaphorePermit,
}

impl Watching {
    async fn next(&mut self) -> Option<Result<WatchEvent, StoreError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            match &mut self.phase {
                Phase::Items { at, after } => {
                    let (at, after) = (*at, after.take());
                    match self.items(at, after).await {
                        Ok(phase) => self.phase = phase,
                        Err(error) => return Some(Err(error)),
                    }
                }
                Phase::Live(live) => return Some(live.next().await),
                Phase::Ended => return None,
            }
        }
    }

    async fn items(&mut self, at: Revision, after: Option<String>) -> Result<Phase, StoreError> {
        let shared = self.shared.upgrade().ok_or_else(closed)?;
        let list = List { prefix: self.prefix.clone(), at: Some(at), after, limit: Some(ITEMS) };
        let listing = shared.list(list).await?;
        let last = listing.entries.last().map(|entry| entry.key.clone());
        self.ready.extend(listing.entries.into_iter().map(WatchEvent::InitItem));
        if listing.more {
            return Ok(Phase::Items { at, after: last });
        }
        let live = Live::open(&shared, &self.prefix, at).await?;
        self.ready.push_back(WatchEvent::InitDone { revision: at });
        Ok(Phase::Live(live))
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it was closed".into())
}

/// The reader's end of one of etcd's watches. Dropping it ends the watch.
struct Live {
    commits: mpsc::Receiver<Commit>,
    /// Bytes in the buffer.
    held: Arc<AtomicUsize>,
    /// Why it ended, for when the buffer is empty.
    end: Arc<OnceLock<StoreError>>,
}

impl Live {
    async fn open(shared: &Arc<Shared>, prefix: &str, after: Revision) -> Result<Live, StoreError> {
        let Some(from) = to_etcd(after) else { return Err(shared.future(after).await) };
        let (key, range_end) = shared.root.below(prefix);
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: from,
            fragment: true,
            watch_id: WATCH_ID,
            ..WatchCreateRequest::default()
        };
        let connection = shared.link.connection().await?;
        let (answers, cancel, now) = match begin(&connection, create).await {
            Ok(begun) => begun,
            Err(failure) => {
                if failure.is_of_the_member() {
                    shared.link.leave(&connection, &format!("{failure:?}"));
                }
                return Err(failure.into());
            }
        };
        // A member may be behind the others, and then it may be the revision that is right.
        if now < from && shared.revision().await? < from {
            return Err(shared.future(after).await);
        }
        let (sender, commits) = mpsc::channel(WATCH_EVENTS);
        let (held, end) = (Arc::<AtomicUsize>::default(), Arc::<OnceLock<StoreError>>::default());
        let intake = Intake {
            assembly: Assembly::new(shared.root.clone(), from),
            sender,
            held: Arc::clone(&held),
            end: Arc::clone(&end),
            member: connection.member,
            cancel,
            closing: shared.closing.clone(),
        };
        tokio::spawn(intake.run(answers));
        Ok(Live { commits, held, end })
    }

    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        match self.commits.recv().await {
            Some(commit) => {
                self.held.fetch_sub(commit.bytes, Ordering::AcqRel);
                Ok(WatchEvent::Changes { revision: commit.revision, changes: commit.changes })
            }
            None => Err(self.end.get().cloned().unwrap_or_else(closed)),
        }
    }
}

/// Asks for a watch, and gives what etcd says in it, what cancels it when dropped, and the revision that the member is
/// at.
async fn begin(
    connection: &Connection,
    create: WatchCreateRequest,
) -> Result<(Streaming<WatchResponse>, oneshot::Sender<()>, i64), Failure> {
    let (cancel, cancelled) = oneshot::channel();
    let begun = async {
        let request = |request| WatchRequest { request_union: Some(request) };
        let first = request(RequestUnion::CreateRequest(create));
        let last = stream::once(async move {
            // Sent by nobody: its sender is dropped.
            let _ = cancelled.await;
            request(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: WATCH_ID }))
        });
        // It stays open: whoever says no more has hung up.
        let requests = stream::iter([first]).chain(last).chain(stream::pending());
        let mut client = WatchClient::new(connection.channel.clone()).max_decoding_message_size(ANSWER_BYTES);
        let mut answers = client.watch(led(requests)).await?.into_inner();
        let first = answers.message().await?;
        Ok((answers, first))
    };
    let member = &connection.member;
    let (answers, first) = tokio::time::timeout(ANSWER, begun)
        .await
        .map_err(|_| Failure::late(member, ANSWER))?
        .map_err(|status: tonic::Status| Failure::of(&status, member))?;
    match first {
        Some(first) if first.created && !first.canceled => {
            Ok((answers, cancel, first.header.map_or(0, |header| header.revision)))
        }
        Some(first) => Err(Failure::Invalid(format!("etcd at {member}: {}", first.cancel_reason))),
        None => Err(Failure::Unknown(format!("etcd at {member}: the watch did not begin"))),
    }
}

/// Takes in what etcd says, until it ends, the reader has left, or it is too slow.
struct Intake {
    assembly: Assembly,
    sender: mpsc::Sender<Commit>,
    held: Arc<AtomicUsize>,
    end: Arc<OnceLock<StoreError>>,
    member: Arc<str>,
    cancel: oneshot::Sender<()>,
    closing: CancellationToken,
}

impl Intake {
    async fn run(mut self, mut answers: Streaming<WatchResponse>) {
        let error = loop {
            let answer = tokio::select! {
                biased;
                () = self.sender.closed() => break closed(),
                () = self.closing.cancelled() => break closed(),
                answer = answers.message() => answer,
            };
            let taken = match answer {
                Ok(Some(answer)) => self.take(answer),
                Ok(None) => Err(StoreError::Unavailable(format!("etcd at {} ended the watch", self.member))),
                Err(status) => Err(Failure::of(&status, &self.member).into()),
            };
            if let Err(error) = taken {
                break error;
            }
        };
        // Told after what is in the buffer: the reader sees it when this sender is gone.
        let _ = self.end.set(error);
        drop((self.sender, self.cancel));
        let rest =
            async { while let Ok(Some(WatchResponse { canceled: false, .. })) = answers.message().await {} };
        let _ = tokio::time::timeout(ANSWER, rest).await;
    }

    fn take(&mut self, answer: WatchResponse) -> Result<(), StoreError> {
        if answer.compact_revision > 0 {
            let asked = of_etcd(self.assembly.position);
            return Err(StoreError::Compacted { asked, oldest: of_etcd(answer.compact_revision) });
        }
        if answer.canceled {
            let why = &answer.cancel_reason;
            return Err(StoreError::Unavailable(format!("etcd at {} ended the watch: {why}", self.member)));
        }
        for commit in self.assembly.take(answer)? {
            let held = self.held.fetch_add(commit.bytes, Ordering::AcqRel);
            if held > 0 && held + commit.bytes > WATCH_BYTES {
                return Err(StoreError::Lagged);
            }
            self.sender.try_send(commit).map_err(|_| StoreError::Lagged)?;
        }
        Ok(())
    }
}

/// Makes whole transactions of what etcd says. It keeps one together unless it says that more of it follows.
#[derive(Debug)]
struct Assembly {
    root: Root,
    /// etcd's revision after which the watch began.
    from: i64,
    /// Everything up to etcd's revision was given.
    position: i64,
    /// What is known of the next one, and of which revision it is.
    next: Vec<Change>,
    revision: i64,
    bytes: usize,
}

impl Assembly {
    fn new(root: Root, from: i64) -> Assembly {
        Assembly { root, from, position: from, next: Vec::new(), revision: from, bytes: 0 }
    }

    fn take(&mut self, answer: WatchResponse) -> Result<Vec<Commit>, StoreError> {
        let mut commits = Vec::new();
        for event in answer.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if revision == self.from {
                continue;
            }
            if revision > self.revision {
                commits.extend(self.whole());
                self.revision = revision;
            }
            if revision != self.revision || revision <= self.position {
                return Err(StoreError::Corrupt(format!(
                    "etcd told of its revision {revision} after {}",
                    self.revision.max(self.position)
                )));
            }
            let change = self.change(event)?;
            self.bytes += change_bytes(&change);
            // Far more than a transaction may have: only a lease with that many keys ends so.
            if self.bytes > WATCH_BYTES {
                return Err(StoreError::Corrupt(format!(
                    "etcd's revision {revision} changed more than a watch can hold, {WATCH_BYTES} bytes"
                )));
            }
            self.next.push(change);
        }
        if !answer.fragment {
            commits.extend(self.whole());
        }
        Ok(commits)
    }

    fn whole(&mut self) -> Option<Commit> {
        if self.next.is_empty() {
            return None;
        }
        self.position = self.revision;
        let mut changes = std::mem::take(&mut self.next);
        changes.sort_by(|a, b| change_key(a).cmp(change_key(b)));
        let bytes = std::mem::take(&mut self.bytes);
        Some(Commit { revision: of_etcd(self.revision), changes, bytes })
    }

    fn change(&self, event: Event) -> Result<Change, StoreError> {
        let kind = event.r#type();
        let kv = event.kv.unwrap_or_default();
        Ok(match kind {
            EventType::Put => Change::Put(self.root.entry(&kv)?),
            EventType::Delete => Change::Delete { key: self.root.name(&kv.key)? },
        })
    }
}

#[cfg(test)]
mod tests;
