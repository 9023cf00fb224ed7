//! How this control's own parts fare.

use super::{
    call::{Answer, Call},
    reply,
};
use crate::Objects;
use std::time::Duration;
use tutti_api::debug::Reconcilers;
use tutti_base::telemetry;
use tutti_model::{
    Resource,
    cluster::MemberSpec,
    control::{LEADER, LeaderSpec},
    resource::Object,
};

/// Longest to wait for the store.
const STORE_ANSWER: Duration = Duration::from_secs(2);

/// `GET /v1/debug/reconcilers`
pub(super) async fn reconcilers(call: Call) -> Answer {
    let app = &call.app;
    let (leads_since, loops) = app.loops.read();
    let leader = found::<LeaderSpec>(&app.objects, LEADER).await.map(|leader| leader.spec.control);
    let member = match &leader {
        Some(leader) if *leader != app.control => found::<MemberSpec>(&app.objects, leader.as_str()).await,
        _ => None,
    };
    Ok(reply::ok(&Reconcilers {
        control: app.control.clone(),
        now: app.objects.clock().now(),
        leads_since,
        leader,
        leader_address: member.and_then(|member| member.spec.api).map(|api| api.to_string()),
        loops,
    }))
}

/// `GET /v1/debug/log`
pub(super) async fn log(_call: Call) -> Answer {
    Ok(reply::text("text/plain; charset=utf-8", telemetry::recent()))
}

/// The object, if it is there and the store tells soon. A store that does not answer may be just what somebody looks
/// for: the loops are told all the same.
async fn found<S: Object>(objects: &Objects, name: &str) -> Option<Resource<S>> {
    match tokio::time::timeout(STORE_ANSWER, objects.find::<S>(name)).await {
        Ok(Ok(found)) => found,
        Ok(Err(problem)) => {
            tracing::warn!(%problem, "who leads could not be read");
            None
        }
        Err(_) => {
            tracing::warn!("who leads could not be read: the store does not answer");
            None
        }
    }
}
