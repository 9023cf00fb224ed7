//! Pages of what is listed newest first, and only grows: audit records and events.

use super::{
    call::{Call, Caller},
    lists,
};
use crate::Objects;
use std::collections::BTreeMap;
use tutti_api::wire::Page;
use tutti_model::{
    DomainName, Problem, Resource, Timestamp, domain::DomainSpec, limits, resource::Object, token::Role,
};

/// When the present life of each domain began.
pub(super) type Lives = BTreeMap<DomainName, Timestamp>;

/// The domains in which a caller has a role that is enough, each with when its life began: what was before that is not
/// theirs to see, since the name may have been another's. `None` for who sees all.
pub(super) async fn lives(
    objects: &Objects,
    caller: &Caller,
    is_enough: impl Fn(Role) -> bool,
) -> Result<Option<Lives>, Problem> {
    let Some(domains) = caller.domains() else { return Ok(None) };
    let mut lives = Lives::new();
    for (domain, _) in domains.into_iter().filter(|(_, role)| is_enough(*role)) {
        if let Some(found) = objects.find::<DomainSpec>(domain.as_str()).await? {
            lives.insert(domain, found.created_at);
        }
    }
    Ok(Some(lives))
}

/// Whether what was at this moment, in this domain, is seen by whoever sees these domains.
pub(super) fn is_seen(seen: Option<&Lives>, domain: Option<&DomainName>, at: Timestamp) -> bool {
    seen.is_none_or(|lives| domain.and_then(|domain| lives.get(domain)).is_some_and(|begun| at >= *begun))
}

/// What becomes of one object.
pub(super) enum Look {
    /// It is on the page.
    Taken,
    /// It is not.
    Passed,
    /// It is not, nor is any that is older.
    Over,
}

/// The page that a call asks for, of the objects that `look` takes.
pub(super) async fn page<S: Object>(
    call: &Call,
    look: impl Fn(&Resource<S>) -> Look,
) -> Result<Page<Resource<S>>, Problem> {
    let limit = lists::limit(&call.query)?;
    let mut after = call.query.get("cursor").map(ToOwned::to_owned);
    let mut items: Vec<Resource<S>> = Vec::new();
    let mut revision = 0;
    let mut more = false;
    'pages: loop {
        let page = call.app.objects.page::<S>("", after.as_deref(), Some(limits::PAGE_SIZE)).await?;
        // A watch from the first one's revision misses nothing of the later ones.
        if revision == 0 {
            revision = page.revision;
        }
        after = page.items.last().map(|object| object.name.clone()).or(after);
        for object in page.items {
            match look(&object) {
                Look::Over => break 'pages,
                Look::Passed => {}
                Look::Taken if items.len() >= limit => {
                    more = true;
                    break 'pages;
                }
                Look::Taken => items.push(object),
            }
        }
        if !page.more {
            break;
        }
    }
    let cursor = items.last().map(|object| object.name.clone()).filter(|_| more);
    Ok(Page { items, cursor, revision })
}
