//! What serves is sent to: neither a version nor an instance that could go on falls out of a table by mistake.

use super::Checker;
use crate::Check;
use tutti_control::observed::NODE_SILENCE;
use tutti_model::{
    InstanceId, Millis, Resource, Share, Timestamp, VersionName, instance::Goal, table::TableSpec,
};

/// How long control may take to know that an instance is ready again: its watch may be broken, or late several times in a
/// row.
const KNOWN: Millis = Millis::seconds(20);

impl Checker {
    /// Called when an instance was taken.
    pub(super) fn note_answering(&mut self) {
        let answers = |name: &String| self.instances.get(name).filter(|it| it.status.state.answers());
        self.answering.retain(|name, _| answers(name).is_some());
        for (name, instance) in self.instances.iter().filter(|(_, it)| it.status.state.answers()) {
            self.answering.entry(name.clone()).or_insert(instance.status.since);
        }
    }

    /// Called after the changes are taken: an instance that goes has another goal by then.
    pub(super) fn check_left_out(
        &mut self,
        revision: u64,
        now: Timestamp,
        before: &Resource<TableSpec>,
        table: &Resource<TableSpec>,
    ) {
        let Some(assignment) = self.assignments.get(&table.name) else { return };
        let wanted = |version: &VersionName| assignment.spec.split.share(version) > Share::ZERO;
        let named = |id: &InstanceId| {
            let mut endpoints = table.spec.versions().iter().flat_map(|backend| &backend.endpoints);
            endpoints.any(|endpoint| endpoint.instance == *id)
        };
        let was = before.spec.versions().iter().filter(|backend| wanted(&backend.version));
        let was = was.flat_map(|backend| &backend.endpoints);
        let left_out =
            was.filter(|endpoint| !named(&endpoint.instance) && self.serves(&endpoint.instance, now));
        let texts: Vec<String> = left_out
            .map(|endpoint| format!("{} leaves out {}, which serves", table.name, endpoint.instance))
            .collect();
        for text in texts {
            self.fault(Check::LeftOut, revision, text);
        }
    }

    /// Whether nobody could take this instance for anything but one that serves.
    fn serves(&self, id: &InstanceId, now: Timestamp) -> bool {
        self.instances.get(id.as_str()).is_some_and(|instance| {
            instance.spec.goal == Goal::Serve
                && instance.status.state.answers()
                && self.answering.get(id.as_str()).is_some_and(|since| since.plus(KNOWN) <= now)
                && self.heard.counts(&instance.spec.node, now, NODE_SILENCE)
        })
    }
}
