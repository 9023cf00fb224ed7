//! The slow lane: threads of its own, one fewer than the host runs at once and with less priority than the others, for the
//! turns of guests that compute for long.
//!
//! Short requests keep the other threads to themselves. That matters to the kernel too: a thread that mostly waits gets a
//! processor as soon as it wakes, and one that computes all the time waits for its share of a busy machine, with
//! everything that is queued behind it.
//!
//! Instances have the lane in equal parts, however many of their guests compute: each turn is queued where its
//! instance's earlier ones end (start-time fair queueing). A guest is in the queue for one turn only, so there are at
//! most as many as the engine takes requests.

use std::{
    collections::BTreeMap,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tokio_util::task::TaskTracker;

/// Turns on a processor that are longer are for the lane. Handing one over costs some ten microseconds, so they are a
/// small part of what goes there; and a request that waits for one that does not is hardly later for it.
const SHORT: Duration = Duration::from_micros(250);
/// The same for instances that keep a processor busy: what they do in between adds up, and others wait for all of it.
const SHORT_OF_BUSY: Duration = Duration::from_micros(100);
/// The part of one processor that makes an instance a busy one.
const BUSY_PARTS: u64 = 3;
/// What that is judged by, at least.
const WINDOW: Duration = Duration::from_millis(10);
/// How much less priority the lane's threads have: about a tenth of the weight of the others. Within the agent only,
/// where the kernel shares processors among control groups first.
const NICENESS: i32 = 10;
/// Turns that the usual length of an instance's is told by, about.
const SMOOTHED: u64 = 8;

/// One turn of a guest.
type Job = Box<dyn FnOnce() + Send>;

/// What an instance's guests have used together.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Processor time, in nanoseconds.
    cpu: AtomicU64,
    /// How long its turns have been lately, in nanoseconds of processor time.
    usual: AtomicU64,
    /// When the last window ended, in nanoseconds, and what had been used by then.
    window: (AtomicU64, AtomicU64),
    busy: AtomicBool,
    /// Where its turns in the lane end, in the lane's own time.
    reached: AtomicU64,
    /// Its guests that are in the lane.
    pub(crate) away: TaskTracker,
}

impl Share {
    /// Counts a turn that has just ended, in nanoseconds; `now` is a clock's, from whenever.
    pub(crate) fn count(&self, took: u64, now: u64) {
        let used = self.cpu.fetch_add(took, Ordering::Relaxed).saturating_add(took);
        // Guests that end together may lose one of the two: these are estimates.
        let passed = now.saturating_sub(self.window.0.load(Ordering::Relaxed));
        if passed > nanos(WINDOW) {
            let used_before = self.window.1.swap(used, Ordering::Relaxed);
            self.window.0.store(now, Ordering::Relaxed);
            let busy = used.saturating_sub(used_before).saturating_mul(BUSY_PARTS) > passed;
            self.busy.store(busy, Ordering::Relaxed);
        }
        let usual = self.usual.load(Ordering::Relaxed);
        self.usual.store(usual - usual / SMOOTHED + took / SMOOTHED, Ordering::Relaxed);
    }

    /// Processor time of its guests so far, in microseconds.
    pub(crate) fn cpu_micros(&self) -> u64 {
        self.cpu.load(Ordering::Relaxed) / 1000
    }

    /// Whether the next turn is for the lane, of a guest whose last took so many nanoseconds: if that was long, or if those
    /// of its siblings usually are. A guest that does much in its first turn and ends with it would go unnoticed otherwise.
    pub(crate) fn is_slow(&self, last: u64) -> bool {
        let short = if self.busy.load(Ordering::Relaxed) { SHORT_OF_BUSY } else { SHORT };
        last.max(self.usual.load(Ordering::Relaxed)) > nanos(short)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Turns that wait, by where they begin in the lane's own time and by when they came.
#[derive(Default)]
struct Queue {
    jobs: BTreeMap<(u64, u64), Job>,
    /// Where the turn begins that began last.
    now: u64,
    came: u64,
    ended: bool,
}

impl Queue {
    fn push(&mut self, share: &Share, job: Job) {
        let begins = share.reached.load(Ordering::Relaxed).max(self.now);
        let takes = share.usual.load(Ordering::Relaxed).max(1);
        share.reached.store(begins.saturating_add(takes), Ordering::Relaxed);
        self.came += 1;
        self.jobs.insert((begins, self.came), job);
    }

    fn pop(&mut self) -> Option<Job> {
        let ((begins, _), job) = self.jobs.pop_first()?;
        self.now = begins;
        Some(job)
    }
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    waiting: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next turn, once there is one; `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if queue.ended {
                return None;
            }
            if let Some(job) = queue.pop() {
                return Some(job);
            }
            queue = self.waiting.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The lane of one driver. Dropping it ends its threads, and drops what waits.
pub(crate) struct Lane(Arc<Shared>);

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

impl Lane {
    /// The lane of a host that runs so many threads at once. It has at least one, since otherwise nothing long could ever
    /// end.
    pub(crate) fn beside(threads: usize) -> io::Result<Lane> {
        let lane = Lane(Arc::default());
        for _ in 0..threads.saturating_sub(1).max(1) {
            let shared = Arc::clone(&lane.0);
            thread::Builder::new().name("wasm-lane".to_owned()).spawn(move || work(&shared))?;
        }
        Ok(lane)
    }

    /// Queues a turn of one of the instance's guests. It is dropped unrun if the lane ends before it.
    pub(crate) fn send(&self, share: &Share, job: Job) {
        let mut queue = self.0.queue();
        if !queue.ended {
            queue.push(share, job);
            drop(queue);
            self.0.waiting.notify_one();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let left = {
            let mut queue = self.0.queue();
            queue.ended = true;
            std::mem::take(&mut queue.jobs)
        };
        self.0.waiting.notify_all();
        // Outside of the lock: they drop whole guests.
        drop(left);
    }
}

/// Lets the threads of short requests go first where they wait for this one's processor. The kernel does not interrupt who
/// is in its time slice for them, whatever their priority (some 1.5 ms on two processors; EEVDF's "run to parity").
pub(crate) fn pause() {
    thread::yield_now();
}

fn work(shared: &Shared) {
    // Of this thread only. Nobody is refused less priority; and without it, the lane is a lane still.
    let _ = rustix::process::nice(NICENESS);
    while let Some(job) = shared.next() {
        pause();
        // What panics drops its own guest, which whoever waits for it notices, and no other.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Counts so many turns of so many microseconds, each so many after the one before.
    fn count(share: &Share, turns: u64, took: u64, every: u64) {
        let began = share.window.0.load(Ordering::Relaxed);
        for turn in 1..=turns {
            share.count(took * 1000, began + turn * every * 1000);
        }
    }

    fn long() -> Share {
        let share = Share::default();
        count(&share, 100, 2_000, 2_000);
        share
    }

    #[test]
    fn what_usually_takes_long_begins_in_the_lane_and_one_long_turn_is_the_guest_s_own() {
        assert!(long().is_slow(0));
        let share = Share::default();
        assert!(!share.is_slow(0));
        assert!(share.is_slow(2_000_000));
        count(&share, 1, 1_500, 1_500);
        assert!(!share.is_slow(100_000));
        let share = long();
        count(&share, 100, 100, 2_000);
        assert!(!share.is_slow(100_000));
        assert_eq!(share.cpu_micros(), 210_000);
    }

    #[test]
    fn shorter_turns_are_long_enough_where_they_keep_a_processor_busy() {
        let share = Share::default();
        count(&share, 200, 200, 1_000);
        assert!(!share.is_slow(200_000), "a fifth of a processor");
        count(&share, 200, 200, 300);
        assert!(share.is_slow(200_000), "two thirds");
        count(&share, 200, 50, 75);
        assert!(!share.is_slow(50_000), "as much, but in turns that nobody waits for");
        count(&share, 200, 200, 1_000);
        assert!(!share.is_slow(200_000), "a fifth again");
    }

    #[test]
    fn one_with_many_turns_waits_for_one_with_few() {
        let (order, ran) = mpsc::channel();
        let job = |name: &'static str| -> Job {
            let order = order.clone();
            Box::new(move || order.send(name).unwrap())
        };
        let (greedy, modest) = (long(), long());
        let mut queue = Queue::default();
        for _ in 0..3 {
            queue.push(&greedy, job("greedy"));
        }
        queue.pop().unwrap()();
        queue.push(&modest, job("modest"));
        queue.push(&greedy, job("greedy"));
        while let Some(job) = queue.pop() {
            job();
        }
        let names: Vec<_> = ran.try_iter().collect();
        assert_eq!(names, ["greedy", "modest", "greedy", "greedy", "greedy"]);
    }

    #[test]
    fn a_panic_is_one_guest_s_and_the_end_drops_what_waits() {
        let lane = Lane::beside(1).unwrap();
        let (done, ran) = mpsc::channel();
        let share = Share::default();
        lane.send(&share, Box::new(|| panic!("on purpose")));
        let (begin, begun) = mpsc::channel();
        let (go, goes) = mpsc::channel();
        lane.send(
            &share,
            Box::new(move || {
                begin.send(()).unwrap();
                goes.recv().unwrap();
            }),
        );
        begun.recv_timeout(Duration::from_secs(60)).unwrap();
        lane.send(&share, Box::new(move || done.send(()).unwrap()));
        drop(lane);
        assert!(ran.recv_timeout(Duration::from_secs(60)).is_err());
        go.send(()).unwrap();
    }
}
