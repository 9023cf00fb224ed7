//! Time as a dependency: the product runs on [`SystemClock`], simulations on [`VirtualClock`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::Notify;
use tutti_model::{Millis, Timestamp};

/// Where time comes from.
#[async_trait::async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Returns once `when` has come; at once if it has passed.
    async fn sleep_until(&self, when: Timestamp);

    /// Returns after `span`.
    async fn sleep(&self, span: Millis) {
        self.sleep_until(self.now().plus(span)).await;
    }
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait::async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep_until(&self, when: Timestamp) {
        tokio::time::sleep(when.since(self.now()).duration()).await;
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Clone, Default)]
pub struct VirtualClock(Arc<VirtualState>);

#[derive(Debug, Default)]
struct VirtualState {
    now: AtomicU64,
    moved: Notify,
}

impl VirtualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        let clock = VirtualClock::default();
        clock.0.now.store(now.0, Ordering::SeqCst);
        clock
    }

    /// Moves on by `span` and wakes whoever waited for a moment in between.
    pub fn advance(&self, span: Millis) {
        self.0.now.fetch_add(span.0, Ordering::SeqCst);
        self.0.moved.notify_waiters();
    }
}

#[async_trait::async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.now.load(Ordering::SeqCst))
    }

    async fn sleep_until(&self, when: Timestamp) {
        loop {
            let moved = self.0.moved.notified();
            if self.now() >= when {
                return;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_virtual_sleeper_wakes_when_its_time_has_come() {
        let clock = VirtualClock::at(Timestamp(1000));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep(Millis(500)).await;
                clock.now()
            }
        });
        tokio::task::yield_now().await;
        clock.advance(Millis(499));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Millis(1));
        assert_eq!(sleeper.await.unwrap(), Timestamp(1500));
    }
}
