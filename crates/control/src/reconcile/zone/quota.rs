//! Load brings a service no more workers than its domain may have. Deployments and set numbers are admitted by the API; what
//! fits is decided in `tutti-plan`.

use super::Zone;
use tutti_model::{
    DomainName, Problem, Resource,
    assignment::{AssignmentSpec, Scaled},
    quota::{QuotaSpec, Usage},
};
use tutti_plan::{
    quota::{allowed, had},
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
        let now = workers(&known.spec, known.status.scaled.as_ref());
        let domain = &changed.spec.service.domain;
        let quota = match wanted.workers > now {
            true => self.objects.find::<QuotaSpec>(domain.as_str()).await?,
            false => None,
        };
        let scaled = match quota {
            None => wanted,
            Some(quota) => {
                let others = self.others_have(domain, &changed.name);
                let (most, over) = allowed(&quota.spec.limits, others, &known.spec, now, wanted.workers);
                match over {
                    None => wanted,
                    Some(over) => {
                        let limit =
                            format!("the quota of domain {domain} allows {} {}", over.most, over.what);
                        let why = match most == now {
                            // Said once: the load differs from look to look.
                            true => limit,
                            false => format!("{}; no more, since {limit}", wanted.why),
                        };
                        Scaled { workers: most, at: wanted.at, why }
                    }
                }
            }
        };
        let is_said = known.status.scaled.as_ref().is_some_and(|said| said.why == scaled.why);
        if scaled.workers == now && is_said {
            return Ok(None);
        }
        changed.status.scaled = Some(scaled);
        Ok(Some(changed))
    }

    /// What the other services of a domain have.
    fn others_have(&self, domain: &DomainName, service: &str) -> Usage {
        let others = self.assignments.iter().filter(|other| other.name != service);
        let others = others.filter(|other| other.spec.service.domain == *domain);
        let have = others.map(|other| had(&other.spec, workers(&other.spec, other.status.scaled.as_ref())));
        have.fold(Usage::default(), Usage::and)
    }
}
