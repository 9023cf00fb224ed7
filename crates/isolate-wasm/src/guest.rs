//! One request inside a guest: a future that is polled while the answer is wanted, on the clock.

use crate::{lane::Place, ticker::Ticker};
use std::{
    fmt::Write as _,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
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
    /// The guest's place in the lane, within a poll.
    place: Mutex<Option<Place>>,
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
            place: Mutex::new(None),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn begin(&self) {
        self.polled_at.store(self.now(), Ordering::Relaxed);
    }

    /// Ends a poll and says how many nanoseconds it took.
    fn end(&self) -> u64 {
        let took = self.now().saturating_sub(self.polled_at.load(Ordering::Relaxed));
        self.used.fetch_add(took, Ordering::Relaxed);
        drop(self.place());
        took
    }

    fn place(&self) -> Option<Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps a place in the lane until the poll that is under way ends.
    pub(crate) fn keep(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
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

/// A guest at work. Dropping it ends the guest, wherever it is, and gives its memory back.
pub(crate) struct Guest<T = ()> {
    pub(crate) work: Work<T>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) ticker: Arc<Ticker>,
    /// Cpu time of all guests of the instance, in nanoseconds.
    pub(crate) cpu: Arc<AtomicU64>,
    pub(crate) stop: CancellationToken,
}

impl<T> Guest<T> {
    /// Lets it run until it waits, ends, or its turn is over.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T, HandleError>> {
        if self.stop.is_cancelled() {
            return Poll::Ready(Err(self.failure(&Stopped.into())));
        }
        let polled = {
            let _turn = self.ticker.turn();
            self.meter.begin();
            let polled = self.work.as_mut().poll(context);
            self.cpu.fetch_add(self.meter.end(), Ordering::Relaxed);
            polled
        };
        polled.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &wasmtime::Error) -> HandleError {
        if error.is::<CpuExceeded>() {
            HandleError::Time
        } else if let Some(full) = error.downcast_ref::<PoolConcurrencyLimitError>() {
            HandleError::Full(full.to_string())
        } else if self.meter.memory_refused.load(Ordering::Relaxed) {
            HandleError::Memory
        } else {
            HandleError::Trap(describe(error))
        }
    }
}

impl<T> Future for Guest<T> {
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
