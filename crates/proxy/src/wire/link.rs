//! The connections from this process to one node, and whether it is out.
//!
//! One task keeps them: it opens another when it is asked to, so that a burst opens one and not one each, and tries
//! again by itself while the node is out. A connection counts only once the node at its other end has said who it is;
//! so whoever accepts and then says nothing is never taken for a node.

use super::{
    ANSWER_WINDOW, ANSWERS_WINDOW, CONNECTIONS, DIAL, Dial, HEADER_BYTES, PENDING, PING, PONG, REST,
    SEND_BUFFER, SPREAD, encoding,
    encoding::Refusal,
    heard::{Heard, Listening},
};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tutti_base::{Backoff, Body, Random};
use tutti_model::{Millis, name::NodeName, node::RoleAddress};

/// Pause before a node that is out is tried again: the first one, and the longest.
const RETRY: (Millis, Millis) = (Millis(100), Millis::seconds(2));

/// One open connection.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    running: AtomicUsize,
    /// Requests that the node allows at once, as its settings last said.
    allowed: Arc<AtomicUsize>,
    /// Set when it gave a request back: it ends as soon as the running ones have.
    ending: AtomicBool,
}

impl Connection {
    fn takes_requests(&self) -> bool {
        !self.sender.is_closed() && !self.ending.load(Ordering::Relaxed)
    }

    fn room(&self) -> usize {
        self.allowed.load(Ordering::Relaxed).saturating_sub(self.running.load(Ordering::Relaxed))
    }
}

/// One request's place on a connection; given back when dropped.
pub(super) struct Place(Arc<Connection>);

impl Place {
    fn on(connection: &Arc<Connection>) -> Place {
        connection.running.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(connection))
    }

    pub(super) fn sender(&self) -> SendRequest<Body> {
        self.0.sender.clone()
    }

    /// The connection takes no further request.
    pub(super) fn is_ending(&self) {
        self.0.ending.store(true, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a request has no place.
#[derive(Debug)]
pub(super) enum NoPlace {
    /// The node is out.
    Out(String),
    /// As many requests as there may be are on their way to it.
    Full(String),
    /// This link was given up for want of requests: there is a new one.
    Forgotten,
}

enum Look {
    Place(Place),
    None(NoPlace),
    Wait,
}

/// The connections to one node.
pub(super) struct Link {
    pub(super) node: NodeName,
    pub(super) address: Arc<RoleAddress>,
    state: Mutex<State>,
    /// Told when a connection is open, or could not be opened.
    changed: Notify,
    /// Told when a connection is to be opened.
    wanted: Notify,
}

struct State {
    open: Vec<Arc<Connection>>,
    opening: bool,
    /// Why the node is out.
    out: Option<String>,
    waiting: usize,
    forgotten: bool,
    used: Instant,
}

struct Waiting<'a>(&'a Link);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("node", &self.node).field("address", &self.address).finish()
    }
}

impl Link {
    pub(super) fn new(node: NodeName, address: Arc<RoleAddress>) -> Link {
        let state = State {
            open: Vec::new(),
            opening: false,
            out: None,
            waiting: 0,
            forgotten: false,
            used: Instant::now(),
        };
        Link { node, address, state: Mutex::new(state), changed: Notify::new(), wanted: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the node is out, if it is.
    pub(super) fn out(&self) -> Option<String> {
        self.lock().out.clone()
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.lock().open.iter().filter(|connection| connection.takes_requests()).count()
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.lock().forgotten
    }

    /// A place for one request; waits for a connection if one is being opened.
    pub(super) async fn place(&self) -> Result<Place, NoPlace> {
        match self.look() {
            Look::Place(place) => return Ok(place),
            Look::None(why) => return Err(why),
            Look::Wait => {}
        }
        {
            let mut state = self.lock();
            if state.waiting >= PENDING {
                return Err(NoPlace::Full(format!(
                    "{PENDING} requests wait for a connection to node {}",
                    self.node
                )));
            }
            state.waiting += 1;
        }
        let _waiting = Waiting(self);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.look() {
                Look::Place(place) => return Ok(place),
                Look::None(why) => return Err(why),
                // Every attempt to connect ends within a bounded time, and says so.
                Look::Wait => changed.await,
            }
        }
    }

    fn look(&self) -> Look {
        let mut state = self.lock();
        state.used = Instant::now();
        if state.forgotten {
            return Look::None(NoPlace::Forgotten);
        }
        if let Some(reason) = &state.out {
            return Look::None(NoPlace::Out(reason.clone()));
        }
        state.open.retain(|connection| connection.takes_requests());
        let best = state.open.iter().max_by_key(|connection| connection.room());
        let place = best.filter(|best| best.room() > 0).map(Place::on);
        let crowded = place.as_ref().is_none_or(|place| place.0.running.load(Ordering::Relaxed) > SPREAD);
        let more = crowded && state.open.len() < CONNECTIONS;
        if more && !state.opening {
            state.opening = true;
            self.wanted.notify_one();
        }
        match place {
            Some(place) => Look::Place(place),
            None if more => Look::Wait,
            None => Look::None(NoPlace::Full(format!(
                "every one of {CONNECTIONS} connections to node {} carries as many requests as it may",
                self.node
            ))),
        }
    }

    /// A connection is open: the node is in.
    fn opened(&self, connection: Connection) {
        let mut state = self.lock();
        state.opening = false;
        if state.out.take().is_some() {
            tracing::info!(node = %self.node, address = %self.address, "the node is reached again");
        }
        state.open.push(Arc::new(connection));
        drop(state);
        self.changed.notify_waiters();
    }

    /// The node is out until a connection can be opened.
    fn leave_out(&self, reason: String) {
        let mut state = self.lock();
        state.opening = false;
        if state.out.is_none() {
            tracing::warn!(node = %self.node, address = %self.address, reason, "the node is out");
        }
        state.out = Some(reason);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Closes what a burst left behind; whether nothing has used the link for so long that it can be forgotten.
    fn rested(&self) -> bool {
        let mut state = self.lock();
        let idle = |connection: &Arc<Connection>| connection.running.load(Ordering::Relaxed) == 0;
        if state.waiting == 0 && state.used.elapsed() >= REST && state.open.iter().all(idle) {
            state.forgotten = true;
            state.open.clear();
            return true;
        }
        let mut first = true;
        state.open.retain(|connection| std::mem::take(&mut first) || !idle(connection));
        false
    }

    /// Closes every connection whose requests have ended, and opens none any more.
    fn close(&self) {
        let mut state = self.lock();
        state.forgotten = true;
        state.open.clear();
        drop(state);
        self.changed.notify_waiters();
    }
}

/// Opens connections as they are wanted, until the link is forgotten or `ended`.
pub(super) async fn keep(
    link: Arc<Link>,
    dial: Arc<dyn Dial>,
    random: Random,
    ended: CancellationToken,
    forget: impl FnOnce(&Arc<Link>) + Send,
) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1, random);
    let mut retry: Option<Instant> = None;
    let mut tick = tokio::time::interval(REST / 4);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.cancelled() => return link.close(),
            () = link.wanted.notified() => {}
            () = at(retry) => {}
            _ = tick.tick() => {
                if link.rested() {
                    return forget(&link);
                }
                continue;
            }
        }
        retry = match tokio::time::timeout(DIAL, open(&link, dial.as_ref())).await {
            Ok(Ok(connection)) => {
                link.opened(connection);
                backoff.succeed();
                None
            }
            Ok(Err(why)) => {
                link.leave_out(format!("node {} is out: {why}", link.node));
                Some(Instant::now() + backoff.fail().duration())
            }
            Err(_) => {
                let limit = DIAL.as_secs();
                link.leave_out(format!("node {} is out: it gave no word within {limit} s", link.node));
                Some(Instant::now() + backoff.fail().duration())
            }
        };
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// A connection at whose other end the node has said who it is.
async fn open(link: &Arc<Link>, dial: &dyn Dial) -> Result<Connection, String> {
    let stream = dial.dial(&link.node, &link.address).await.map_err(|error| error.to_string())?;
    let heard = Arc::new(Heard::new());
    let listening = Listening::new(stream, Arc::clone(&heard));
    let (mut sender, connecting) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(ANSWER_WINDOW)
        .initial_connection_window_size(ANSWERS_WINDOW)
        .max_header_list_size(HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .handshake::<_, Body>(TokioIo::new(listening))
        .await
        .map_err(|error| error.to_string())?;
    let mut connection = Box::pin(connecting);
    let mut asked = std::pin::pin!(sender.send_request(encoding::hello(&link.node)));
    let mut answer = tokio::select! {
        answer = asked.as_mut() => answer.map_err(chain)?,
        _ = connection.as_mut() => {
            let why = asked.await.err().map(chain);
            return Err(why.unwrap_or_else(|| "it closed the connection".to_owned()));
        }
    };
    // A peer's settings come before its first answer. Read any earlier, this would be what hyper takes for granted, and
    // nothing but the next request would correct it.
    let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
    tokio::spawn(drive(connection, Arc::clone(&allowed), Arc::clone(&heard), Arc::downgrade(link)));
    match encoding::take_answer(&mut answer, None) {
        Ok(()) if answer.status().is_success() => {}
        Err(Refusal::Misdirected(why) | Refusal::Failed(why)) => return Err(why),
        Ok(()) | Err(_) => return Err(format!("something else than a node is there ({})", answer.status())),
    }
    heard.introduce();
    Ok(Connection { sender, running: AtomicUsize::new(0), allowed, ending: AtomicBool::new(false) })
}

pub(super) fn chain(error: hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

type Driver = std::pin::Pin<Box<http2::Connection<TokioIo<Listening>, Body, TokioExecutor>>>;

/// Drives a connection to its end. If that was silence, the node is out; any other end shows when the next connection
/// is opened.
async fn drive(mut connection: Driver, allowed: Arc<AtomicUsize>, heard: Arc<Heard>, link: Weak<Link>) {
    // What ended it shows in the requests that were on it.
    let _ = std::future::poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        if polled.is_pending() {
            allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
        }
        polled
    })
    .await;
    if let Some(link) = link.upgrade()
        && heard.is_silent()
    {
        link.leave_out(format!(
            "node {} is out: it answered no ping for {} s",
            link.node,
            (PING + PONG).as_secs()
        ));
        link.wanted.notify_one();
    }
}
