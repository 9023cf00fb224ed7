//! What happened: the events that reconcilers and reports left, newest first, and as they come.
//!
//! An admin sees all of them; others those of the domains in which they have a role, since the domain's present life
//! began. What happens to nodes and controls is the admins' affair.

use super::{
    call::{Answer, Call},
    lists::{self, Scope, Visible},
    newest::{self, Look},
    reply, watches,
};
use tutti_api::wire::Page;
use tutti_model::{DomainName, Problem, Resource, ServiceRef, Timestamp, event::EventSpec, name::NodeName};

impl Visible for EventSpec {
    /// Who begins a watch anew is not told again all that ever happened, least of all what was before the domain's
    /// present life: it lists what it missed.
    const TOLD_ANEW: bool = false;

    fn domain(event: &Resource<Self>) -> Option<DomainName> {
        event.spec.service.as_ref().map(|service| service.domain.clone())
    }

    fn service(event: &Resource<Self>) -> Option<ServiceRef> {
        event.spec.service.clone()
    }
}

/// `GET /v1/events`
pub(super) async fn list(call: Call) -> Answer {
    let asked = lists::asked(&call).await?;
    if call.query.get("watch").is_some() {
        return watch(&call, asked).await;
    }
    let node: Option<NodeName> = call.query.read("node", "the name of a node")?;
    let since: Option<u64> = call.query.read("since", "a number of milliseconds since 1970")?;
    let Some(scope) = Scope::of::<EventSpec>(&asked, &call.caller) else {
        let revision = call.app.objects.store().revision().await.map_err(Problem::from)?;
        return Ok(reply::ok(&Page::<Resource<EventSpec>> { items: Vec::new(), cursor: None, revision }));
    };
    let lives = newest::lives(&call.app.objects, &call.caller, |_| true).await?;
    let look = |event: &Resource<EventSpec>| {
        let domain = EventSpec::domain(event);
        if since.is_some_and(|since| event.spec.at < Timestamp(since)) {
            Look::Over
        } else if scope.has(event)
            && newest::is_seen(lives.as_ref(), domain.as_ref(), event.spec.at)
            && node.as_ref().is_none_or(|node| event.spec.node.as_ref() == Some(node))
        {
            Look::Taken
        } else {
            Look::Passed
        }
    };
    Ok(reply::ok(&newest::page(&call, look).await?))
}

async fn watch(call: &Call, asked: lists::Asked) -> Answer {
    for key in ["node", "since"] {
        if call.query.get(key).is_some() {
            return Err(Problem::invalid(format!("query parameter {key}: a watch has all of them")).into());
        }
    }
    watches::answer::<EventSpec>(call, asked).await
}
