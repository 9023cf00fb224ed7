//! The conformance suite: what every driver does, whatever it runs.
//!
//! A driver's own tests say what it can be given ([`Subject`]) and call [`run`]. What an isolate cannot have, such as a
//! program that ignores being asked to stop, the subject leaves out, and the cases that need it are not run. [`run`]
//! returns the names of those that were, so that a test can insist on them.

mod client;

use crate::contract::{Artifact, Driver, DriverError, Exit, Recovery, Running, StartSpec, Usage};
use async_trait::async_trait;
pub use client::get;
use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tutti_model::{InstanceId, Millis, VersionRef, log::LogLine, manifest::Manifest};

/// How long anything that is waited for may take; on a busy machine a start may take seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a driver may take to force an instance to its end, beyond the grace.
const FORCED_WITHIN: Duration = Duration::from_secs(10);

/// What a program needs to be run.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its artifact.
    pub artifact: Artifact,
    /// Its manifest.
    pub manifest: Manifest,
}

/// A driver and what it can be given. A case starts with a driver of its own.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A driver over the state that an earlier one left, as an agent has after it was started again.
    async fn driver(&self) -> Arc<dyn Driver>;

    /// A folder for the suite's own use.
    fn folder(&self) -> PathBuf;

    /// Answers `GET /` with 200 and `hello`.
    fn hello(&self) -> Sample;

    /// Ends with code 3 at once, after it has written `about to fail` to its standard error.
    fn crasher(&self) -> Option<Sample>;

    /// Answers like [`Subject::hello`] and ignores being asked to stop.
    fn stubborn(&self) -> Option<Sample>;

    /// Writes `line 0` to `line 99` to its standard output, then goes on to run.
    fn talker(&self) -> Option<Sample>;

    /// Nothing that could be run.
    fn unrunnable(&self) -> Option<Sample>;

    /// The log lines that were captured in this folder.
    async fn lines(&self, logs: &Path, instance: &InstanceId) -> Vec<LogLine>;
}

/// Runs every case that the subject has the programs for. Gives their names.
///
/// # Errors
/// Which case failed, and how.
pub async fn run(subject: &dyn Subject) -> Result<Vec<&'static str>, String> {
    let mut done = Vec::new();
    macro_rules! case {
        ($name:ident) => {
            match tokio::time::timeout(PATIENCE, $name(subject)).await {
                Ok(Ok(true)) => done.push(stringify!($name)),
                Ok(Ok(false)) => {}
                Ok(Err(why)) => return Err(format!("{}: {why}", stringify!($name))),
                Err(_) => return Err(format!("{}: took longer than {PATIENCE:?}", stringify!($name))),
            }
        };
    }
    case!(fingerprint_is_honest);
    case!(preload_is_idempotent);
    case!(start_makes_it_reachable);
    case!(two_run_side_by_side);
    case!(stop_twice_is_stop_once);
    case!(a_stubborn_one_is_forced);
    case!(an_exit_is_reported);
    case!(lines_are_captured_in_order);
    case!(usage_is_counted);
    case!(what_an_agent_left_is_recovered);
    case!(what_ended_meanwhile_is_told);
    case!(it_can_be_started_again);
    case!(remove_leaves_nothing);
    case!(what_cannot_run_says_why);
    Ok(done)
}

/// Whether the case was run.
type Outcome = Result<bool, String>;

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn told(error: DriverError) -> String {
    error.chain()
}

/// The spec of an instance of its own.
fn spec(subject: &dyn Subject, number: u64, sample: &Sample) -> Result<StartSpec, String> {
    let folder = subject.folder();
    // Another one each time: what a driver names after its instances may be the whole machine's to see.
    let seed = tutti_base::sha256::digest(format!("{} {number}", folder.display()).as_bytes());
    let bits = seed.hex().get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(number);
    let instance = InstanceId::from_bits(bits);
    let version: VersionRef =
        "example.com:web@1.0".parse().map_err(|error: tutti_model::Problem| error.detail)?;
    Ok(StartSpec {
        folder: folder.join("instances").join(instance.as_str()),
        logs: folder.join("logs").join(instance.as_str()),
        instance,
        version,
        artifact: sample.artifact.clone(),
        manifest: sample.manifest.clone(),
        secrets: tutti_base::SecretValues::default(),
        until: None,
    })
}

async fn start(driver: &dyn Driver, spec: &StartSpec) -> Result<Arc<dyn Running>, String> {
    driver.preload(&spec.artifact).await.map_err(told)?;
    driver.start(spec).await.map_err(told)
}

/// Stops and removes it, as every case ends.
async fn end(driver: &dyn Driver, running: &dyn Running, spec: &StartSpec) -> Outcome {
    running.stop(Millis::seconds(10)).await;
    driver.remove(spec).await.map_err(told)?;
    Ok(true)
}

async fn exited(running: &dyn Running) -> Result<Exit, String> {
    let mut exit = running.exit();
    let found = exit.wait_for(Option::is_some).await.map_err(|error| error.to_string())?;
    found.clone().ok_or_else(|| "no exit".to_owned())
}

/// Calls `attempt` until it gives something, or the bound of the case is up.
async fn until<T, F: Future<Output = Option<T>>>(mut attempt: impl FnMut() -> F) -> T {
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        // There is nothing to wait on: what is asked is another program's inside.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until it answers `hello`; fails at once if it ends.
pub async fn answers(running: &dyn Running) -> Result<(), String> {
    let mut exit = running.exit();
    let target = running.target();
    let answer = until(|| async { get(&target).await.ok().filter(|(status, _)| *status != 503) });
    let ended = async {
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.as_ref().map_or_else(String::new, |exit| exit.text.clone()),
            Err(error) => error.to_string(),
        }
    };
    tokio::select! {
        answer = answer => ensure(answer == (200, "hello".to_owned()), || format!("answered {answer:?}")),
        text = ended => Err(format!("ended before it answered: {text}")),
    }
}

async fn fingerprint_is_honest(subject: &dyn Subject) -> Outcome {
    let driver = subject.driver().await;
    let found = driver.fingerprint().await;
    ensure(found.isolate == driver.isolate(), || format!("it is of {}", found.isolate))?;
    ensure(found.usable, || format!("not usable: {}", found.notes.join("; ")))?;
    ensure(found.notes.iter().all(|note| !note.trim().is_empty()), || "an empty note".into())?;
    // What it says of the host is what instances meet.
    let spec = spec(subject, 1, &subject.hello())?;
    let running = start(&*driver, &spec).await?;
    let weaker = running.weaker();
    end(&*driver, &*running, &spec).await?;
    ensure(weaker.iter().all(|line| found.notes.contains(line)), || {
        format!("weaker than told: {weaker:?}, told: {:?}", found.notes)
    })?;
    Ok(true)
}

async fn preload_is_idempotent(subject: &dyn Subject) -> Outcome {
    let driver = subject.driver().await;
    let artifact = subject.hello().artifact;
    let (one, two) = tokio::join!(driver.preload(&artifact), driver.preload(&artifact));
    one.map_err(told)?;
    two.map_err(told)?;
    driver.preload(&artifact).await.map_err(told)?;
    Ok(true)
}

async fn start_makes_it_reachable(subject: &dyn Subject) -> Outcome {
    let driver = subject.driver().await;
    let spec = spec(subject, 2, &subject.hello())?;
    let running = start(&*driver, &spec).await?;
    answers(&*running).await?;
    let target = running.target();
    ensure(running.exit().borrow().is_none(), || "it says that it has ended".into())?;
    running.stop(Millis::seconds(10)).await;
    ensure(running.exit().borrow().is_some(), || "stopped, and no exit".into())?;
    ensure(get(&target).await.is_err(), || "it answers after it was stopped".into())?;
    end(&*driver, &*running, &spec).await
}

async fn two_run_side_by_side(subject: &dyn Subject) -> Outcome {
    let driver = subject.driver().await;
    let (one, two) = (spec(subject, 3, &subject.hello())?, spec(subject, 4, &subject.hello())?);
    driver.preload(&one.artifact).await.map_err(told)?;
    let (first, second) = tokio::join!(driver.start(&one), driver.start(&two));
    let (first, second) = (first.map_err(told)?, second.map_err(told)?);
    answers(&*first).await?;
    answers(&*second).await?;
    end(&*driver, &*first, &one).await?;
    answers(&*second).await?;
    end(&*driver, &*second, &two).await
}

async fn stop_twice_is_stop_once(subject: &dyn Subject) -> Outcome {
    let driver = subject.driver().await;
    let spec = spec(subject, 5, &subject.hello())?;
    let running = start(&*driver, &spec).await?;
    answers(&*running).await?;
    let (one, two) = tokio::join!(running.stop(Millis::seconds(10)), running.stop(Millis::seconds(10)));
    let three = running.stop(Millis(0)).await;
    ensure(one == two && two == three, || format!("ended as {one:?}, as {two:?} and as {three:?}"))?;
    end(&*driver, &*running, &spec).await
}

async fn a_stubborn_one_is_forced(subject: &dyn Subject) -> Outcome {
    let Some(sample) = subject.stubborn() else { return Ok(false) };
    let driver = subject.driver().await;
    let spec = spec(subject, 6, &sample)?;
    let running = start(&*driver, &spec).await?;
    answers(&*running).await?;
    let grace = Millis(300);
    let begun = std::time::Instant::now();
    let exit = running.stop(grace).await;
    let took = begun.elapsed();
    ensure(took >= grace.duration(), || {
        format!("ended after {took:?}, before its grace of {grace} was up: {exit:?}")
    })?;
    ensure(took < grace.duration() + FORCED_WITHIN, || format!("ended after {took:?}"))?;
    ensure(exit.code.is_none(), || format!("ended as if by itself: {exit:?}"))?;
    end(&*driver, &*running, &spec).await
}

async fn an_exit_is_reported(subject: &dyn Subject) -> Outcome {
    let Some(sample) = subject.crasher() else { return Ok(false) };
    let driver = subject.driver().await;
    let spec = spec(subject, 7, &sample)?;
    let running = start(&*driver, &spec).await?;
    let exit = exited(&*running).await?;
    ensure(exit.code == Some(3) && exit.text.contains("code 3"), || format!("told as {exit:?}"))?;
    // By the time the exit is known, the last line is too.
    let lines = subject.lines(&spec.logs, &spec.instance).await;
    ensure(lines.iter().any(|line| line.line == "about to fail"), || format!("logged {lines:?}"))?;
    end(&*driver, &*running, &spec).await
}

async fn lines_are_captured_in_order(subject: &dyn Subject) -> Outcome {
    let Some(sample) = subject.talker() else { return Ok(false) };
    let driver = subject.driver().await;
    let spec = spec(subject, 8, &sample)?;
    let running = start(&*driver, &spec).await?;
    let wanted: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
    let lines = until(|| async {
        let lines = subject.lines(&spec.logs, &spec.instance).await;
        lines.iter().any(|line| line.line == "line 99").then_some(lines)
    })
    .await;
    let found: Vec<String> =
        lines.iter().filter(|line| line.line.starts_with("line ")).map(|line| line.line.clone()).collect();
    ensure(found == wanted, || format!("logged {found:?}"))?;
    ensure(lines.is_sorted_by_key(|line| line.at), || "times go back".into())?;
    ensure(lines.iter().all(|line| line.instance == spec.instance), || "lines of another instance".into())?;
    end(&*driver, &*running, &spec).await
}

async fn usage_is_counted(subject: &dyn Subject) -> Outcome {
    let driver = subject.driver().await;
    let spec = spec(subject, 9, &subject.hello())?;
    let running = start(&*driver, &spec).await?;
    answers(&*running).await?;
    until(|| async {
        let Usage { memory, cpu_micros } = running.usage().await;
        if memory == 0 || cpu_micros == 0 {
            let _ = get(&running.target()).await;
        }
        (memory > 0 && cpu_micros > 0).then_some(())
    })
    .await;
    end(&*driver, &*running, &spec).await
}

async fn what_an_agent_left_is_recovered(subject: &dyn Subject) -> Outcome {
    let driver = subject.driver().await;
    let spec = spec(subject, 10, &subject.hello())?;
    ensure(driver.recover(&spec).await.map_err(told)?.is_none(), || "recovered what never was".into())?;
    let running = start(&*driver, &spec).await?;
    answers(&*running).await?;
    let recovery = driver.recovery();
    drop((running, driver));
    let driver = subject.driver().await;
    let found = driver.recover(&spec).await.map_err(told)?;
    match (recovery, found) {
        (Recovery::Gone, None) => Ok(true),
        (Recovery::Gone, Some(_)) => Err("recovered, though it says that all is gone".into()),
        (Recovery::Undisturbed, None) => Err("not recovered".into()),
        (Recovery::Undisturbed, Some(running)) => {
            answers(&*running).await?;
            end(&*driver, &*running, &spec).await
        }
    }
}

async fn what_ended_meanwhile_is_told(subject: &dyn Subject) -> Outcome {
    let Some(sample) = subject.crasher() else { return Ok(false) };
    let driver = subject.driver().await;
    if driver.recovery() == Recovery::Gone {
        return Ok(false);
    }
    let spec = spec(subject, 11, &sample)?;
    drop(start(&*driver, &spec).await?);
    drop(driver);
    let driver = subject.driver().await;
    let running = driver.recover(&spec).await.map_err(told)?.ok_or("not recovered")?;
    let exit = exited(&*running).await?;
    ensure(exit.code == Some(3), || format!("told as {exit:?}"))?;
    end(&*driver, &*running, &spec).await
}

async fn it_can_be_started_again(subject: &dyn Subject) -> Outcome {
    let driver = subject.driver().await;
    let spec = spec(subject, 12, &subject.hello())?;
    for _ in 0..3 {
        let running = start(&*driver, &spec).await?;
        answers(&*running).await?;
        running.stop(Millis::seconds(10)).await;
    }
    let running = start(&*driver, &spec).await?;
    end(&*driver, &*running, &spec).await
}

async fn remove_leaves_nothing(subject: &dyn Subject) -> Outcome {
    let driver = subject.driver().await;
    let spec = spec(subject, 13, &subject.hello())?;
    let running = start(&*driver, &spec).await?;
    answers(&*running).await?;
    end(&*driver, &*running, &spec).await?;
    ensure(!spec.folder.exists(), || format!("{} is still there", spec.folder.display()))?;
    ensure(driver.recover(&spec).await.map_err(told)?.is_none(), || {
        "it is recovered after it was removed".into()
    })?;
    // Removing what is gone is fine.
    driver.remove(&spec).await.map_err(told)?;
    Ok(true)
}

async fn what_cannot_run_says_why(subject: &dyn Subject) -> Outcome {
    let Some(sample) = subject.unrunnable() else { return Ok(false) };
    let driver = subject.driver().await;
    let spec = spec(subject, 14, &sample)?;
    let result = match driver.preload(&spec.artifact).await {
        Ok(()) => driver.start(&spec).await.map(drop),
        Err(error) => Err(error),
    };
    match result {
        Err(DriverError::Unrunnable(why)) => ensure(!why.trim().is_empty(), || "it does not say why".into())?,
        Err(error) => return Err(format!("refused as the host's fault: {}", error.chain())),
        Ok(()) => return Err("started".into()),
    }
    driver.remove(&spec).await.map_err(told)?;
    Ok(true)
}
