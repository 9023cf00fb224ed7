//! What a hostile guest costs its neighbour on the same node: the neighbour's slowest calls, quiet and beside it.

use crate::fixture::{Host, PATIENCE, Service, manifest};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;
use tutti_model::{Millis, manifest::Manifest};

/// Calls of one window: its p99 leaves out the two slowest.
const CALLS: usize = 200;
/// From one call to the next: a small service that is called now and then, not one that keeps a core busy.
const PAUSE: Duration = Duration::from_millis(1);
/// Windows of a round, quiet and hostile in turn, so that whatever else this machine does meets both alike.
const WINDOWS: usize = 5;
/// Rounds at most. One is enough where the machine is quiet; where none was, at least half of them have to hold.
const ROUNDS: usize = 4;
/// Calls of the hostile guest at once.
const CALLERS: usize = 4;
/// How much slower the slowest calls may be.
const FACTOR: u32 = 2;
/// Quiet windows that differ by more than this say that something else decides how long a call takes.
const NOISY: u32 = 4;
/// Below this the factor is not judged: less than one time slice of the kernel's, which whoever shares a processor with
/// anybody may have to wait for.
const FLOOR: Duration = Duration::from_millis(1);

/// The slowest of a window's calls but two. They come from outside of the runtime, as a client's do: what they wait for
/// includes that a thread is free for them at all. They end with the answer: when this thread, which stands for a machine
/// elsewhere, gets a processor for reading it is not the host's doing.
fn p99(runtime: &Handle, neighbour: &Service) -> Duration {
    let mut took: Vec<Duration> = (0..CALLS)
        .map(|_| {
            thread::sleep(PAUSE);
            let begun = Instant::now();
            let neighbour = neighbour.clone();
            let (answered, answer) = std::sync::mpsc::channel();
            runtime.spawn(async move {
                let answer = neighbour.call("SayHello", r#"{"name": "x"}"#).await;
                let _ = answered.send((answer.code(), begun.elapsed()));
            });
            let (code, took) = answer.recv_timeout(PATIENCE).unwrap();
            assert_eq!(code, 0);
            took
        })
        .collect();
    took.sort();
    took[CALLS * 99 / 100 - 1]
}

/// The hostile guest, called as fast as it ends while this exists.
struct Siege {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Siege {
    /// Begins, and comes back once it is at work.
    fn begin(runtime: &Handle, service: &Service, misdeed: &str) -> Siege {
        let siege = Siege { stop: Arc::default(), ended: Arc::default(), callers: Vec::new() };
        let caller = || {
            let (stop, ended) = (Arc::clone(&siege.stop), Arc::clone(&siege.ended));
            let (service, misdeed) = (service.clone(), misdeed.to_owned());
            runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = service.call("Misbehave", &misdeed).await;
                    assert_ne!(answer.code(), 0, "{misdeed}: {}", answer.text());
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let callers = (0..CALLERS).map(|_| caller()).collect();
        let begun = Instant::now();
        while siege.ended.load(Ordering::Relaxed) == 0 {
            assert!(begun.elapsed() < PATIENCE, "{misdeed} does not end");
            thread::yield_now();
        }
        Siege { callers, ..siege }
    }

    /// Ends it, and says how many calls there were.
    fn end(self, runtime: &Handle) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            runtime.block_on(async { tokio::time::timeout(PATIENCE, caller).await }).unwrap().unwrap();
        }
        self.ended.load(Ordering::Relaxed)
    }
}

fn median(windows: &[Duration]) -> Duration {
    let mut windows = windows.to_vec();
    windows.sort();
    windows[windows.len() / 2]
}

/// Whether the neighbour is served in time beside it. Prints what was measured.
fn holds(runtime: &Handle, neighbour: &Service, hostile: &Service, misdeed: &str) -> bool {
    let mut times_held = 0;
    for round in 1..=ROUNDS {
        let (mut quiet, mut beside, mut calls) = (Vec::new(), Vec::new(), 0);
        for _ in 0..WINDOWS {
            quiet.push(p99(runtime, neighbour));
            let siege = Siege::begin(runtime, hostile, misdeed);
            beside.push(p99(runtime, neighbour));
            calls += siege.end(runtime);
        }
        let (least, most) = (quiet.iter().min().unwrap(), quiet.iter().max().unwrap());
        let noisy = *most > (*least * NOISY).max(FLOOR);
        let (usual, slow) = (median(&quiet), median(&beside));
        let held = slow <= (usual * FACTOR).max(FLOOR);
        println!(
            "{misdeed}: p99 {usual:?} quiet ({least:?} to {most:?}{}), {slow:?} beside {calls} calls, round {round}: {}",
            if noisy { ", too noisy to judge by it alone" } else { "" },
            if held { "held" } else { "NOT HELD" },
        );
        if held && !noisy {
            return true;
        }
        times_held += usize::from(held);
    }
    times_held * 2 >= ROUNDS
}

/// A host of its own for each misdeed: what one leaves behind in the kernel's hands is not the next one's doing.
fn judged(runtime: &Handle, misdeed: &str) -> bool {
    let host = Host::new();
    let (hostile, neighbour) = runtime.block_on(async {
        let hostile = host.start(Manifest { timeout: Millis(500), ..manifest() }).await;
        (hostile, host.start_another(manifest()).await)
    });
    p99(runtime, &neighbour);
    holds(runtime, &neighbour, &hostile, misdeed)
}

#[test]
fn a_neighbour_is_served_in_time_beside_every_hostile_guest() {
    let misdeeds = [
        r#"{"spin": {}}"#,
        r#"{"storm": {}}"#,
        r#"{"bomb": {}}"#,
        r#"{"recurse": {}}"#,
        r#"{"tables": {}}"#,
        r#"{"huge": "8000000"}"#,
    ];
    let failed: Vec<_> = misdeeds
        .into_iter()
        .filter(|misdeed| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            !judged(runtime.handle(), misdeed)
        })
        .collect();
    assert!(failed.is_empty(), "a neighbour's p99 is more than {FACTOR} times as long beside {failed:?}");
}
