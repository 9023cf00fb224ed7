//! Makes and removes the machines of node pools, by the commands of the operator's that this control was told. Which
//! machines there are to be is decided by the zone's loop; here their commands run, some at a time, and what came of each
//! is written.
//!
//! What is to be done stands in the pool's status before it is done, so that another control goes on after one that was
//! killed: it runs the same command for the same machine once more. A command must therefore do no harm when the machine
//! is there already, or gone already.

use super::{
    ReconcileOptions,
    command::{Environment, JOIN_TOKEN, Program, run as run_command},
    global::{RETRY, apply, sleep_until},
};
use crate::Objects;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;
use tutti_api::Cache;
use tutti_base::Secret;
use tutti_model::{
    Digest, Millis, Problem, Resource, Timestamp,
    cluster::{JoinTokenSpec, MemberSpec},
    member::MachineRole,
    name::NodeName,
    node::NodeSpec,
    pool::{FAILURE_CHARS, MachineFailure, MachineState, PoolMachine, PoolName, PoolSpec},
};
use tutti_pki::JoinToken;
use tutti_plan::pool::{JOIN_WAIT, pause};

/// Most commands that run at once.
const COMMANDS: usize = 8;
/// How often the outcome of a command is written anew when the pool had changed meanwhile.
const ATTEMPTS: usize = 16;

/// What this control was told of making machines.
#[derive(Debug, Clone, Default)]
pub struct MachineCommands {
    /// The commands of each pool.
    pub pools: BTreeMap<PoolName, PoolCommands>,
    /// What the root of the cluster is pinned by; `None` where there is no cluster that a machine could join.
    pub root: Option<Digest>,
}

/// The commands of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolCommands {
    /// Makes a machine that joins.
    pub make: Program,
    /// Removes a machine.
    pub remove: Program,
    /// How long either may take.
    pub timeout: Millis,
}

/// Runs the loop until `stop`; then commands that run are killed.
pub(super) async fn run(options: ReconcileOptions, stop: CancellationToken) {
    let objects = options.objects;
    let mut events = objects.watch::<PoolSpec>(None);
    let mut tier = Machines {
        objects: objects.clone(),
        commands: options.machines,
        pools: Cache::default(),
        busy: BTreeMap::new(),
        running: FuturesUnordered::new(),
    };
    loop {
        let next = tier.start_due();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(event) = events.next() => drop(apply(&mut tier.pools, event)),
            Some(done) = tier.running.next() => tier.done(done).await,
            () = sleep_until(&objects, next) => {}
        }
    }
}

/// Why a machine's command is not started now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    /// It runs.
    Running,
    /// What came of it was written at this revision, which has not come back by watch.
    Written(u64),
    /// What came of it could not be written.
    Until(Timestamp),
}

/// What came of a command.
struct Done {
    pool: String,
    machine: NodeName,
    /// What it was run for.
    state: MachineState,
    outcome: Result<(), String>,
}

struct Machines {
    objects: Objects,
    commands: MachineCommands,
    pools: Cache<PoolSpec>,
    busy: BTreeMap<NodeName, Busy>,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Machines {
    /// Starts what is due, as far as there may be more at once; gives when the next one is.
    fn start_due(&mut self) -> Option<Timestamp> {
        if !self.pools.is_synced() {
            return None;
        }
        let (now, told) = (self.objects.clock().now(), self.pools.revision());
        self.busy.retain(|_, busy| match busy {
            Busy::Running => true,
            Busy::Written(revision) => *revision > told,
            Busy::Until(when) => *when > now,
        });
        let mut next = self
            .busy
            .values()
            .filter_map(|busy| match busy {
                Busy::Until(when) => Some(*when),
                Busy::Running | Busy::Written(_) => None,
            })
            .min();
        for pool in self.pools.iter() {
            let asked = pool.status.machines.iter();
            let asked = asked.filter(|it| matches!(it.state, MachineState::Making | MachineState::Removing));
            for machine in
                asked.filter(|machine| !self.busy.contains_key(&machine.name)).cloned().collect::<Vec<_>>()
            {
                let due = machine.failure.as_ref().map_or(Timestamp(0), |failure| failure.again_at);
                if due > now {
                    next = Some(next.map_or(due, |next| next.min(due)));
                } else if self.running.len() < COMMANDS {
                    self.busy.insert(machine.name.clone(), Busy::Running);
                    let attempt = Attempt {
                        objects: self.objects.clone(),
                        commands: self.commands.pools.get(&pool.spec.pool).cloned(),
                        root: self.commands.root.clone(),
                        pool: pool.spec.pool.clone(),
                        machine,
                    };
                    self.running.push(attempt.run().boxed());
                }
            }
        }
        next
    }

    async fn done(&mut self, done: Done) {
        let Done { pool, machine, state, outcome } = done;
        match &outcome {
            Ok(()) => tracing::info!(pool, %machine, %state, "the command of a pool's machine is done"),
            Err(why) => tracing::warn!(pool, %machine, %state, why, "the command of a pool's machine failed"),
        }
        let busy = match write(&self.objects, &pool, &machine, state, &outcome).await {
            Ok(revision) => Busy::Written(revision),
            Err(problem) => {
                tracing::warn!(%problem, pool, %machine, "what came of it is not written; it is done again");
                Busy::Until(self.objects.clock().now().plus(RETRY))
            }
        };
        self.busy.insert(machine, busy);
    }
}

/// Writes what came of a command, if its machine is still to be what it was run for. Gives the revision that must
/// have come back before the machine is looked at again.
async fn write(
    objects: &Objects,
    pool: &str,
    machine: &NodeName,
    state: MachineState,
    outcome: &Result<(), String>,
) -> Result<u64, Problem> {
    for _ in 0..ATTEMPTS {
        let Some(mut pool) = objects.find::<PoolSpec>(pool).await? else { return Ok(0) };
        let now = objects.clock().now();
        let machines = &mut pool.status.machines;
        let Some(at) = machines.iter().position(|it| it.name == *machine && it.state == state) else {
            return Ok(pool.revision);
        };
        let is_removed = outcome.is_ok() && state == MachineState::Removing;
        if is_removed {
            machines.remove(at);
        } else if let Some(known) = machines.get_mut(at) {
            conclude(known, now, outcome);
        }
        let write = objects.write().update(&pool);
        let write = match objects.find::<NodeSpec>(machine.as_str()).await? {
            Some(node) if is_removed => write.delete(&node),
            _ => write,
        };
        if let Some(revision) = write.commit().await? {
            return Ok(revision);
        }
    }
    Err(Problem::conflict(format!("pool {pool} changes too fast to be written")))
}

/// A machine after its command.
fn conclude(machine: &mut PoolMachine, now: Timestamp, outcome: &Result<(), String>) {
    match outcome {
        Ok(()) => (machine.state, machine.since, machine.failure) = (MachineState::Joining, now, None),
        Err(why) => {
            let attempts = machine.failure.as_ref().map_or(0, |failure| failure.attempts).saturating_add(1);
            let reason = why.chars().take(FAILURE_CHARS).collect();
            machine.failure = Some(MachineFailure { attempts, reason, again_at: now.plus(pause(attempts)) });
        }
    }
}

/// One run of a machine's command, with what must be done before it.
struct Attempt {
    objects: Objects,
    commands: Option<PoolCommands>,
    root: Option<Digest>,
    pool: PoolName,
    machine: PoolMachine,
}

impl Attempt {
    async fn run(self) -> Done {
        let outcome = self.outcome().await;
        let Attempt { pool, machine, .. } = self;
        Done { pool: pool.to_string(), machine: machine.name, state: machine.state, outcome }
    }

    async fn outcome(&self) -> Result<(), String> {
        let Some(commands) = &self.commands else {
            return Err(format!(
                "the control that leads was told no commands for it: write [pool.{}] with make and remove into its tutti.toml",
                self.pool
            ));
        };
        let told = |problem: Problem| problem.detail;
        match self.machine.state {
            MachineState::Removing => {
                self.expel().await.map_err(told)?;
                run_command(&commands.remove, &self.environment(), commands.timeout).await
            }
            _ => {
                let environment = self.admit(commands.timeout).await.map_err(told)?;
                run_command(&commands.make, &environment, commands.timeout).await
            }
        }
    }

    /// What every command is told.
    fn environment(&self) -> Environment {
        vec![
            ("TUTTI_POOL", Secret::new(self.pool.to_string())),
            ("TUTTI_NODE", Secret::new(self.machine.name.to_string())),
        ]
    }

    /// Makes a token that admits this machine, and none other, once; what was made for it before admits nobody any more.
    async fn admit(&self, timeout: Millis) -> Result<Environment, Problem> {
        let objects = &self.objects;
        let root = self
            .root
            .clone()
            .ok_or_else(|| Problem::conflict("this cloud is one machine, and has no members"))?;
        self.forget_tokens().await?;
        let token = JoinToken::make(root, objects.random());
        let spec = JoinTokenSpec {
            roles: [MachineRole::Agent].into(),
            member: Some(self.machine.name.clone()),
            expires_at: objects.clock().now().plus(timeout).plus(JOIN_WAIT),
        };
        let made = objects.make(token.hash().hex(), spec);
        if objects.write().create(&made).commit().await?.is_none() {
            return Err(Problem::conflict("another control leads by now"));
        }
        let members = objects.list::<MemberSpec>("").await?.items;
        let controls: Vec<String> =
            members.into_iter().filter_map(|member| Some(member.spec.api?.to_string())).collect();
        let mut environment = self.environment();
        environment.extend([
            (JOIN_TOKEN, token.to_text()),
            ("TUTTI_JOIN_CONTROLS", Secret::new(controls.join(","))),
            ("TUTTI_JOIN_ROLE", Secret::new(MachineRole::Agent.to_string())),
        ]);
        Ok(environment)
    }

    /// Before a machine is removed it is no member any more: what is left of it can do nothing.
    async fn expel(&self) -> Result<(), Problem> {
        self.forget_tokens().await?;
        if let Some(member) = self.objects.find::<MemberSpec>(self.machine.name.as_str()).await? {
            // One that has just renewed its certificate is removed at the next attempt.
            let write = self.objects.write().delete(&member);
            if write.commit().await?.is_none() {
                return Err(Problem::conflict("its membership has just changed"));
            }
        }
        Ok(())
    }

    async fn forget_tokens(&self) -> Result<(), Problem> {
        let tokens = self.objects.list::<JoinTokenSpec>("").await?.items;
        let own = |token: &&Resource<JoinTokenSpec>| token.spec.member.as_ref() == Some(&self.machine.name);
        for token in tokens.iter().filter(own) {
            // One that was used meanwhile is gone too.
            self.objects.write().delete(token).commit().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
