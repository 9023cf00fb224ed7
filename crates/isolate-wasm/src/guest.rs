//! One request inside a guest: a future that is polled while the answer is wanted, on the clock.
//!
//! A turn that is likely to be long is handed to the [`lane`](crate::lane), which gives the guest back after it. So a
//! guest runs only while somebody wants its answer, wherever it runs.

use crate::{
    lane::{Share, pause},
    ticker::Ticker,
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    fmt::Write as _,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tutti_isolate::HandleError;
use wasmtime::{PoolConcurrencyLimitError, WasmBacktrace};

/// Frames of a trap that are shown: where it happened and how it came there.
const FRAMES: usize = 6;

/// What one request has used, kept by whoever polls it.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Most time on a thread.
    most: Duration,
    /// When this meter began; the two below count from it or by it, in nanoseconds.
    begun: Instant,
    used: AtomicU64,
    polled_at: AtomicU64,
    memory_refused: AtomicBool,
}

/// The guest has used up its time on a thread.
#[derive(Debug, thiserror::Error)]
#[error("cpu time exceeded")]
pub(crate) struct CpuExceeded;

/// The instance was stopped.
#[derive(Debug, thiserror::Error)]
#[error("the instance was stopped")]
pub(crate) struct Stopped;

impl Meter {
    pub(crate) fn new(most: Duration) -> Self {
        Meter {
            most,
            begun: Instant::now(),
            used: AtomicU64::new(0),
            polled_at: AtomicU64::new(0),
            memory_refused: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn begin(&self) {
        self.polled_at.store(self.now(), Ordering::Relaxed);
    }

    /// Ends a poll.
    fn end(&self) {
        let took = self.now().saturating_sub(self.polled_at.load(Ordering::Relaxed));
        self.used.fetch_add(took, Ordering::Relaxed);
    }

    /// Whether the guest may go on; asked in the middle of a poll.
    pub(crate) fn check(&self) -> Result<(), CpuExceeded> {
        let polling = self.now().saturating_sub(self.polled_at.load(Ordering::Relaxed));
        let used = self.used.load(Ordering::Relaxed).saturating_add(polling);
        if Duration::from_nanos(used) > self.most { Err(CpuExceeded) } else { Ok(()) }
    }

    /// Begins anew, for another call in the same store.
    pub(crate) fn restart(&self) {
        self.used.store(0, Ordering::Relaxed);
        self.polled_at.store(self.now(), Ordering::Relaxed);
        self.memory_refused.store(false, Ordering::Relaxed);
    }

    pub(crate) fn refuse_memory(&self) {
        self.memory_refused.store(true, Ordering::Relaxed);
    }
}

/// The guest's own work.
pub(crate) type Work<T = ()> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send>>;

/// The guest's work and who is told what it takes.
struct Turns<T> {
    work: Work<T>,
    meter: Arc<Meter>,
    ticker: Arc<Ticker>,
    share: Arc<Share>,
    /// Processor time of the last turn, in nanoseconds.
    last: u64,
}

impl<T: Send + 'static> Turns<T> {
    /// Lets it run until it waits, ends, or its turn is over. What an end takes, its memory given back and its failure
    /// put into words, is part of the turn: after a deep recursion it takes longer than the guest itself. So there is a
    /// pause before it.
    fn next(&mut self, context: &mut Context<'_>, pause: fn()) -> Poll<Result<T, HandleError>> {
        let _turn = self.ticker.turn();
        let began = time(ClockId::ThreadCPUTime);
        self.meter.begin();
        let polled = self.work.as_mut().poll(context);
        self.meter.end();
        if polled.is_ready() {
            pause();
        }
        let polled = polled.map_err(|error| failure(&self.meter, &error));
        if polled.is_ready() {
            self.work = Box::pin(std::future::pending());
        }
        // Not the time that passed: on a busy machine the shortest turn may be interrupted for long.
        self.last = time(ClockId::ThreadCPUTime).saturating_sub(began);
        self.share.count(self.last, time(ClockId::Monotonic));
        polled
    }
}

/// What a clock says, in nanoseconds.
fn time(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

/// Wakes whoever waits for the guest, and remembers it: while the guest is in the lane, waking them is too early.
#[derive(Debug, Default)]
struct Signal {
    given: AtomicBool,
    waiter: Mutex<Option<Waker>>,
}

impl Signal {
    fn wait(&self, waiter: &Waker) {
        let mut known = self.waiter.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) => known.clone_from(waiter),
            None => *known = Some(waiter.clone()),
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.given.store(true, Ordering::SeqCst);
        let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// A guest and what its turn in the lane came to.
type Turned<T> = (Box<Turns<T>>, Poll<Result<T, HandleError>>);

/// Where the guest is.
enum Place<T> {
    Here(Box<Turns<T>>),
    /// In the lane, from where it comes back with what its turn came to.
    Away(oneshot::Receiver<Turned<T>>),
    Ended,
}

/// A guest at work. Dropping it ends the guest, wherever it is, and gives its memory back: at once, or at the end of its
/// turn in the lane.
pub(crate) struct Guest<T = ()> {
    place: Place<T>,
    meter: Arc<Meter>,
    signal: Arc<Signal>,
    stop: CancellationToken,
}

impl<T: Send + 'static> Guest<T> {
    pub(crate) fn new(
        work: Work<T>,
        meter: Arc<Meter>,
        ticker: Arc<Ticker>,
        share: Arc<Share>,
        stop: CancellationToken,
    ) -> Self {
        let turns = Turns { work, meter: Arc::clone(&meter), ticker, share, last: 0 };
        Guest { place: Place::Here(Box::new(turns)), meter, signal: Arc::default(), stop }
    }

    /// Lets it run until it waits, ends, or its turn is over.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T, HandleError>> {
        if self.stop.is_cancelled() {
            return Poll::Ready(Err(failure(&self.meter, &Stopped.into())));
        }
        loop {
            match std::mem::replace(&mut self.place, Place::Ended) {
                Place::Here(mut turns) if !turns.share.is_slow(turns.last) => {
                    let polled = turns.next(context, || ());
                    if polled.is_pending() {
                        self.place = Place::Here(turns);
                    }
                    return polled;
                }
                Place::Here(turns) => self.place = Place::Away(self.send(turns, context.waker())),
                Place::Away(mut turn) => {
                    self.signal.wait(context.waker());
                    let Poll::Ready(back) = Pin::new(&mut turn).poll(context) else {
                        self.place = Place::Away(turn);
                        return Poll::Pending;
                    };
                    let Ok((turns, polled)) = back else {
                        return Poll::Ready(Err(HandleError::Trap(
                            "the host failed at the request".to_owned(),
                        )));
                    };
                    if polled.is_pending() {
                        self.place = Place::Here(turns);
                        // One that was woken meanwhile wants another turn.
                        if self.signal.given.load(Ordering::SeqCst) {
                            context.waker().wake_by_ref();
                        }
                    }
                    return polled;
                }
                Place::Ended => {
                    return Poll::Ready(Err(HandleError::Trap("the guest has ended".to_owned())));
                }
            }
        }
    }

    /// Whether it is in the lane, so that what it has just done is not known yet.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.place, Place::Away(_))
    }

    /// Sends it to the lane for one turn.
    fn send(&self, mut turns: Box<Turns<T>>, waiter: &Waker) -> oneshot::Receiver<Turned<T>> {
        let (back, turn) = oneshot::channel();
        self.signal.given.store(false, Ordering::SeqCst);
        self.signal.wait(waiter);
        let waker = Waker::from(Arc::clone(&self.signal));
        let (ticker, share) = (Arc::clone(&turns.ticker), Arc::clone(&turns.share));
        let away = share.away.token();
        // Timers and connections are those of the runtime that it comes from.
        let runtime = tokio::runtime::Handle::try_current().ok();
        let job = move || {
            let _away = away;
            let _runtime = runtime.as_ref().map(tokio::runtime::Handle::enter);
            if back.is_closed() {
                drop(turns);
            } else {
                let polled = turns.next(&mut Context::from_waker(&waker), pause);
                // Nobody may want it any more; then it ends here.
                drop(back.send((turns, polled)));
            }
        };
        ticker.lane().send(&share, Box::new(job));
        turn
    }
}

/// What ended a guest.
fn failure(meter: &Meter, error: &wasmtime::Error) -> HandleError {
    if error.is::<CpuExceeded>() {
        HandleError::Time
    } else if let Some(full) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        HandleError::Full(full.to_string())
    } else if meter.memory_refused.load(Ordering::Relaxed) {
        HandleError::Memory
    } else {
        HandleError::Trap(describe(error))
    }
}

impl<T: Send + 'static> Future for Guest<T> {
    type Output = Result<T, HandleError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Guest::poll(&mut self, context)
    }
}

/// One line: what went wrong, and the innermost functions it went wrong in.
fn describe(error: &wasmtime::Error) -> String {
    let mut line = error.root_cause().to_string();
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return line };
    for (index, frame) in backtrace.frames().iter().take(FRAMES).enumerate() {
        let separator = if index == 0 { " in " } else { " < " };
        let _ = match frame.func_name() {
            Some(name) => write!(line, "{separator}{name}"),
            None => write!(line, "{separator}function {}", frame.func_index()),
        };
    }
    line
}
