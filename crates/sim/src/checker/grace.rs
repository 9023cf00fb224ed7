//! What is silent is not replaced before its grace is up. When a node was heard is the world's own knowledge, not what
//! some control noted of it.

use super::{Checker, object};
use crate::Check;
use std::collections::BTreeMap;
use tutti_control::observed::NODE_SILENCE;
use tutti_model::{
    Millis, Resource, Share, Timestamp,
    instance::{Goal, InstanceSpec, InstanceState},
    name::NodeName,
    table::TableSpec,
};
use tutti_store::Change;

/// How long control may take to know that a node is back: its watch may be late or broken.
const KNOWN: Millis = Millis::seconds(10);

/// When nodes were heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    nodes: BTreeMap<NodeName, Times>,
    /// Since the last look, and not counted before the next: who wrote meanwhile may not have known.
    lately: Vec<(NodeName, Timestamp)>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    last: Timestamp,
    /// Since when it was never silent for so long that it counted as such.
    well_since: Timestamp,
}

impl Heard {
    pub(super) fn settle(&mut self) {
        for (node, at) in std::mem::take(&mut self.lately) {
            let times = self.nodes.entry(node).or_insert(Times { last: at, well_since: at });
            if times.last.plus(NODE_SILENCE) <= at {
                times.well_since = at;
            }
            times.last = at;
        }
    }

    /// Whether nobody could take an instance of this node for lost.
    pub(super) fn counts(&self, node: &NodeName, now: Timestamp, grace: Millis) -> bool {
        let is_there = |times: &Times| now < times.last.plus(grace) && times.well_since.plus(KNOWN) <= now;
        self.nodes.get(node).is_some_and(is_there)
    }
}

impl Checker {
    /// A node was heard by a control.
    pub(crate) fn heard(&mut self, node: &NodeName, at: Timestamp) {
        self.heard.lately.push((node.clone(), at));
    }

    /// A version that gets new instances has no more of them than it needs, all counted that may still come back.
    pub(super) fn check_grace(
        &mut self,
        revision: u64,
        changes: &[Change],
        before: &BTreeMap<String, Resource<InstanceSpec>>,
        tables: &BTreeMap<String, Resource<TableSpec>>,
    ) {
        let made = changes.iter().filter_map(object::<InstanceSpec>);
        let mut made = made.filter(|it| !before.contains_key(&it.name));
        let Some(made) = made.next_back() else { return };
        let (version, now) = (&made.spec.version, made.created_at);
        let service = version.service.to_string();
        let Some(assignment) = self.assignments.get(&service) else { return };
        let now_has = tables.get(&service).map_or(Share::ZERO, |table| {
            let of = table.spec.versions().iter().find(|backend| backend.version == version.version);
            of.map_or(Share::ZERO, |backend| backend.weight)
        });
        let share = assignment.spec.split.share(&version.version);
        let scaled = assignment.status.scaled.as_ref().map_or(0, |scaled| scaled.workers);
        if share > now_has {
            // Today's load counts for a share that rises, and nobody knows what control took it for.
            return;
        }
        let needs = now_has.workers(assignment.spec.workers.max(scaled));
        let serves = |instance: &&Resource<InstanceSpec>| {
            use InstanceState as S;
            instance.spec.version == *version
                && instance.spec.goal == Goal::Serve
                && !matches!(instance.status.state, S::Failed | S::Draining | S::Stopped)
                && self.heard.counts(&instance.spec.node, now, instance.spec.manifest.grace)
        };
        let serving = self.instances.values().filter(serves).count();
        if u32::try_from(serving).unwrap_or(u32::MAX) > needs {
            let text = format!("{version} gets {}, with {serving} that serve or may, of {needs}", made.name);
            self.fault(Check::Grace, revision, text);
        }
    }
}
