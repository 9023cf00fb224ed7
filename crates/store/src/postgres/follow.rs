//! The follower: what tells this process's watches of commits, its own and those of others.
//!
//! It has a connection of its own that listens for the notice which goes out with each commit. A notice says only that
//! there is something: the follower reads history from where it is, and publishes it in order. So a notice that is
//! late, lost or told twice changes nothing, and neither does a connection that breaks: the next one goes on from the
//! same revision. In case a connection is dead and does not know, it looks every [`POLL`] too.

use super::{
    failure::Failure,
    read::{AskBounds, AskChanges},
    session::{AsyncAsk as _, Connector, Session},
};
use crate::{Revision, StoreError, watchers::Watchers};
use std::{sync::Arc, time::Duration};

/// How long a watch may not hear of a commit if its notice is lost.
const POLL: Duration = Duration::from_secs(5);

pub(super) struct Follower {
    connector: Arc<Connector>,
    watchers: Arc<Watchers>,
    /// Everything up to here was published.
    published: Revision,
}

impl Follower {
    /// Follows what comes after `current`, which is what no watch has to be told any more.
    pub(super) fn new(connector: Arc<Connector>, watchers: Arc<Watchers>, current: Revision) -> Self {
        Follower { connector, watchers, published: current }
    }

    /// Follows for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = self.connector.backoff();
        loop {
            let failure = match self.listen().await {
                Ok(session) => {
                    backoff.succeed();
                    self.follow(&session).await
                }
                Err(failure) => failure,
            };
            if backoff.failures() == 0 {
                tracing::warn!(%failure, "watches wait for the store's server");
            } else {
                tracing::debug!(%failure, "watches still wait for the store's server");
            }
            tokio::time::sleep(backoff.fail().duration()).await;
        }
    }

    async fn listen(&self) -> Result<Session, Failure> {
        let session = self.connector.connect().await?;
        self.connector.exchange(session.batch_execute("LISTEN tutti")).await?;
        Ok(session)
    }

    /// Publishes what there is and comes, until the connection breaks.
    async fn follow(&mut self, session: &Session) -> Failure {
        loop {
            if let Err(failure) = self.catch_up(session).await {
                return failure;
            }
            // In time or not: it is looked either way.
            let _late = tokio::time::timeout(POLL, session.noticed()).await;
        }
    }

    async fn catch_up(&mut self, session: &Session) -> Result<(), Failure> {
        loop {
            let bounds = AskBounds.ask(&self.connector, session).await?;
            if bounds.current < self.published {
                tracing::error!(
                    published = self.published,
                    current = bounds.current,
                    "the store went back: its server lost what it had acknowledged"
                );
                self.watchers.cut_off();
            }
            // After the bounds: a watch that joins from here on asks for the current revision itself, and gets this one
            // or a later one.
            if bounds.current <= self.published || self.watchers.is_idle() {
                self.published = bounds.current;
                return Ok(());
            }
            let ask = AskChanges { prefix: String::new(), after: self.published, upto: None };
            match ask.ask(&self.connector, session).await {
                Ok((page, _)) => {
                    self.watchers.publish(&page.commits);
                    self.published = page.through;
                }
                // Others went so far ahead while this process was cut off that history is gone. The watches are told
                // that they lag, and then, when they resume, that it was compacted.
                Err(Failure::Store(StoreError::Compacted { .. })) => {
                    self.published = bounds.current;
                    self.watchers.cut_off();
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}
