//! What is done without being asked: leases expire, and old history is forgotten. Every process does it; the database
//! sees to it that each piece is done once.
//!
//! A lease's time is told by the server's clock alone. Once a second somebody looks whether one is due, and has the
//! writer end those that are, under the lock of the head. A row that is just being kept alive is locked and left out;
//! a sign of life that comes while a lease is being ended waits for the row, and finds it gone. Each look is noted, so
//! that an outage shows: then nobody could keep a lease alive either, and all have their whole time anew.
//!
//! Nothing here is acknowledged to anybody, so its commits do not wait for the disk.

use super::{
    batch::Request,
    failure::Failure,
    read::Columns,
    session::{AsyncAsk, Connector, Parameters, Session},
    writer::Job,
};
use crate::{
    LeaseId, StoreError,
    rows::{first_id, signed},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

/// How often it is looked whether a lease is due.
const LOOK: Duration = Duration::from_secs(1);
/// Rows of history that one step of sweeping looks at: some ten milliseconds of work.
const STEP_ROWS: i64 = 2048;

pub(super) struct Upkeep {
    pub(super) connector: Arc<Connector>,
    pub(super) queue: mpsc::WeakSender<Job>,
    /// Told when there is old history to forget.
    pub(super) compacted: Arc<Notify>,
}

impl Upkeep {
    /// Works until the store is closed.
    pub(super) async fn run(self) {
        let mut backoff = self.connector.backoff();
        while self.queue.strong_count() > 0 {
            match self.connector.connect().await {
                Ok(session) => {
                    backoff.succeed();
                    let failure = self.work(&session).await;
                    tracing::debug!(%failure, "the store's upkeep was cut off");
                }
                Err(failure) => tracing::debug!(%failure, "the store's upkeep waits for its server"),
            }
            tokio::time::sleep(backoff.fail().duration()).await;
        }
    }

    async fn work(&self, session: &Session) -> Failure {
        let working = async {
            let asking = session.batch_execute("SET synchronous_commit = off");
            self.connector.exchange(asking).await?;
            let forgetting = session.execute(&session.statements.forget_writers, &[]);
            self.connector.exchange(forgetting).await?;
            // What was left when the last process ended.
            let mut sweeping = true;
            loop {
                self.look(session).await?;
                if sweeping {
                    sweeping = self.sweep(session).await?;
                    continue;
                }
                // In time or not: the next look is due.
                sweeping = tokio::time::timeout(LOOK, self.compacted.notified()).await.is_ok();
            }
        };
        let ended: Result<std::convert::Infallible, Failure> = working.await;
        match ended {
            Err(failure) => failure,
            Ok(never) => match never {},
        }
    }

    /// Has the writer end what is due.
    async fn look(&self, session: &Session) -> Result<(), Failure> {
        let connector = &*self.connector;
        let resumed = connector.exchange(session.execute(&session.statements.resume, &[])).await?;
        if resumed > 0 {
            tracing::info!(leases = resumed, "after an outage, leases have their whole time anew");
        }
        let row = connector.exchange(session.query_one(&session.statements.look, &[])).await?;
        let due: bool = Columns { connector, row: &row }.get(0)?;
        if due && let Some(queue) = self.queue.upgrade() {
            // If the queue is full there will be another look.
            let _full = queue.try_send(Job {
                request: Request::Expire,
                reply: None,
                since: Instant::now(),
                room: None,
            });
        }
        Ok(())
    }

    /// Forgets some of what is older than what can be listed; whether there is more to forget now.
    async fn sweep(&self, session: &Session) -> Result<bool, Failure> {
        let connector = &*self.connector;
        connector.exchange(session.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")).await?;
        let at = connector.exchange(session.query_opt(&session.statements.sweeping, &[])).await?;
        let mut more = false;
        // Nothing if another process sweeps.
        if let Some(row) = at {
            let columns = Columns { connector, row: &row };
            let (swept, end): (i64, i64) = (columns.get(0)?, first_id(columns.number(1)?.saturating_add(1)));
            if swept.saturating_add(1) < end {
                let parameters: Parameters<'_, 3> = [&swept, &end, &STEP_ROWS];
                let row =
                    connector.exchange(session.query_one(&session.statements.sweep, &parameters)).await?;
                let columns = Columns { connector, row: &row };
                let (looked, last): (i64, Option<i64>) = (columns.get(0)?, columns.get(1)?);
                more = looked >= STEP_ROWS;
                let swept = last.filter(|_| more).unwrap_or(end - 1);
                connector.exchange(session.execute(&session.statements.swept, &[&swept])).await?;
            }
        }
        connector.exchange(session.batch_execute("COMMIT")).await?;
        Ok(more)
    }
}

/// A sign of life.
pub(super) struct KeepAlive(pub(super) LeaseId);

impl AsyncAsk<()> for KeepAlive {
    async fn ask(&self, connector: &Connector, session: &Session) -> Result<(), Failure> {
        let lease = signed(self.0.0);
        match connector.exchange(session.execute(&session.statements.keep_alive, &[&lease])).await? {
            0 => Err(StoreError::LeaseGone(self.0).into()),
            _ => Ok(()),
        }
    }
}
