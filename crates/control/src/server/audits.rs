//! Who changed what: the records that [`crate::author`] wrote, newest first.
//!
//! An admin sees all of them; an owner those of the domains that are theirs, since the domain's present life began: what
//! an earlier owner of the name did is not theirs to see.

use super::{
    call::{Answer, Call, Query},
    newest::{self, Lives, Look},
    reply,
};
use tutti_model::{Problem, Resource, Timestamp, audit::AuditSpec, token::Role};

/// Which records are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    /// Of these domains, each from then on; `None` for all there is.
    domains: Option<Lives>,
    object: Option<String>,
    who: Option<String>,
    since: Option<Timestamp>,
}

impl Wanted {
    /// Whether a record is among them.
    fn has(&self, record: &AuditSpec) -> bool {
        let seen = newest::is_seen(self.domains.as_ref(), record.domain.as_ref(), record.at);
        let who = self.who.as_ref().is_none_or(|who| {
            record.who == *who || record.user.as_ref().is_some_and(|user| user.as_str() == who)
        });
        let object = self.object.as_ref().is_none_or(|object| {
            let changed = record.changes.iter().map(|change| change.object.as_str());
            changed.chain([record.object.as_str()]).any(|known| is_object(known, object))
        });
        seen && who && object
    }

    /// Whether this record and all older ones are too old.
    fn ends_before(&self, record: &AuditSpec) -> bool {
        self.since.is_some_and(|since| record.at < since)
    }
}

/// Whether `KIND NAME` is the object that somebody asks for, as KIND/NAME or by its name.
fn is_object(known: &str, asked: &str) -> bool {
    let Some((kind, name)) = known.split_once(' ') else { return known == asked };
    name == asked || asked.split_once('/').is_some_and(|(of, named)| of == kind && named == name)
}

async fn wanted(call: &Call, query: &Query) -> Result<Wanted, Problem> {
    let since: Option<u64> = query.read("since", "a number of milliseconds since 1970")?;
    Ok(Wanted {
        domains: newest::lives(&call.app.objects, &call.caller, |role| role == Role::Owner).await?,
        object: query.get("object").map(ToOwned::to_owned),
        who: query.get("who").map(ToOwned::to_owned),
        since: since.map(Timestamp),
    })
}

/// `GET /v1/audit`
pub(super) async fn list(call: Call) -> Answer {
    let wanted = wanted(&call, &call.query).await?;
    let look = |record: &Resource<AuditSpec>| match () {
        () if wanted.ends_before(&record.spec) => Look::Over,
        () if wanted.has(&record.spec) => Look::Taken,
        () => Look::Passed,
    };
    Ok(reply::ok(&newest::page(&call, look).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_asked_for_by_its_name_or_with_its_kind() {
        for (known, asked, is) in [
            ("route shop.example.com/a", "shop.example.com/a", true),
            ("route shop.example.com/a", "route/shop.example.com/a", true),
            ("route shop.example.com/a", "service/shop.example.com/a", false),
            ("domain example.com", "example.co", false),
            ("join_token", "join_token", true),
        ] {
            assert_eq!(is_object(known, asked), is, "{known} {asked}");
        }
    }
}
