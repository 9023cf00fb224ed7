//! What this agent runs, as it knows it itself: for whoever owns the machine, also while control is away.

use crate::{agent::Agent, ledger::Entry};
use std::collections::BTreeMap;
use tutti_api::debug::{AgentInspection, InspectedInstance};
use tutti_model::{InstanceId, Problem, instance::InstanceStatus};

impl Agent {
    /// What it was told to run and what became of it. `control` says where it looks for control.
    ///
    /// # Errors
    /// `unavailable` if its ledger cannot be read.
    pub async fn inspect(&self, control: String) -> Result<AgentInspection, Problem> {
        let node = self.node();
        let ledger = node.ledger.clone();
        let entries = tokio::task::spawn_blocking(move || ledger.peek()).await;
        let entries = entries.map_err(|stopped| Problem::internal(stopped.to_string()))??;
        let statuses = node.reporter.statuses();
        let requests: BTreeMap<InstanceId, u32> = node
            .living
            .all()
            .into_iter()
            .map(|(id, life)| (id, life.slot.map_or(0, |slot| slot.running())))
            .collect();
        let instances = entries.into_iter().map(|entry| {
            let id = &entry.spec.instance;
            let (status, unsaid) = statuses.get(id).cloned().unwrap_or_default();
            inspected(&entry, &status, unsaid, requests.get(id).copied())
        });
        let refused = node.refused.borrow().as_ref().map(ToString::to_string);
        Ok(AgentInspection {
            node: node.name.clone(),
            release: self.release().to_owned(),
            now: node.clock.now(),
            control,
            registered: self.is_registered(),
            refused,
            instances: instances.collect(),
        })
    }
}

/// One instance: what is in the ledger, what was said of it last, and the requests inside if it runs.
fn inspected(
    entry: &Entry,
    status: &InstanceStatus,
    unsaid: bool,
    requests: Option<u32>,
) -> InspectedInstance {
    let spec = &entry.spec;
    // What has ended for good may be said no more.
    let status = entry.ended.as_ref().unwrap_or(status);
    InspectedInstance {
        instance: spec.instance.clone(),
        version: spec.version.clone(),
        isolate: spec.isolate,
        goal: spec.goal,
        state: status.state,
        since: status.since,
        restarts: status.restarts,
        reason: status.reason.clone(),
        runs: requests.is_some(),
        requests: requests.unwrap_or_default(),
        unsaid,
    }
}
