//! What happened.

use super::{Client, Filter, Query};
use crate::{watch::WatchStream, wire::Page};
use tutti_model::{Problem, Resource, Timestamp, event::EventSpec, limits, name::NodeName};

/// Which events are wanted, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventsRequest {
    /// Of this service or domain.
    pub of: Filter,
    /// On this node.
    pub node: Option<NodeName>,
    /// From then on.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub most: usize,
}

/// Events, with the revision from which a watch tells all later ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Events {
    /// The events, newest first.
    pub items: Vec<Resource<EventSpec>>,
    /// The revision.
    pub revision: u64,
}

impl Client {
    /// Gives what happened, newest first, over as many pages as it takes.
    ///
    /// # Errors
    /// Whatever the API answers.
    pub async fn events(&self, request: &EventsRequest) -> Result<Events, Problem> {
        let mut events = Events::default();
        let mut cursor: Option<String> = None;
        while events.items.len() < request.most {
            let limit = (request.most - events.items.len()).min(limits::PAGE_SIZE);
            let query = request
                .of
                .query(Query::default())
                .with_some("node", request.node.as_ref())
                .with_some("since", request.since.map(|since| since.0))
                .with_some("cursor", cursor.as_ref())
                .with("limit", limit);
            let mut page: Page<Resource<EventSpec>> = self.call("list_events", &[], &query).await?;
            if events.revision == 0 {
                events.revision = page.revision;
            }
            events.items.append(&mut page.items);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(events)
    }

    /// What happens after a revision. `Init` says that some of what happened was missed: it is to be listed.
    #[must_use]
    pub fn watch_events(&self, of: &Filter, after: u64) -> WatchStream<EventSpec> {
        self.watch(of, Some(after))
    }
}
