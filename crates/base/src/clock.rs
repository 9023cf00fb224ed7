//! Time as a dependency: the product runs on [`SystemClock`], simulations on [`VirtualClock`].

use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::Notify;
use tutti_model::{Millis, Timestamp};

/// Time since the machine was started, the time that it slept included. Unlike the time of day it is never set, and means
/// nothing on another machine, nor after the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Uptime(pub Millis);

impl Uptime {
    /// The machine's own, as every process on it sees it (`CLOCK_BOOTTIME`).
    #[must_use]
    pub fn now() -> Uptime {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let millis = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
        Uptime(Millis(u64::try_from(millis).unwrap_or(0)))
    }

    /// So much later.
    #[must_use]
    pub const fn plus(self, span: Millis) -> Uptime {
        Uptime(Millis(self.0.0.saturating_add(span.0)))
    }

    /// How long it is after another moment; nothing if it is before.
    #[must_use]
    pub const fn since(self, earlier: Uptime) -> Millis {
        Millis(self.0.0.saturating_sub(earlier.0.0))
    }
}

/// Where time comes from.
#[async_trait::async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now.
    fn now(&self) -> Timestamp;
    /// How long the machine has run.
    fn uptime(&self) -> Uptime;
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

    fn uptime(&self) -> Uptime {
        Uptime::now()
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

    fn uptime(&self) -> Uptime {
        Uptime(Millis(self.now().0))
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
