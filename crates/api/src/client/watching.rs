//! Watches that resume by themselves.

use super::{Client, Query, calls::Filter, fault, lines::Lines};
use crate::{
    watch::{WatchEvent, WatchStream},
    wire::ProblemBody,
};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tutti_base::Backoff;
use tutti_model::{ErrorCode, Millis, Problem, resource::Object};

/// Events that may wait for a slow reader; the server's own buffers hold the rest back.
const EVENTS: usize = 64;
/// The first pause after a loss: a control that restarts is back soon.
const FIRST_PAUSE: Millis = Millis(100);
/// The longest pause: a person at a terminal still sees it come back.
const LONGEST_PAUSE: Millis = Millis::seconds(5);

type Events<S> = mpsc::Sender<Result<WatchEvent<S>, Problem>>;

impl Client {
    /// Every object of a kind and its changes, after the store revision `after` or from the beginning. It resumes
    /// after losing its source, starts over with `Init` when what it missed has been compacted away, and ends only
    /// with a problem that trying again cannot mend, or when it is dropped.
    #[must_use]
    pub fn watch<S: Object>(&self, filter: &Filter, after: Option<u64>) -> WatchStream<S> {
        let from = From { key: "watch", query: filter.query(Query::default()), whole: Some("") };
        self.watch_from(&format!("list_{}", S::KIND.plural()), &[], from, after)
    }

    /// As [`Client::watch`], of an operation that is a watch and nothing else.
    pub(super) fn watch_at<S: Object>(&self, id: &str, names: &[&str], after: Option<u64>) -> WatchStream<S> {
        let from = From { key: "after", query: Query::default(), whole: None };
        self.watch_from(id, names, from, after)
    }

    fn watch_from<S: Object>(
        &self,
        id: &str,
        names: &[&str],
        from: From,
        after: Option<u64>,
    ) -> WatchStream<S> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let watching = Watching {
            client: self.clone(),
            id: id.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            from,
            reached: after,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, self.random.clone()),
        };
        tokio::spawn(watching.run(sender));
        ReceiverStream::new(receiver).boxed()
    }
}

/// How an operation is told what is wanted.
struct From {
    /// The query parameter that holds the revision.
    key: &'static str,
    /// The rest of the query.
    query: Query,
    /// What the parameter holds for all there is; without, it is left out.
    whole: Option<&'static str>,
}

/// One running watch.
struct Watching {
    client: Client,
    /// The operation, and the names in its path.
    id: String,
    names: Vec<String>,
    from: From,
    /// Everything up to this revision was sent to the reader; `None` while it knows nothing whole.
    reached: Option<u64>,
    backoff: Backoff,
}

/// Why a round ended.
enum Ended {
    /// The reader is gone.
    Dropped,
    /// The source is lost.
    Lost(Problem),
}

impl Watching {
    async fn run<S: Object>(mut self, events: Events<S>) {
        loop {
            let ended = tokio::select! {
                () = events.closed() => return,
                ended = self.round(&events) => ended,
            };
            let problem = match ended {
                Ended::Dropped => return,
                Ended::Lost(problem) => problem,
            };
            if starts_over(&problem) && self.reached.is_some() {
                self.reached = None;
            } else if !passes(&problem) {
                // The reader may be gone, which ends it as well.
                let _ = events.send(Err(problem)).await;
                return;
            } else {
                self.tell(&problem);
            }
            tokio::select! {
                () = events.closed() => return,
                () = tokio::time::sleep(self.backoff.fail().duration()) => {}
            }
        }
    }

    /// Tells of a loss: whoever asked to know of each, else the log, once until it is back.
    fn tell(&self, problem: &Problem) {
        match &self.client.on_loss {
            Some(told) => told(problem),
            None if self.backoff.failures() == 0 => {
                tracing::warn!(%problem, watch = self.id, "a watch lost its source; trying again");
            }
            None => tracing::debug!(%problem, watch = self.id, "a watch has no source yet"),
        }
    }

    /// Opens the watch and passes its events on until it ends.
    async fn round<S: Object>(&mut self, events: &Events<S>) -> Ended {
        let after = self.reached.map(|revision| revision.to_string());
        let after = after.as_deref().or(self.from.whole);
        let query = self.from.query.clone().with_some(self.from.key, after);
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let opened = match self.client.outgoing(&self.id, &names, &query) {
            Ok(outgoing) => self.client.send(outgoing).await,
            Err(problem) => Err(problem),
        };
        let mut lines = match opened {
            Ok(response) => Lines::new(&self.client.base, response, true),
            Err(problem) => return Ended::Lost(problem),
        };
        loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => {
                    return Ended::Lost(Problem::unavailable(format!(
                        "{} ended the watch",
                        self.client.base
                    )));
                }
                Err(problem) => return Ended::Lost(problem),
            };
            let event = match read::<S>(&self.client.base, &line) {
                Ok(event) => event,
                Err(problem) => return Ended::Lost(problem),
            };
            self.backoff.succeed();
            match &event {
                WatchEvent::Init => self.reached = None,
                WatchEvent::InitItem(_) => {}
                WatchEvent::InitDone { revision } | WatchEvent::Changes { revision, .. } => {
                    self.reached = Some(*revision);
                }
            }
            if events.send(Ok(event)).await.is_err() {
                return Ended::Dropped;
            }
        }
    }
}

/// Reads one line: an event, or the problem that ends the watch.
fn read<S: Object>(base: &str, line: &[u8]) -> Result<WatchEvent<S>, Problem> {
    serde_json::from_slice(line).map_err(|error| match serde_json::from_slice::<ProblemBody>(line) {
        Ok(body) => fault::of_body(body),
        // A line that was cut off is lost with its connection; what cannot be understood never will be.
        Err(_) if error.is_eof() => Problem::unavailable(format!("an event of {base} was cut off")),
        Err(_) => fault::unreadable(base, &error),
    })
}

/// Whether the watch can only begin anew: what it missed is compacted away, or the store is another.
fn starts_over(problem: &Problem) -> bool {
    matches!(problem.code, ErrorCode::Conflict | ErrorCode::Invalid | ErrorCode::NotFound)
}

/// Whether trying again may help.
fn passes(problem: &Problem) -> bool {
    matches!(problem.code, ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::QuotaExceeded)
}
