//! A service's plan as one transaction: it compares all that the plan was decided from. What the plan is, is not decided
//! here.

use super::{Written, Zone, stage};
use crate::objects::Write;
use std::collections::{BTreeMap, BTreeSet};
use tutti_base::crashpoint;
use tutti_model::{
    InstanceId, Problem, Resource,
    assignment::AssignmentSpec,
    instance::{Goal, InstanceSpec},
    manifest::Manifest,
    name::NodeName,
};
use tutti_plan::zone::{NewInstance, ServicePlan, TablePlan};

/// A plan as a transaction, with what it writes.
struct Transaction {
    write: Write,
    table: bool,
    instances: bool,
    /// Where new instances go, and what they need there.
    promises: Vec<(NodeName, Manifest)>,
}

impl Zone {
    /// Writes what a plan says, in one transaction that compares what it was decided from.
    pub(super) async fn carry_out(
        &mut self,
        assignment: &Resource<AssignmentSpec>,
        plan: &ServicePlan,
    ) -> Result<(), Problem> {
        let Transaction { write, table, instances, promises } = self.transaction(assignment, plan);
        if write.operations() == 0 {
            return Ok(());
        }
        let stage = stage(&plan.report.progress);
        crashpoint::reached(|| format!("zone/{stage}/before"));
        let committed = write.commit().await?;
        crashpoint::reached(|| format!("zone/{stage}/after"));
        if let Some(revision) = committed {
            let written = |is_written| if is_written { revision } else { 0 };
            let written = Written { table: written(table), instances: written(instances) };
            self.written.insert(assignment.name.clone(), written);
            for (node, manifest) in promises {
                self.room.promise(revision, node, manifest);
            }
        }
        Ok(())
    }

    /// The transaction that carries a plan out, as far as one can: whatever finds no room is planned again when this one
    /// comes back by watch. A table and all that it relies on always fit.
    fn transaction(&self, assignment: &Resource<AssignmentSpec>, plan: &ServicePlan) -> Transaction {
        let mut write = self.objects.write();
        let known = self.tables.get(&assignment.name);
        let drains = plan.goals.iter().any(|(_, goal)| *goal == Goal::Drain);
        write = match (&plan.table, known) {
            (TablePlan::Put(spec), Some(table)) => {
                let mut changed = table.clone();
                changed.spec = spec.clone();
                changed.generation += 1;
                write.update(&changed)
            }
            (TablePlan::Put(spec), None) => write.create(&self.objects.make(&assignment.name, spec.clone())),
            (TablePlan::Remove, Some(table)) => write.delete(table),
            // Whoever drains must not be named by a table that is being written.
            (TablePlan::Keep, Some(table)) if drains => write.unchanged(table),
            _ => write,
        };
        let table = write.operations();
        if plan.gone {
            write = write.delete(assignment);
            if let Some(report) = self.reported.get(&assignment.name) {
                write = write.delete(report);
            }
            return Transaction { write, table: false, instances: false, promises: Vec::new() };
        }
        write = write.unchanged(assignment);
        let goals: BTreeMap<&InstanceId, Goal> = plan.goals.iter().map(|(id, goal)| (id, *goal)).collect();
        for id in &plan.relies_on {
            if let Some(instance) = self.instances.get(id.as_str()) {
                write = match goals.get(id) {
                    Some(goal) => write.update(&with_goal(instance, *goal)),
                    None => write.unchanged(instance),
                };
            }
        }
        for (id, goal) in goals.iter().filter(|(id, _)| !plan.relies_on.contains(id)) {
            if let Some(instance) = self.instances.get(id.as_str())
                && write.room() > 0
            {
                write = write.update(&with_goal(instance, *goal));
            }
        }
        for id in &plan.forget {
            if let Some(instance) = self.instances.get(id.as_str())
                && write.room() > 0
            {
                write = write.delete(instance);
            }
        }
        let mut promises = Vec::new();
        for new in &plan.create {
            if write.room() > 0 {
                let instance = self.new_instance(new);
                write = write.create(&instance);
                promises.push((new.node.clone(), instance.spec.manifest));
            }
        }
        write = self.make_room(write, &plan.make_room);
        let instances = write.operations() > table;
        Transaction { write, table: table > 0, instances, promises }
    }

    /// Ends the standby of other services' instances, as far as there is room in the transaction. It compares the
    /// services' own hand-downs too: a rollback that was just asked for keeps what it returns to.
    fn make_room(&self, mut write: Write, going: &[InstanceId]) -> Write {
        let until = self.objects.clock().now();
        let mut compared = BTreeSet::new();
        for id in going {
            let Some(instance) = self.instances.get(id.as_str()) else { continue };
            let service = instance.spec.version.service.to_string();
            let Some(owner) = self.assignments.get(&service) else { continue };
            if write.room() < 2 {
                break;
            }
            tracing::info!(instance = %id, version = %instance.spec.version, "stands by no longer, to make room");
            write = write.update(&with_goal(instance, Goal::Standby { until }));
            if compared.insert(service) {
                write = write.unchanged(owner);
            }
        }
        write
    }

    fn new_instance(&self, new: &NewInstance) -> Resource<InstanceSpec> {
        let NewInstance { version, node, placed } = new;
        let instance = self.objects.random().instance_id();
        let spec = InstanceSpec {
            instance: instance.clone(),
            version: version.version.clone(),
            artifact: version.artifact.clone(),
            isolate: version.isolate,
            manifest: version.manifest.clone(),
            node: node.clone(),
            goal: Goal::Serve,
            placed: placed.clone(),
        };
        self.objects.make(instance.to_string(), spec)
    }
}

fn with_goal(instance: &Resource<InstanceSpec>, goal: Goal) -> Resource<InstanceSpec> {
    let mut changed = instance.clone();
    changed.spec.goal = goal;
    changed.generation += 1;
    changed
}
