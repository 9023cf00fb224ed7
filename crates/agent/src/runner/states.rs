//! The states of an instance's life, in the order in which it is lived.

use super::{
    Interrupt, Origin, Runner, STOP_GRACE, State,
    asleep::{Rest, until_look},
    exited,
};
use crate::{
    admission::Slot,
    health, logs,
    preload::{PreloadError, preload},
    restart::rounded,
};
use futures_util::future;
use std::sync::Arc;
use tokio::sync::watch;
use tutti_api::logs::Kept;
use tutti_base::crashpoint;
use tutti_isolate::{Artifact, Recovery, Running, StartSpec};
use tutti_model::{Millis, Timestamp, instance::InstanceState};

/// How often a driver is asked for an instance of an earlier agent before it counts as gone.
const RECOVER_ATTEMPTS: u32 = 3;
/// The pause in between.
const RECOVER_PAUSE: Millis = Millis(500);

impl Runner {
    /// An earlier agent had started it: takes it up again, or starts it anew.
    pub(super) async fn recovering(&mut self) -> State {
        let goes_on =
            if self.entry.spec.goal.runs() { State::Preloading } else { State::Stopped { reason: None } };
        let Some(driver) = self.driver().filter(|driver| driver.recovery() == Recovery::Undisturbed) else {
            return goes_on;
        };
        self.wants_lease();
        // Without the artifact, which only a start needs: control and its registry may be away.
        let start = self.start_spec();
        for attempt in 1..=RECOVER_ATTEMPTS {
            match driver.recover(&start).await {
                Ok(Some(running)) => {
                    tracing::info!(instance = %self.entry.spec.instance, "taken up again");
                    self.live(&running, None);
                    return State::Probing(running, self.node.clock.now());
                }
                Ok(None) => return goes_on,
                Err(error) => {
                    tracing::warn!(instance = %self.entry.spec.instance, error = error.chain(), attempt, "cannot be taken up again");
                    self.node.clock.sleep(RECOVER_PAUSE).await;
                }
            }
        }
        goes_on
    }

    /// Its artifact is pulled, verified and compiled; and the ledger is written, without which it is not started.
    pub(super) async fn preloading(&mut self) -> State {
        self.say_early(InstanceState::Preloading, None);
        loop {
            let (node, entry) = (Arc::clone(&self.node), self.entry.clone());
            let spec = &entry.spec;
            let loads = future::maybe_done(preload(&node, &spec.version, spec.isolate, &spec.artifact));
            tokio::pin!(loads);
            // Side by side. The write is not broken off: it could overtake the next one.
            let written = tokio::select! {
                written = node.ledger.write(entry.clone()) => written,
                () = async { loads.as_mut().await; future::pending().await } => Ok(()),
            };
            crashpoint::reached(|| "agent/recorded".to_owned());
            let result = match written {
                Err(error) => Err(PreloadError::Unavailable(error.to_string())),
                Ok(()) => loop {
                    tokio::select! {
                        biased;
                        () = self.orders.changed() => if let Some(interrupt) = self.obey().await {
                            return self.give_up(interrupt, None).await;
                        },
                        () = loads.as_mut() => {
                            let lost = || Err(PreloadError::Unavailable("the preload was lost".into()));
                            break loads.as_mut().take_output().unwrap_or_else(lost);
                        }
                    }
                },
            };
            let text = match result {
                Ok(artifact) => return State::Starting(artifact),
                // What ran before can run: then it is rather the registry that has lost something, or is not itself.
                Err(PreloadError::Unrunnable(text)) if self.entry.ever_ready => text,
                Err(PreloadError::Unrunnable(reason)) => {
                    return State::Failed { reason, last_lines: Vec::new() };
                }
                Err(PreloadError::Unavailable(text)) => text,
            };
            let pause = self.pulls.fail();
            let reason = format!("{text} (trying again in {})", rounded(pause));
            self.voice.say(InstanceState::Preloading, Some(reason), Vec::new());
            if let Some(interrupt) = self.pause(pause).await {
                return self.give_up(interrupt, None).await;
            }
        }
    }

    /// It is started. That is short, and not broken off: a driver that is interrupted could leave something running.
    pub(super) async fn starting(&mut self, artifact: Artifact) -> State {
        self.say_early(InstanceState::Starting, None);
        self.artifact = Some(artifact);
        let Some(driver) = self.driver() else {
            return State::Failed {
                reason: format!("no driver for {}", self.entry.spec.isolate),
                last_lines: Vec::new(),
            };
        };
        let secrets = match self.secrets().await {
            Ok(secrets) => secrets,
            Err(interrupt) => return self.give_up(interrupt, None).await,
        };
        let until = match self.lease().await {
            Ok(until) => until,
            Err(interrupt) => return self.give_up(interrupt, None).await,
        };
        let started = self.node.clock.now();
        self.clear().await;
        self.remains = true;
        let kept = Kept {
            instance: self.entry.spec.instance.clone(),
            version: self.entry.spec.version.clone(),
            started,
        };
        logs::note(self.node.folders.clone(), kept).await;
        match driver.start(&StartSpec { secrets, until, ..self.start_spec() }).await {
            Ok(running) => {
                crashpoint::reached(|| "agent/started".to_owned());
                self.live(&running, None);
                State::Probing(running, started)
            }
            Err(tutti_isolate::DriverError::Unrunnable(reason)) => {
                let last_lines = self.last_lines().await;
                State::Failed { reason, last_lines }
            }
            Err(error) => self.crashed(started, &error.chain()).await,
        }
    }

    /// Says a state before it is ready, unless an earlier agent had it ready and it is only being taken up again, or it
    /// wakes: were it called starting, control would take its traffic away for the few milliseconds until it answers.
    /// What goes wrong on the way is said all the same.
    fn say_early(&mut self, state: InstanceState, reason: Option<String>) {
        let is_taken_up = self.origin == Origin::Ledger && self.entry.ever_ready && !self.voice.has_spoken();
        if !is_taken_up && self.sleeper.is_none() {
            self.voice.say(state, reason, Vec::new());
        }
    }

    /// It runs, and is asked until it answers.
    pub(super) async fn probing(&mut self, running: Arc<dyn Running>, started: Timestamp) -> State {
        self.voice.weaker(running.weaker());
        self.say_early(InstanceState::Starting, None);
        let (health, target) = (self.entry.spec.manifest.health.clone(), running.target());
        let clock = Arc::clone(&self.node.clock);
        let mut exit = running.exit();
        let (told, mut kept_by) = watch::channel(None);
        let answers = health::until_ready(&health, &target, clock.as_ref(), &told);
        tokio::pin!(answers);
        let fault = loop {
            tokio::select! {
                biased;
                () = self.orders.changed() => if let Some(interrupt) = self.obey().await {
                    return self.give_up(interrupt, Some(running)).await;
                },
                exit = exited(&mut exit) => return self.crashed(started, &exit.text).await,
                Ok(()) = kept_by.changed() => {
                    let fault = kept_by.borrow_and_update().clone();
                    self.say_early(InstanceState::Starting, fault);
                }
                answer = &mut answers => match answer {
                    Ok(()) => return State::Ready(running, started),
                    Err(fault) => break fault,
                },
            }
        };
        let reason = format!("was not ready within {}: {fault}", health.start);
        running.stop(STOP_GRACE).await;
        if self.entry.ever_ready {
            return self.crashed(started, &reason).await;
        }
        self.node.living.remove(&self.entry.spec.instance);
        let last_lines = self.last_lines().await;
        State::Failed { reason, last_lines }
    }

    /// It takes requests, and is asked now and then.
    pub(super) async fn ready(&mut self, running: Arc<dyn Running>, started: Timestamp) -> State {
        let (id, version, manifest) = (
            self.entry.spec.instance.clone(),
            self.entry.spec.version.clone(),
            self.entry.spec.manifest.clone(),
        );
        let target = running.target();
        let slot = Arc::new(Slot::new(id, target.clone(), manifest.concurrency));
        self.live(&running, Some(Arc::clone(&slot)));
        // Before control hears of it, so that whoever is sent here is let in.
        self.node.directory.open(&version, manifest.timeout, Arc::clone(&slot));
        self.sleeper = None;
        self.voice.say(InstanceState::Ready, None, Vec::new());
        if !self.entry.ever_ready {
            self.entry.ever_ready = true;
            self.record().await;
        }
        let mut exit = running.exit();
        let mut rest = manifest.idle().map(|span| Rest::new(span, self.node.clock.now()));
        let mut faults = 0u32;
        let interval = manifest.health.interval;
        let mut next = self.node.clock.now().plus(health::first_pause(interval, &self.node.random));
        let node = Arc::clone(&self.node);
        loop {
            let asked = async {
                if health::is_lasting(&manifest.health.probe, &target) {
                    std::future::pending::<()>().await;
                }
                node.clock.sleep_until(next).await;
                health::probe(&manifest.health, &target).await
            };
            tokio::select! {
                biased;
                () = self.orders.changed() => if let Some(interrupt) = self.obey().await {
                    return self.leave_ready(interrupt, running, slot).await;
                },
                exit = exited(&mut exit) => {
                    node.directory.close(&version, &slot);
                    return self.crashed(started, &exit.text).await;
                }
                () = until_look(rest.as_ref(), node.clock.as_ref()) => {
                    let is_over = rest.as_mut().is_some_and(|rest| rest.is_over(node.clock.now(), &slot));
                    if is_over && slot.close_if_empty() {
                        return self.falls_asleep(running).await;
                    }
                }
                answer = asked => {
                    next = node.clock.now().plus(interval);
                    let Err(fault) = answer else { faults = 0; continue };
                    faults += 1;
                    if faults >= manifest.health.failures {
                        node.directory.close(&version, &slot);
                        let reason = format!("failed its probe {faults} times in a row: {fault}");
                        self.voice.say(InstanceState::Starting, Some(reason.clone()), Vec::new());
                        running.stop(STOP_GRACE).await;
                        return self.crashed(started, &reason).await;
                    }
                }
            }
        }
    }

    /// It is told to end while it takes requests.
    async fn leave_ready(
        &mut self,
        interrupt: Interrupt,
        running: Arc<dyn Running>,
        slot: Arc<Slot>,
    ) -> State {
        let node = Arc::clone(&self.node);
        match interrupt {
            Interrupt::Drain => return State::Draining(running, slot),
            // What runs on takes requests to the last.
            Interrupt::Leave => return State::Over,
            Interrupt::Stop | Interrupt::Remove | Interrupt::Shutdown(_) => {}
        }
        node.directory.close(&self.entry.spec.version, &slot);
        self.let_finish(interrupt, &slot).await;
        self.give_up(interrupt, Some(running)).await
    }

    /// When the agent ends in order, requests inside a closed slot may finish, in half of the time that there is.
    async fn let_finish(&self, interrupt: Interrupt, slot: &Slot) {
        let Interrupt::Shutdown(deadline) = interrupt else { return };
        tokio::select! {
            () = slot.emptied() => {}
            () = self.node.clock.sleep(Millis(deadline.0 / 2)) => {}
        }
    }

    /// It has ended and is started again after a pause.
    pub(super) async fn backoff(&mut self, pause: Millis) -> State {
        match (self.pause(pause).await, self.artifact.take()) {
            (Some(interrupt), _) => self.give_up(interrupt, None).await,
            (None, Some(artifact)) => State::Starting(artifact),
            (None, None) => State::Preloading,
        }
    }

    /// It takes no new requests; those inside may finish.
    pub(super) async fn draining(&mut self, running: Arc<dyn Running>, slot: Arc<Slot>) -> State {
        let manifest = self.entry.spec.manifest.clone();
        self.node.directory.close(&self.entry.spec.version, &slot);
        self.voice.say(InstanceState::Draining, None, Vec::new());
        let node = Arc::clone(&self.node);
        let mut exit = running.exit();
        let over = node.clock.sleep(manifest.drain);
        tokio::pin!(over);
        let reason = loop {
            tokio::select! {
                biased;
                () = slot.emptied() => break None,
                exit = exited(&mut exit) => break Some(format!("{} while it finished its requests", exit.text)),
                () = self.orders.changed() => match self.obey().await {
                    None | Some(Interrupt::Drain) => {}
                    Some(interrupt) => {
                        tokio::select! {
                            () = self.let_finish(interrupt, &slot) => {}
                            () = &mut over => {}
                        }
                        return self.give_up(interrupt, Some(running)).await;
                    }
                },
                () = &mut over => break Some(cut_off(slot.running(), manifest.drain)),
            }
        };
        running.stop(STOP_GRACE).await;
        self.node.living.remove(&self.entry.spec.instance);
        State::Stopped { reason }
    }

    /// It cannot run, and is not tried again. Written down before it is told: a failed instance never comes back.
    pub(super) async fn failed(&mut self, reason: String, last_lines: Vec<String>) -> State {
        self.voice.prepare(InstanceState::Failed, Some(reason), last_lines);
        self.entry.ended = Some(self.voice.status().clone());
        self.entry.secrets = None;
        self.record().await;
        self.voice.said();
        self.clear().await;
        State::Ended
    }

    /// It is gone.
    pub(super) async fn stopped(&mut self, reason: Option<String>) -> State {
        self.voice.say(InstanceState::Stopped, reason, Vec::new());
        self.entry.ended = Some(self.voice.status().clone());
        self.entry.secrets = None;
        self.record().await;
        self.clear().await;
        State::Ended
    }

    /// Nothing is left but its last status, until control has forgotten it.
    pub(super) async fn ended(&mut self) -> State {
        self.node.leases.forget(&self.entry.spec.instance);
        let failed = self.voice.status().state == InstanceState::Failed;
        loop {
            self.orders.changed().await;
            match self.obey().await {
                None => {}
                Some(Interrupt::Drain | Interrupt::Stop) if failed => {
                    let reason = self.voice.status().reason.clone();
                    return State::Stopped { reason };
                }
                Some(Interrupt::Drain | Interrupt::Stop) => {}
                Some(Interrupt::Remove) => return State::Removed,
                Some(Interrupt::Leave | Interrupt::Shutdown(_)) => return State::Over,
            }
        }
    }

    /// Control has forgotten it: so does the node. The ledger's entry goes last, so that what could not be removed is
    /// tried again by the next agent.
    pub(super) async fn removed(&mut self) -> State {
        let id = self.entry.spec.instance.clone();
        if self.clear().await
            && let Err(error) = self.node.ledger.remove(&id).await
        {
            tracing::warn!(instance = %id, %error, "the ledger keeps an instance that is gone");
        }
        self.node.reporter.forget(&id);
        logs::sweep(self.node.folders.clone()).await;
        State::Over
    }

    /// Waits, unless an order ends it.
    pub(super) async fn pause(&mut self, span: Millis) -> Option<Interrupt> {
        let node = Arc::clone(&self.node);
        let over = node.clock.sleep(span);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = self.orders.changed() => if let Some(interrupt) = self.obey().await {
                    return Some(interrupt);
                },
                () = &mut over => return None,
            }
        }
    }
}

fn cut_off(requests: u32, drain: Millis) -> String {
    let what = if requests == 1 { "1 request was".to_owned() } else { format!("{requests} requests were") };
    format!("{what} cut off after {drain}")
}
