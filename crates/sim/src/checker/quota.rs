//! Load brings a service no more than its domain may have.

use super::{Checker, key_of, object};
use crate::Check;
use tutti_model::{Resource, Share, assignment::AssignmentSpec};
use tutti_store::Change;

impl Checker {
    /// Called before the change is taken. What a deployment or a person brings was admitted elsewhere; what load brings
    /// is the number of workers that the zone notes with an assignment.
    pub(super) fn check_quota(&mut self, change: &Change, prefix: &str) {
        let name = key_of(change).strip_prefix(prefix).unwrap_or_default();
        let (Some(known), Some(next)) = (self.assignments.get(name), object::<AssignmentSpec>(change)) else {
            return;
        };
        let domain = next.spec.service.domain.clone();
        let limit = self.quotas.get(domain.as_str()).and_then(|quota| quota.spec.limits.instances);
        let Some(limit) = limit.filter(|_| known.status.scaled != next.status.scaled) else { return };
        let others = self.assignments.values().filter(|other| other.name != name);
        let others = others.filter(|other| other.spec.service.domain == domain);
        let others: u32 = others.map(instances).sum();
        let (before, after) = (others + instances(known), others + instances(&next));
        if after > before && after > limit {
            let text = format!(
                "load brings {name} from {before} to {after} instances of {domain}, with {others} elsewhere, of {limit}: {:?}",
                next.status.scaled
            );
            self.fault(Check::Quota, self.revision, text);
        }
    }
}

/// The instances that a service has by what was handed down and by its load.
fn instances(assignment: &Resource<AssignmentSpec>) -> u32 {
    let spec = &assignment.spec;
    if spec.removed {
        return 0;
    }
    let scaled = assignment.status.scaled.as_ref().filter(|_| spec.scales).map(|scaled| scaled.workers);
    let workers = spec.workers.max(scaled.unwrap_or(0));
    let of = spec.versions.iter().map(|version| {
        let name = &version.version.version;
        let share = spec.split.share(name).max(spec.from.share(name));
        if share == Share::ZERO { 0 } else { share.workers(workers).min(version.manifest.max.max(1)) }
    });
    of.sum()
}
