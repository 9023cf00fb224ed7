//! The node's own sign of life: registers it once it serves again what it ran before, and says every few seconds that
//! it lives and what its instances use.

use crate::{
    node::{Life, Node},
    usage::Totals,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tutti_api::zone::{InstanceFigures, MEASURED_INSTANCES, NodeFigures, NodeHeartbeat};
use tutti_base::{Backoff, Uptime};
use tutti_model::{
    ErrorCode, InstanceId, Millis, Problem, Timestamp,
    instance::LEASE,
    node::{Held, NodeStatus, Resources},
    quantity::{ByteSize, MilliCpu},
};

/// Time between heartbeats. Control expects one every three seconds; this leaves room for a slow one.
const HEARTBEAT: Millis = Millis(2500);
/// Time between two heartbeats that say what was measured.
const MEASURE: Millis = Millis::seconds(10);
/// A heartbeat that has no answer by then counts as lost; the next follows at once.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);
/// A registration that has no answer by then counts as lost; it is tried again.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a failed registration, and the longest.
const PAUSES: (Millis, Millis) = (Millis(100), Millis::seconds(5));
/// How long a node that takes up what it ran before says nothing at all. Mostly that is enough; if it is not, it says
/// that it is there but not ready.
const QUIET: Millis = Millis::seconds(1);
/// How long it may take to take up what it ran before. Then it is ready with what it has.
const TAKING_UP: Millis = Millis::seconds(30);

/// Registers the node, anew whenever it holds something else ready, and says that it lives, until `stop`. `registered`
/// is cancelled once control has the node as ready.
pub(crate) async fn run(
    node: Arc<Node>,
    status: NodeStatus,
    settled: Vec<CancellationToken>,
    mut held: watch::Receiver<Vec<Held>>,
    registered: CancellationToken,
    stop: CancellationToken,
) {
    let ready = CancellationToken::new();
    let settling = async {
        tokio::select! {
            () = all(&settled) => {}
            () = node.clock.sleep(TAKING_UP) => tracing::warn!("not everything that ran before runs again yet"),
        }
        ready.cancel();
        std::future::pending::<()>().await;
    };
    let living = async {
        tokio::select! {
            biased;
            () = ready.cancelled() => {}
            () = node.clock.sleep(QUIET) => {}
        }
        let mut meter = Meter::default();
        let mut registered_at = node.clock.now();
        loop {
            let is_ready = ready.is_cancelled();
            let held_now = held.borrow_and_update().clone();
            register(&node, NodeStatus { ready: is_ready, held: held_now, registered_at, ..status.clone() })
                .await;
            if is_ready {
                registered.cancel();
            }
            tokio::select! {
                biased;
                () = beat(&node, &mut meter, is_ready, &ready) => registered_at = node.clock.now(),
                // Whoever pushed waits to hear it. Once nobody fills it, it changes no more.
                Ok(()) = held.changed() => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = settling => {}
        () = living => {}
    }
}

async fn all(tokens: &[CancellationToken]) {
    for token in tokens {
        token.cancelled().await;
    }
}

/// Returns once control has the node.
async fn register(node: &Node, status: NodeStatus) {
    let mut pauses = Backoff::new(PAUSES.0, PAUSES.1, node.random.clone());
    loop {
        let said =
            tokio::time::timeout(REGISTER_TIMEOUT, node.zone.register_node(&node.name, status.clone()));
        match said.await.unwrap_or_else(|_| Err(Problem::unavailable("no answer from control"))) {
            Ok(()) => return,
            // Its name is another's, who lives: trying again would take it from them as soon as they falter.
            Err(problem) if problem.code == ErrorCode::AlreadyExists => {
                node.refused.send_replace(Some(problem));
                std::future::pending::<()>().await;
            }
            Err(problem) => {
                let pause = pauses.fail();
                if pauses.failures() == 1 {
                    tracing::warn!(%problem, "control does not register this node; trying again until it does");
                }
                node.clock.sleep(pause).await;
            }
        }
    }
}

/// Says that the node lives until there is something else to register.
async fn beat(node: &Node, meter: &mut Meter, was_ready: bool, ready: &CancellationToken) {
    let mut failures = 0u32;
    loop {
        let mut heartbeat = meter.read(node).await;
        heartbeat.leases = node.leases.asked();
        // From before it is sent: whatever it takes, control counts from later.
        let asked_at = node.clock.uptime();
        let said = tokio::time::timeout(HEARTBEAT_TIMEOUT, node.zone.heartbeat(&node.name, heartbeat));
        match said.await.unwrap_or_else(|_| Err(Problem::unavailable("no answer from control"))) {
            Ok(answer) => {
                failures = 0;
                extend(node, &answer.leases, asked_at.plus(LEASE)).await;
            }
            Err(problem) => {
                node.metrics.heartbeats_failed.inc();
                failures = failures.saturating_add(1);
                if problem.code == ErrorCode::NotFound {
                    tracing::warn!("control does not know this node any more; registering it again");
                    // Not faster than heartbeats, should control go on to forget it.
                    node.clock.sleep(HEARTBEAT).await;
                    return;
                }
                if failures == 1 {
                    tracing::warn!(%problem, "control does not hear this node; it goes on with what it last knew");
                }
            }
        }
        tokio::select! {
            biased;
            () = ready.cancelled(), if !was_ready => return,
            // Somebody waits for a lease to start.
            () = node.leases.wanted() => {}
            () = node.clock.sleep(HEARTBEAT) => {}
        }
    }
}

/// Passes leases on: to who waits to start, and to what runs.
async fn extend(node: &Node, given: &[InstanceId], until: Uptime) {
    for instance in given {
        node.leases.give(instance, until);
        if let Some(running) = node.living.running(instance) {
            running.extend(until).await;
        }
    }
}

/// Turns running totals, the instances' and the machine's, into what is used now.
#[derive(Debug, Default)]
struct Meter {
    at: Timestamp,
    cpu_micros: BTreeMap<InstanceId, u64>,
    /// The machine's totals when it was last measured, or first looked at.
    machine: Option<Totals>,
    measured_at: Timestamp,
}

impl Meter {
    async fn read(&mut self, node: &Node) -> NodeHeartbeat {
        let now = node.clock.now();
        let span = now.since(self.at);
        let mut heartbeat = NodeHeartbeat::default();
        let (mut memory, mut micros, mut totals) = (0u64, 0u64, BTreeMap::new());
        let mut instances = Vec::new();
        for (id, Life { running, slot, .. }) in node.living.all() {
            let usage = running.usage().await;
            memory = memory.saturating_add(usage.memory);
            // Of one that was not there before, the whole is not from this span.
            let before = self.cpu_micros.get(&id).copied().unwrap_or(usage.cpu_micros);
            let of_span = usage.cpu_micros.saturating_sub(before);
            micros = micros.saturating_add(of_span);
            totals.insert(id.clone(), usage.cpu_micros);
            let running = slot.map_or(0, |slot| slot.running());
            if running > 0 {
                heartbeat.running.push((id.clone(), running));
            }
            if instances.len() < MEASURED_INSTANCES {
                let (cpu, memory) = (milli_cpu(of_span, span), ByteSize(usage.memory));
                instances.push(InstanceFigures { instance: id, cpu, memory, running });
            }
        }
        heartbeat.used =
            Resources { cpu: milli_cpu(micros, span), memory: ByteSize(memory), ..Resources::default() };
        heartbeat.measured = self.measure(now, node, instances);
        (self.at, self.cpu_micros) = (now, totals);
        heartbeat
    }

    /// What the machine uses, when it is due: first at the second heartbeat, since it takes two looks.
    fn measure(
        &mut self,
        now: Timestamp,
        node: &Node,
        instances: Vec<InstanceFigures>,
    ) -> Option<NodeFigures> {
        let Some(before) = self.machine else {
            self.machine = Some(Totals::read(now));
            return None;
        };
        if now.since(self.measured_at) < MEASURE {
            return None;
        }
        let totals = Totals::read(now);
        (self.machine, self.measured_at) = (Some(totals), now);
        Some(NodeFigures { instances, ..totals.since(before, &node.folders.0) })
    }
}

/// Microseconds of cpu in a millisecond of time are thousandths of a cpu.
fn milli_cpu(micros: u64, span: Millis) -> MilliCpu {
    MilliCpu(u32::try_from(micros.checked_div(span.0).unwrap_or(0)).unwrap_or(u32::MAX))
}
