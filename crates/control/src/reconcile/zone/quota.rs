//! Load brings a service no more workers than its domain may have. Deployments and set numbers are admitted by the API; what
//! fits is decided in `tutti-plan`.

use super::Zone;
use crate::objects::Write;
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
    /// An assignment that is to have more workers, with as many as the quota of its domain allows, and the transaction
    /// that writes it; nothing if that changes nothing. Quota and use are read from the store: another service of the
    /// domain may have been scaled in this very look. Seldom is a service scaled, and seldom a quota kept beside it. The
    /// quota is written as it was read before the counting, so that of two who are admitted at once one is refused.
    pub(super) async fn within_quota(
        &self,
        mut changed: Resource<AssignmentSpec>,
    ) -> Result<Option<(Resource<AssignmentSpec>, Write)>, Problem> {
        let Some(known) = self.assignments.get(&changed.name) else { return Ok(None) };
        let Some(wanted) = changed.status.scaled.take() else { return Ok(None) };
        let domain = &changed.spec.service.domain;
        let mut write = self.objects.write();
        let scaled = match self.objects.find::<QuotaSpec>(domain.as_str()).await? {
            None => Some(wanted),
            Some(quota) => {
                let others = self.others_have(domain, &changed.name).await?;
                write = write.touch(&quota);
                within(&quota.spec.limits, others, &known.spec, known.status.scaled.as_ref(), wanted)
            }
        };
        Ok(scaled.map(|scaled| {
            changed.status.scaled = Some(scaled);
            let write = write.update(&changed);
            (changed, write)
        }))
    }

    /// What the other services of a domain have.
    async fn others_have(&self, domain: &DomainName, service: &str) -> Result<Usage, Problem> {
        let all = self.objects.list::<AssignmentSpec>(&format!("{domain}:")).await?.items;
        let others = all.iter().filter(|other| other.name != service);
        let have = others.map(|other| had(&other.spec, workers(&other.spec, other.status.scaled.as_ref())));
        Ok(have.fold(Usage::default(), Usage::and))
    }
}
