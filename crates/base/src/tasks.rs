//! Supervised tasks with an ordered end.
//!
//! Whatever a role runs in the background is spawned here, with a name. A task that panics is logged and takes the
//! process into its orderly end rather than leaving a role half alive. On shutdown every task sees the token
//! cancelled, and [`Tasks::drain`] waits for them with a deadline.

use std::{future::Future, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A group of background tasks. Cloning shares the group.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty group.
    #[must_use]
    pub fn new() -> Self {
        Tasks::default()
    }

    /// Runs `task` until it returns. It should return soon after [`Tasks::stopping`] is cancelled.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let running = tokio::spawn(task);
        self.tracker.spawn(async move {
            if let Err(error) = running.await
                && error.is_panic()
            {
                tracing::error!(task = name, "a background task panicked; stopping");
                stop.cancel();
            }
        });
    }

    /// The token that is cancelled when the group is to end.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells every task to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Tells every task to end and waits for them; `false` if some had not when the deadline came.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drains_what_listens_and_gives_up_on_what_does_not() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        tasks.spawn("good", async move { stopping.cancelled().await });
        assert!(tasks.drain(Duration::from_secs(5)).await);

        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending());
        assert!(!tasks.drain(Duration::from_millis(10)).await);
    }

    #[tokio::test]
    async fn a_panic_stops_the_group() {
        let tasks = Tasks::new();
        tasks.spawn("bad", async { panic!("on purpose") });
        tasks.stopping().cancelled().await;
    }
}
