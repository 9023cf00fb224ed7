//! The way to an etcd cluster: one connection to one member at a time, and to another when that fails.
//!
//! A request that certainly did not take effect is sent again, to the next member, until it is answered or its time is
//! up. One that may have taken effect is sent again only if doing it twice is the same as once; a transaction is not.

use super::{
    failure::{Failure, words},
    proto::{StatusRequest, maintenance_client::MaintenanceClient},
};
use crate::StoreError;
use std::{
    future::Future,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    time::{Instant, timeout},
};
use tonic::{
    Request, Response, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tutti_base::{Backoff, Random};
use tutti_model::Millis;

/// How long a member may take to accept a connection and say how it is.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a member may take to answer. Elections take one to two seconds; one that takes longer than this is left.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// How long a request is tried for, with all its members and pauses.
const WHOLE: Duration = Duration::from_secs(10);
/// Pauses between tries, in which a new leader may be found.
const PAUSE: (Millis, Millis) = (Millis(50), Millis(1000));
/// How long nothing may come from a member that is asked or watched before it is pinged. etcd hangs up on whoever
/// pings more often than every 5 s.
const PING: Duration = Duration::from_secs(6);
/// How long it may take to answer the ping.
const PONG: Duration = Duration::from_secs(2);
/// Bytes that may be on their way in one answer and in all of them, so that no watch holds up the others.
const WINDOWS: (u32, u32) = (4 << 20, 32 << 20);
/// Requests under way at once; others wait. More would only wait in etcd instead.
const REQUESTS: usize = 1024;
/// Longest answer: a page of [`super::read::PAGE`] of the largest entries, and a sixteenth for what is around them.
pub(super) const ANSWER_BYTES: usize = super::read::PAGE * (tutti_model::limits::STORE_VALUE_BYTES / 16 * 17);
/// The oldest etcd whose watches can be asked for in parts.
const OLDEST: (u64, u64) = (3, 4);

/// A connection to one member.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) channel: Channel,
    pub(super) member: Arc<str>,
    number: u64,
}

/// Whether a request may be sent again after it may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twice {
    /// Done twice it is as done once.
    Same,
    /// It must not be done twice.
    Never,
}

/// The way to a cluster.
#[derive(Debug)]
pub(super) struct Link {
    members: Vec<(Arc<str>, Endpoint)>,
    random: Random,
    current: Mutex<Option<Connection>>,
    dialing: AsyncMutex<Dialing>,
    /// The cluster that the first member was of. The others must be of the same.
    cluster: OnceLock<u64>,
    /// The newest revision of etcd's that any answer told.
    seen: AtomicI64,
    requests: Semaphore,
}

#[derive(Debug, Default)]
struct Dialing {
    /// Counts the connections there were.
    number: u64,
    /// The member to try next.
    next: usize,
    /// Why none could be used when all were tried the last time.
    why: String,
}

impl Link {
    pub(super) fn new(members: &[String], random: Random) -> Result<Link, StoreError> {
        let endpoint = |member: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{member}"))
                .map_err(|error| StoreError::Invalid(format!("{member} is not HOST:PORT: {error}")))?
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(PING)
                .keep_alive_timeout(PONG)
                // etcd hangs up on whoever pings without having asked anything.
                .keep_alive_while_idle(false)
                .initial_stream_window_size(WINDOWS.0)
                .initial_connection_window_size(WINDOWS.1);
            Ok((member.as_str().into(), endpoint))
        };
        let members = members.iter().map(endpoint).collect::<Result<_, StoreError>>()?;
        Ok(Link {
            members,
            random,
            current: Mutex::default(),
            dialing: AsyncMutex::default(),
            cluster: OnceLock::new(),
            seen: AtomicI64::new(0),
            requests: Semaphore::new(REQUESTS),
        })
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest revision of etcd's that any answer told: the store was there at some time before now.
    pub(super) fn seen(&self) -> i64 {
        self.seen.load(Ordering::Acquire)
    }

    /// An answer told this revision of etcd's.
    pub(super) fn saw(&self, revision: i64) {
        self.seen.fetch_max(revision, Ordering::AcqRel);
    }

    /// The connection there is, or one to the next member that answers. Each member is tried once.
    pub(super) async fn connection(&self) -> Result<Connection, StoreError> {
        let connected = || self.current().clone();
        if let Some(connection) = connected() {
            return Ok(connection);
        }
        let waited = self.dialing.try_lock().is_err();
        let mut dialing = self.dialing.lock().await;
        if let Some(connection) = connected() {
            return Ok(connection);
        }
        // Whoever waited while all members were tried need not try them all again.
        if waited && !dialing.why.is_empty() {
            return Err(StoreError::Unavailable(dialing.why.clone()));
        }
        let mut faults = Vec::new();
        for _ in 0..self.members.len() {
            let index = dialing.next % self.members.len().max(1);
            dialing.next = index + 1;
            let Some((member, endpoint)) = self.members.get(index) else { continue };
            let fault = match timeout(CONNECT, self.dial(member, endpoint)).await {
                Ok(Ok(channel)) => {
                    dialing.number += 1;
                    dialing.why.clear();
                    let connection =
                        Connection { channel, member: Arc::clone(member), number: dialing.number };
                    *self.current() = Some(connection.clone());
                    tracing::info!(%member, "connected to etcd");
                    return Ok(connection);
                }
                Ok(Err(fault)) => fault,
                Err(_) => format!("no answer within {} s", CONNECT.as_secs()),
            };
            faults.push(format!("{member}: {fault}"));
        }
        dialing.why = format!("no etcd member can be used: {}", faults.join("; "));
        Err(StoreError::Unavailable(dialing.why.clone()))
    }

    /// Connects to a member, and looks whether it can be used.
    async fn dial(&self, member: &str, endpoint: &Endpoint) -> Result<Channel, String> {
        let channel = endpoint.connect().await.map_err(|error| innermost(&error))?;
        let status = MaintenanceClient::new(channel.clone())
            .status(StatusRequest {})
            .await
            .map_err(|status| words(&status))?
            .into_inner();
        if !is_known(&status.version) {
            return Err(format!("it is etcd {}, and {}.{} is needed", status.version, OLDEST.0, OLDEST.1));
        }
        if status.is_learner {
            return Err("it is still learning what the others have".into());
        }
        if status.leader == 0 {
            return Err("it has no leader".into());
        }
        let cluster = status.header.map_or(0, |header| header.cluster_id);
        if *self.cluster.get_or_init(|| cluster) != cluster {
            return Err(format!("it is of another cluster ({cluster:x}) than the members before it"));
        }
        if !status.errors.is_empty() {
            tracing::warn!(%member, errors = status.errors.join(", "), "etcd says that something is wrong");
        }
        Ok(channel)
    }

    /// This connection is not to be used any more.
    pub(super) fn leave(&self, connection: &Connection, why: &str) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|now| now.number == connection.number) {
            *current = None;
            tracing::warn!(member = %connection.member, why, "etcd's member is left for another");
        }
    }

    /// Asks, within [`WHOLE`].
    pub(super) async fn ask<T, F>(
        &self,
        twice: Twice,
        request: impl Fn(Channel) -> F + Send,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let end = Instant::now() + WHOLE;
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1, self.random.clone());
        let closed = |_| Failure::Undone("the store was closed".into());
        let late = |_| Failure::Undone(format!("{REQUESTS} requests to etcd are under way, and none ended"));
        let _place = timeout(WHOLE, self.requests.acquire()).await.map_err(late)?.map_err(closed)?;
        loop {
            let failure = match self.connection().await {
                Err(error) => Failure::Undone(said(error)),
                Ok(connection) => match self.ask_member(&connection, &request).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                },
            };
            let again = match failure {
                Failure::Undone(_) => true,
                Failure::Unknown(_) => twice == Twice::Same,
                _ => false,
            };
            let pause = Duration::from_millis(backoff.fail().0);
            if !again || Instant::now() + pause >= end {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask_member<T, F>(
        &self,
        connection: &Connection,
        request: impl Fn(Channel) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let failure = match timeout(ANSWER, request(connection.channel.clone())).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => Failure::of(&status, &connection.member),
            Err(_) => Failure::late(&connection.member, ANSWER),
        };
        if failure.is_of_the_member() {
            self.leave(connection, &format!("{failure:?}"));
        }
        Err(failure)
    }
}

/// A request that a member without a leader refuses rather than lets wait.
pub(super) fn led<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}

/// An error's text without what the contract's words add to it.
fn said(error: StoreError) -> String {
    match error {
        StoreError::Unavailable(why) => why,
        other => other.to_string(),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(next) = innermost.source() {
        innermost = next;
    }
    innermost.to_string()
}

/// Whether this version of etcd can do what is asked of it.
fn is_known(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u64>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_known("3.4.23") && is_known("3.10.0") && is_known("4.0.0") && is_known("3.6.0-rc.1"));
        assert!(!is_known("3.3.27") && !is_known("2.9") && !is_known(""));
    }

    #[tokio::test]
    async fn members_that_are_not_there_are_all_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Accepts, and never says anything.
        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let members = [free.to_string(), mute.local_addr().unwrap().to_string()];
        let link = Link::new(&members, Random::seeded(1)).unwrap();
        let StoreError::Unavailable(why) = link.connection().await.unwrap_err() else {
            panic!("another error")
        };
        assert!(why.contains(&format!("{}: ", members[0])) && why.contains("refused"), "{why}");
        assert!(why.contains(&format!("{}: no answer within 2 s", members[1])), "{why}");
    }
}
