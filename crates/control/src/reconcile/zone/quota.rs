//! Load brings a service no more workers than its domain may have. Deployments and set numbers are admitted by the API; what
//! fits is decided in `tutti-plan`.

use super::Zone;
use tutti_model::{
    DomainName, Problem, Resource,
    assignment::AssignmentSpec,
    quota::{QuotaSpec, Usage},
};
use tutti_plan::{
    quota::{had, within},
    scaling::workers,
};

impl Zone {
    /// An assignment that is to have more workers, with as many as the quota of its domain allows; nothing if that
    /// changes nothing. Read from the store: seldom is a service scaled, and seldom a quota kept beside it.
    pub(super) async fn within_quota(
        &self,
        mut changed: Resource<AssignmentSpec>,
    ) -> Result<Option<Resource<AssignmentSpec>>, Problem> {
        let Some(known) = self.assignments.get(&changed.name) else { return Ok(None) };
        let Some(wanted) = changed.status.scaled.take() else { return Ok(None) };
        let domain = &changed.spec.service.domain;
        let scaled = match self.objects.find::<QuotaSpec>(domain.as_str()).await? {
            None => Some(wanted),
            Some(quota) => {
                let others = self.others_have(domain, &changed.name);
                within(&quota.spec.limits, others, &known.spec, known.status.scaled.as_ref(), wanted)
            }
        };
        Ok(scaled.map(|scaled| {
            changed.status.scaled = Some(scaled);
            changed
        }))
    }

    /// What the other services of a domain have.
    fn others_have(&self, domain: &DomainName, service: &str) -> Usage {
        let others = self.assignments.iter().filter(|other| other.name != service);
        let others = others.filter(|other| other.spec.service.domain == *domain);
        let have = others.map(|other| had(&other.spec, workers(&other.spec, other.status.scaled.as_ref())));
        have.fold(Usage::default(), Usage::and)
    }
}
