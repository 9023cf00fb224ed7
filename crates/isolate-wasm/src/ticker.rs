//! The clock of interruption: moves the engine's epoch on while guests run, and costs nothing while none does.
//!
//! It is a thread, not a task: a task would wait behind the very guests that it is to interrupt.

use crate::lane::Lane;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};
use wasmtime::EngineWeak;

/// How long a guest may keep a thread before others get a turn. Short enough that
/// one endless loop after another delays others by about as much as a request takes, long enough that changing turns costs
/// well under a hundredth.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// Ticks without a guest after which the thread goes to sleep: one second, so that requests in a row don't wake it each
/// time.
const IDLE_TICKS: u32 = 500;

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    ended: AtomicBool,
}

/// The thread and how to wake it. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    lane: Lane,
}

/// A guest is running as long as this exists.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: EngineWeak) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let handle =
            thread::Builder::new().name("wasm-ticker".to_owned()).spawn(move || tick(&theirs, &engine))?;
        // As many as tokio has workers.
        let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Ticker { shared, thread: handle.thread().clone(), lane: Lane::beside(threads)? })
    }

    /// Where guests take turns that compute for longer than a tick.
    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Call before each poll of a guest.
    pub(crate) fn turn(&self) -> Turn<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) && self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Turn(&self.shared)
    }

    #[cfg(test)]
    pub(crate) fn asleep(&self) -> bool {
        self.shared.asleep.load(Ordering::SeqCst)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

fn tick(shared: &Shared, engine: &EngineWeak) {
    let mut idle = 0;
    while !shared.ended.load(Ordering::SeqCst) {
        thread::park_timeout(TICK);
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
        idle = if shared.running.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle >= IDLE_TICKS {
            sleep(shared);
            idle = 0;
        }
    }
}

/// Until a guest runs. Says that it sleeps before it looks for guests once more, while a guest says that it runs before
/// it looks for a sleeper: one of the two always sees the other.
fn sleep(shared: &Shared) {
    shared.asleep.store(true, Ordering::SeqCst);
    if shared.running.load(Ordering::SeqCst) > 0 {
        shared.asleep.store(false, Ordering::SeqCst);
    }
    while shared.asleep.load(Ordering::SeqCst) && !shared.ended.load(Ordering::SeqCst) {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use wasmtime::Engine;

    #[test]
    fn sleeps_when_nothing_runs_and_wakes_for_a_guest() {
        let engine = Engine::default();
        let ticker = Ticker::start(engine.weak()).unwrap();
        let started = Instant::now();
        let wait_until = |asleep: bool| {
            while ticker.asleep() != asleep {
                assert!(started.elapsed() < Duration::from_secs(60), "the ticker did not change its state");
                thread::yield_now();
            }
        };
        wait_until(true);
        let turn = ticker.turn();
        assert!(!ticker.asleep());
        drop(turn);
        wait_until(true);
    }
}
