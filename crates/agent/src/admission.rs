//! Who may enter an instance now: a limit for each instance and one bounded first-come queue for each version.
//!
//! A request that finds room takes no lock: it loads the version's group from a table that is swapped whole, and raises
//! one atomic count. Only when every instance is full does it take the line's mutex to queue, and only while somebody
//! queues does an ending request take it to hand its place on. Nothing is awaited under the mutex.
//!
//! Why no place is ever lost between the two: who queues raises `waiting` first and then looks for room once more; who
//! ends lowers the instance's count first and then looks at `waiting`. Both are sequentially consistent, so at least
//! one of them sees the other.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU32, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};
use tokio::sync::{Notify, oneshot};
use tutti_isolate::Target;
use tutti_model::{InstanceId, limits};

/// The bit of [`Slot::state`] that says that nobody may enter any more. Limits are at most 100,000.
const CLOSED: u32 = 1 << 31;

/// One instance that takes requests.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Which instance.
    pub(crate) instance: InstanceId,
    /// The instance's id as the value of the answer's header `tutti-instance`.
    pub(crate) header: http::HeaderValue,
    /// How it is reached.
    pub(crate) target: Target,
    /// How long its first answer took, from its request to the answer's head; nothing before that.
    pub(crate) first_answer: OnceLock<Duration>,
    limit: u32,
    /// Requests inside, and [`CLOSED`].
    state: AtomicU32,
    /// Whether anybody has entered since it was last looked at: what tells an idle instance. It lies beside `state`, so
    /// that setting it costs nothing.
    used: AtomicBool,
    /// Told once, when the last request has left a closed slot.
    empty: Notify,
}

impl Slot {
    /// An open slot for `limit` requests at once.
    pub(crate) fn new(instance: InstanceId, target: Target, limit: u32) -> Self {
        let header =
            http::HeaderValue::from_str(instance.as_str()).unwrap_or(http::HeaderValue::from_static(""));
        let limit = limit.clamp(1, CLOSED - 1);
        let first_answer = OnceLock::new();
        Slot {
            instance,
            header,
            target,
            first_answer,
            limit,
            state: AtomicU32::new(0),
            used: AtomicBool::new(false),
            empty: Notify::new(),
        }
    }

    /// Requests inside.
    pub(crate) fn running(&self) -> u32 {
        self.state.load(SeqCst) & !CLOSED
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.state.fetch_or(CLOSED, SeqCst);
    }

    /// Lets nobody in any more, if nobody is inside; whether it did.
    pub(crate) fn close_if_empty(&self) -> bool {
        self.state.compare_exchange(0, CLOSED, SeqCst, SeqCst).is_ok()
    }

    /// Whether anybody has entered since the last look.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }

    /// Returns once a closed slot is empty. For one waiter.
    pub(crate) async fn emptied(&self) {
        loop {
            let told = self.empty.notified();
            if self.running() == 0 {
                return;
            }
            told.await;
        }
    }

    fn try_enter(&self) -> bool {
        // A closed slot's state is above every limit.
        let entered = self
            .state
            .fetch_update(SeqCst, SeqCst, |state| (state < self.limit).then_some(state + 1))
            .is_ok();
        if entered {
            self.used.store(true, Relaxed);
        }
        entered
    }

    fn leave(&self) {
        if self.state.fetch_sub(1, SeqCst) == CLOSED | 1 {
            self.empty.notify_one();
        }
    }
}

/// A place inside an instance. Dropping it leaves, and lets the next in line enter.
#[derive(Debug)]
pub(crate) struct Permit {
    slot: Arc<Slot>,
    line: Arc<Line>,
}

impl Permit {
    /// The instance that was entered.
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.slot.leave();
        self.line.pass_on();
    }
}

/// The queue in front of the instances of one version.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiting: AtomicUsize,
    inner: Mutex<Inner>,
    /// Told when somebody waits and an instance sleeps that could serve them.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Vec<Arc<Slot>>,
    /// Instances that are started for those who wait.
    asleep: usize,
    waiters: VecDeque<Waiter>,
    tickets: u64,
}

impl Inner {
    /// Whether there is nothing to wait for.
    fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.asleep == 0
    }
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    give: oneshot::Sender<Permit>,
}

/// What became of joining the line.
#[derive(Debug)]
pub(crate) enum Joined {
    /// There was room after all.
    Admitted(Permit),
    /// A place in the queue.
    Queued(Queued),
    /// The queue is full.
    Full,
    /// No instance is left to wait for.
    Closed,
}

/// A place in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    line: Arc<Line>,
    ticket: u64,
    got: oneshot::Receiver<Permit>,
}

impl Queued {
    /// Returns with a place, or with `None` once no instance is left to wait for.
    pub(crate) async fn admitted(&mut self) -> Option<Permit> {
        (&mut self.got).await.ok()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut inner = self.line.lock();
        if let Some(at) = inner.waiters.iter().position(|waiter| waiter.ticket == self.ticket) {
            inner.waiters.remove(at);
            self.line.waiting.store(inner.waiters.len(), SeqCst);
        }
        // A place that was given but not taken goes on when `got` is dropped, after the mutex.
    }
}

impl Line {
    /// A place at once, at `preferred` if it has room, else at the least busy; `None` if all are full or others wait.
    pub(crate) fn try_enter(self: &Arc<Self>, slots: &[Arc<Slot>], preferred: &InstanceId) -> Option<Permit> {
        if self.waiting.load(SeqCst) > 0 {
            return None;
        }
        let preferred = slots.iter().find(|slot| slot.instance == *preferred && slot.try_enter());
        let slot = preferred.or_else(|| enter_any(slots))?;
        Some(Permit { slot: Arc::clone(slot), line: Arc::clone(self) })
    }

    /// Queues behind all who wait already.
    pub(crate) fn join(self: &Arc<Self>) -> Joined {
        let mut inner = self.lock();
        if inner.is_empty() {
            return Joined::Closed;
        }
        if inner.waiters.len() >= limits::QUEUE_REQUESTS {
            return Joined::Full;
        }
        self.waiting.store(inner.waiters.len() + 1, SeqCst);
        if inner.waiters.is_empty()
            && let Some(slot) = enter_any(&inner.slots)
        {
            self.waiting.store(0, SeqCst);
            return Joined::Admitted(Permit { slot: Arc::clone(slot), line: Arc::clone(self) });
        }
        inner.tickets += 1;
        let ticket = inner.tickets;
        let (give, got) = oneshot::channel();
        inner.waiters.push_back(Waiter { ticket, give });
        // One sleeper for the first who waits: the next is wanted if that one is not enough.
        if inner.asleep > 0 && inner.waiters.len() == 1 {
            self.wanted.notify_one();
        }
        Joined::Queued(Queued { line: Arc::clone(self), ticket, got })
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// From now on these are the instances, and so many more sleep. Without any, all who wait are sent away.
    pub(crate) fn set(self: &Arc<Self>, slots: Vec<Arc<Slot>>, asleep: usize) {
        let mut inner = self.lock();
        (inner.slots, inner.asleep) = (slots, asleep);
        if inner.is_empty() {
            inner.waiters.clear();
            self.waiting.store(0, SeqCst);
        }
        drop(inner);
        self.pass_on();
        if asleep > 0 && self.waiting() > 0 {
            self.wanted.notify_one();
        }
    }

    /// Returns once somebody waits for an instance that sleeps.
    pub(crate) async fn wanted(&self) {
        loop {
            let told = self.wanted.notified();
            if self.waiting() > 0 {
                return;
            }
            told.await;
        }
    }

    /// Gives free places to those who wait, first come first.
    fn pass_on(self: &Arc<Self>) {
        if self.waiting.load(SeqCst) == 0 {
            return;
        }
        // Declared before the guard: dropping a place takes the mutex again.
        let mut spare: Option<Permit> = None;
        let mut inner = self.lock();
        while !inner.waiters.is_empty() {
            let permit = match spare.take() {
                Some(permit) => permit,
                None => match enter_any(&inner.slots) {
                    Some(slot) => Permit { slot: Arc::clone(slot), line: Arc::clone(self) },
                    None => break,
                },
            };
            spare = match inner.waiters.pop_front() {
                Some(waiter) => waiter.give.send(permit).err(),
                None => Some(permit),
            };
            self.waiting.store(inner.waiters.len(), SeqCst);
        }
        drop(inner);
        drop(spare);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Enters the least busy instance that has room.
fn enter_any(slots: &[Arc<Slot>]) -> Option<&Arc<Slot>> {
    let least = slots.iter().min_by_key(|slot| slot.state.load(SeqCst));
    // Another request may have been faster; then any with room will do.
    least.filter(|slot| slot.try_enter()).or_else(|| slots.iter().find(|slot| slot.try_enter()))
}

#[cfg(test)]
mod tests;
