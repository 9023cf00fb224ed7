//! Connections: how one is made and set up, and the few that reads share.

use super::{address::PostgresAddress, failure::Failure, statements::Statements, tls};
use crate::StoreError;
use futures_util::{StreamExt as _, stream};
use std::{
    fmt,
    future::Future,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::{AbortHandle, JoinError, JoinHandle},
    time::Instant,
};
use tokio_postgres::{AsyncMessage, Client, Config, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;
use tutti_base::{Random, backoff::Backoff};
use tutti_model::Millis;

/// How long making a connection may take in all, over every host.
const CONNECT: Duration = Duration::from_secs(20);
/// How long the server may take to answer: longer than [`SETUP`] lets it work, so that it is the way that failed.
const ANSWER: Duration = Duration::from_secs(30);
/// The pause after a first failure, and the longest between two attempts.
const FIRST_PAUSE: Millis = Millis(50);
const LONGEST_PAUSE: Millis = Millis::seconds(1);
/// Connections for reading and for signs of life: one for a long list, and three that go on meanwhile.
pub(super) const READERS: usize = 4;

/// What every session is told.
///
/// A commit waits for the disk, whatever the server's default; `remote_apply` waits for more and stays. Nobody waits
/// for the head, or keeps it, without an end. Plans always go by index and are made once: the statistics of tables that
/// have just been made would mislead, and all that is asked is a few keys or a range.
const SETUP: &str = "
    SELECT set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false);
    SET default_transaction_isolation = 'read committed';
    SET lock_timeout = '10s';
    SET statement_timeout = '20s';
    SET idle_in_transaction_session_timeout = '10s';
    SET client_min_messages = 'warning';
    SET plan_cache_mode = 'force_generic_plan';
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET jit = off;
";

/// What a statement is given.
pub(super) type Parameters<'a, const N: usize> = [&'a (dyn ToSql + Sync); N];

/// What connects to the database.
pub(super) struct Connector {
    address: PostgresAddress,
    place: String,
    config: Config,
    tls: MakeRustlsConnect,
    random: Random,
    /// How long a request goes on trying to reach a server that is away.
    pub(super) patience: Duration,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.address).finish()
    }
}

impl Connector {
    pub(super) fn new(
        address: PostgresAddress,
        random: Random,
        patience: Duration,
    ) -> Result<Connector, StoreError> {
        let tls = tls::connector(&address)?;
        let config = address.config(|name| std::env::var_os(name));
        Ok(Connector { place: address.to_string(), config, tls, address, random, patience })
    }

    /// The database, as it is named to people.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn random(&self) -> &Random {
        &self.random
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, self.random.clone())
    }

    /// A connection that is set up, with nothing prepared.
    pub(super) async fn raw(&self) -> Result<Raw, Failure> {
        let connecting = async {
            let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
            let noticed = Arc::new(Notify::new());
            let told = Arc::clone(&noticed);
            let driving = tokio::spawn(async move {
                let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
                while let Some(message) = messages.next().await {
                    match message {
                        Ok(AsyncMessage::Notification(_)) => told.notify_one(),
                        Ok(_) => {}
                        Err(error) => {
                            tracing::debug!(%error, "a connection to the store's server ended");
                            break;
                        }
                    }
                }
                told.notify_one();
            });
            let raw = Raw { client, noticed, driving: driving.abort_handle() };
            raw.client.batch_execute(SETUP).await?;
            Ok(raw)
        };
        self.answered(CONNECT, connecting).await
    }

    /// One attempt at a session.
    pub(super) async fn connect(&self) -> Result<Session, Failure> {
        let raw = self.raw().await?;
        let statements = self.exchange(Statements::prepare(&raw.client)).await?;
        Ok(Session { raw, statements })
    }

    /// A session, as soon as there can be one until then. At least one attempt is made.
    pub(super) async fn patiently(&self, until: Instant) -> Result<Session, Failure> {
        let mut backoff = self.backoff();
        loop {
            let failure = match self.connect().await {
                Err(failure @ (Failure::Lost(_) | Failure::Again(_))) => failure,
                done => return done,
            };
            let pause = backoff.fail().duration();
            if Instant::now() + pause >= until {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// What the server answers, if it does in time.
    pub(super) async fn exchange<T>(
        &self,
        asking: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        self.answered(ANSWER, asking).await
    }

    async fn answered<T>(
        &self,
        within: Duration,
        asking: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(within, asking).await {
            Ok(answer) => answer.map_err(|error| Failure::of(&error, &self.place)),
            Err(_) => Err(Failure::Lost(format!("{}: no answer within {} s", self.place, within.as_secs()))),
        }
    }

    /// What is stored is not what was written.
    pub(super) fn damaged(&self, why: impl fmt::Display) -> Failure {
        StoreError::Corrupt(format!("{}: {why}", self.place)).into()
    }
}

/// A connection. Dropping it closes it, whatever is under way.
pub(super) struct Raw {
    pub(super) client: Client,
    /// Told of each notification, and of the end of the connection.
    noticed: Arc<Notify>,
    driving: AbortHandle,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

/// A connection with everything prepared.
pub(super) struct Session {
    raw: Raw,
    pub(super) statements: Statements,
}

impl Session {
    /// Returns once there was a notification since the last call, or the connection has ended.
    pub(super) async fn noticed(&self) {
        self.raw.noticed.notified().await;
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.raw.client
    }
}

/// The sessions that reads share.
pub(super) struct Sessions {
    pub(super) connector: Arc<Connector>,
    places: Arc<Semaphore>,
    /// Those connected so far and not in use.
    idle: Mutex<Vec<Session>>,
}

impl Sessions {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Sessions { connector, places: Arc::new(Semaphore::new(READERS)), idle: Mutex::default() }
    }

    /// Asks something that may be asked again, until it is answered or patience is over.
    ///
    /// A task of its own waits in line for a session and asks. The caller may be one that nobody polls for a while,
    /// such as a watch whose reader is busy with what it got: its turn would come and pass to nobody.
    pub(super) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl AsyncAsk<T>,
    ) -> Result<T, StoreError> {
        let sessions = Arc::clone(self);
        let mut asking = InLine(tokio::spawn(async move {
            let gone = |_| StoreError::Unavailable("it was closed".into());
            let place = Arc::clone(&sessions.places).acquire_owned().await.map_err(gone)?;
            let asking = tokio::spawn(async move {
                // Kept until it is answered, whether or not the caller still waits: a session that is left in the
                // middle of an answer is lost.
                let _place = place;
                sessions.until_answered(&ask).await
            });
            asking.await.map_err(cut_off)?
        }));
        (&mut asking.0).await.map_err(cut_off)?
    }

    async fn until_answered<T: Send + 'static>(&self, ask: &impl AsyncAsk<T>) -> Result<T, StoreError> {
        let until = Instant::now() + self.connector.patience;
        let mut backoff = self.connector.backoff();
        loop {
            let failure = match self.attempt(ask).await {
                Ok(answer) => return Ok(answer),
                Err(failure @ Failure::Store(_)) => return Err(failure.told()),
                Err(failure) => failure,
            };
            let pause = backoff.fail().duration();
            if Instant::now() + pause >= until {
                return Err(failure.told());
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt<T: Send + 'static>(&self, ask: &impl AsyncAsk<T>) -> Result<T, Failure> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // Those that broke while nobody used them are only found out now.
        let session = std::iter::from_fn(idle).find(|session| !session.is_closed());
        let session = match session {
            Some(session) => session,
            None => self.connector.connect().await?,
        };
        let answer = ask.ask(&self.connector, &session).await;
        if matches!(answer, Ok(_) | Err(Failure::Store(_))) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
        answer
    }
}

/// Something that can be asked on a session, again if it must be.
pub(super) trait AsyncAsk<T>: Send + Sync + 'static {
    fn ask(
        &self,
        connector: &Connector,
        session: &Session,
    ) -> impl Future<Output = Result<T, Failure>> + Send;
}

/// A question that leaves the line when its asker no longer waits.
struct InLine<T>(JoinHandle<T>);

impl<T> Drop for InLine<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn cut_off(error: JoinError) -> StoreError {
    StoreError::Unavailable(format!("a read was cut off: {error}"))
}
