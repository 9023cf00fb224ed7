//! Node pools in the zone's loop: what waits is told to the plan, and what the plan says is written. The commands that make
//! and remove machines are run by [`crate::reconcile`]'s own loop for them.

use super::Zone;
use tutti_model::{
    Problem, Resource,
    instance::InstanceSpec,
    name::NodeName,
    node::NodeSpec,
    pool::{MachineState, PoolMachine, PoolSpec},
    resource::Object as _,
};
use tutti_plan::pool::{PoolPlan, PoolsView, Waiting, plan_pools};
use tutti_store::Compare;

/// Most machines whose state changes in one transaction: with their nodes they must fit it. The others change at the next
/// look.
const CHANGES: usize = 16;
/// Letters and digits that tell the machines of a pool from one another.
const SUFFIX: usize = 6;

impl Zone {
    /// Looks at what found no node, and has machines made or removed for it.
    ///
    /// # Errors
    /// Whatever the store answers; then it is decided anew at the next look.
    pub(super) async fn look_at_pools(&mut self) -> Result<(), Problem> {
        let pools = self.objects.list::<PoolSpec>("").await?.items;
        if pools.is_empty() {
            self.pool_notes.clear();
            return Ok(());
        }
        let waiting: Vec<Waiting> = self
            .waiting
            .iter()
            .flat_map(|(service, homeless)| {
                homeless.iter().map(|(version, count)| Waiting {
                    service: service.clone(),
                    version: version.clone(),
                    count: *count,
                })
            })
            .collect();
        self.enter_changed();
        let instances: Vec<&Resource<InstanceSpec>> = self.instances.iter().collect();
        let now = self.objects.clock().now();
        let plan = plan_pools(PoolsView {
            now,
            pools: &pools,
            nodes: &self.room.nodes,
            instances: &instances,
            waiting: &waiting,
        });
        for (pool, plan) in pools.into_iter().zip(plan.pools) {
            self.carry_out_pool(pool, plan).await?;
        }
        let changed: Vec<String> = plan
            .notes
            .keys()
            .chain(self.pool_notes.keys())
            .filter(|service| plan.notes.get(*service) != self.pool_notes.get(*service))
            .cloned()
            .collect();
        changed.into_iter().for_each(|service| self.wake.now(service));
        self.pool_notes = plan.notes;
        Ok(())
    }

    /// Writes one pool's plan in one transaction, which compares the nodes that it was decided from.
    async fn carry_out_pool(&self, mut pool: Resource<PoolSpec>, plan: PoolPlan) -> Result<(), Problem> {
        let before = pool.status.clone();
        let mut write = self.objects.write();
        let mut room = CHANGES;
        for (known, is) in pool.status.machines.iter_mut().zip(&plan.machines) {
            if known.state != is.state {
                if room == 0 || (is.state == MachineState::Removing && self.runs_something(known).await?) {
                    continue;
                }
                room -= 1;
                write = match (self.nodes.get(known.name.as_str()), Self::drains(&plan, &known.name)) {
                    (Some(node), Some(drains)) => {
                        let mut changed = node.clone();
                        (changed.spec.cordoned, changed.spec.draining) = (drains, drains);
                        changed.generation += 1;
                        write.update(&changed)
                    }
                    (Some(node), None) => write.unchanged(node),
                    (None, _) => {
                        write.when(Compare::Absent(self.objects.key::<NodeSpec>(known.name.as_str())))
                    }
                };
                tracing::info!(pool = pool.name, machine = %is.name, state = %is.state, why = is.why, "a pool's machine");
            }
            known.clone_from(is);
        }
        for why in &plan.make {
            let name = self.new_name(&pool.spec)?;
            // Its node is made when it is heard for the first time; another may not have the name.
            write = write.when(Compare::Absent(self.objects.key::<NodeSpec>(name.as_str())));
            tracing::info!(pool = pool.name, machine = %name, why, "a pool makes another machine");
            pool.status.machines.push(PoolMachine {
                name,
                state: MachineState::Making,
                since: self.objects.clock().now(),
                why: why.clone(),
                by_hand: false,
                idle_since: None,
                failure: None,
            });
        }
        let is_over = pool.deleted_at.is_some() && pool.status.machines.is_empty();
        match (is_over, pool.status != before) {
            (true, _) => write.delete(&pool).commit().await?,
            (false, true) => write.update(&pool).commit().await?,
            (false, false) => None,
        };
        Ok(())
    }

    /// Whether its node is to drain, or to drain no longer.
    fn drains(plan: &PoolPlan, node: &NodeName) -> Option<bool> {
        if plan.drain.contains(node) {
            return Some(true);
        }
        plan.keep.contains(node).then_some(false)
    }

    /// Whether anything is on a machine that is to be removed after it has drained. Asked of the store itself: what was
    /// placed there last may not have come back by watch.
    async fn runs_something(&self, machine: &PoolMachine) -> Result<bool, Problem> {
        if machine.state != MachineState::Draining {
            return Ok(false);
        }
        let all = self.objects.list::<InstanceSpec>("").await?.items;
        Ok(all.iter().any(|instance| instance.spec.node == machine.name))
    }

    fn new_name(&self, pool: &PoolSpec) -> Result<NodeName, Problem> {
        let uid = self.objects.random().uid().to_string().to_ascii_lowercase();
        let end = uid.len().saturating_sub(SUFFIX);
        let suffix = uid.get(end..).unwrap_or_default();
        format!("{}-{suffix}", pool.pool).parse().map_err(|problem: Problem| {
            Problem::internal(format!(
                "a {} of pool {} has no name: {}",
                NodeSpec::KIND,
                pool.pool,
                problem.detail
            ))
        })
    }
}
