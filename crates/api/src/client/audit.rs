//! Who changed what.

use super::{Client, Query};
use crate::wire::Page;
use tutti_model::{Problem, Resource, Timestamp, audit::AuditSpec, limits};

/// Which records are wanted, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditRequest {
    /// Of this object, as KIND/NAME or its name.
    pub object: Option<String>,
    /// Asked for by this token, user or member.
    pub who: Option<String>,
    /// From then on.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub most: usize,
}

impl Client {
    /// Gives records of changes, newest first, over as many pages as it takes.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn audit(&self, request: &AuditRequest) -> Result<Vec<Resource<AuditSpec>>, Problem> {
        let mut records = Vec::new();
        let mut cursor: Option<String> = None;
        while records.len() < request.most {
            let limit = (request.most - records.len()).min(limits::PAGE_SIZE);
            let query = Query::default()
                .with_some("object", request.object.as_ref())
                .with_some("who", request.who.as_ref())
                .with_some("since", request.since.map(|since| since.0))
                .with_some("cursor", cursor.as_ref())
                .with("limit", limit);
            let mut page: Page<Resource<AuditSpec>> = self.call("list_audit", &[], &query).await?;
            records.append(&mut page.items);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(records)
    }
}
