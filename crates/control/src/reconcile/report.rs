//! Writes a zone's report on one service.

use super::zone::stage;
use crate::Objects;
use tutti_base::crashpoint;
use tutti_model::{
    Problem, Resource,
    report::{ReportSpec, report_name},
};

/// How often a report is written anew when another control of this zone wrote one meanwhile: it is the zone's own
/// object, so that happens only while one control takes over from another.
const ATTEMPTS: usize = 8;

/// Writes reports, knowing the last one.
#[derive(Debug)]
pub(super) struct Reporter {
    /// Where to.
    pub(super) objects: Objects,
    /// The last report on the service, if it is known.
    pub(super) known: Option<Resource<ReportSpec>>,
}

impl Reporter {
    /// Writes the report if it says something new, and gives it as it is stored.
    ///
    /// # Errors
    /// The store's own; `conflict` if others keep writing it.
    pub(super) async fn report(self, report: &ReportSpec) -> Result<Option<Resource<ReportSpec>>, Problem> {
        let name = report_name(self.objects.zone(), &report.service);
        let mut known = self.known;
        for _ in 0..ATTEMPTS {
            let (write, mut next) = match known {
                Some(known) if known.spec == *report => return Ok(Some(known)),
                Some(mut known) => {
                    known.spec = report.clone();
                    known.generation += 1;
                    (self.objects.write().update(&known), known)
                }
                None => {
                    let made = self.objects.make(&name, report.clone());
                    (self.objects.write().create(&made), made)
                }
            };
            let stage = stage(&report.progress);
            crashpoint::reached(|| format!("report/{stage}/before"));
            if let Some(revision) = write.commit().await? {
                crashpoint::reached(|| format!("report/{stage}/after"));
                next.revision = revision;
                return Ok(Some(next));
            }
            known = self.objects.find(&name).await?;
        }
        Err(Problem::conflict(format!("the report on {} changes too fast to be written", report.service)))
    }
}
