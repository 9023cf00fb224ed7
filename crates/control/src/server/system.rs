//! Operations about the API itself.

use super::{
    call::{Answer, Call},
    reply,
};
use std::collections::BTreeMap;
use tutti_api::wire::{Release, WhoAmI};
use tutti_model::token::Role;

/// `GET /healthz`
pub(super) async fn health(_call: Call) -> Answer {
    Ok(reply::text("text/plain; charset=utf-8", "ok\n".to_owned()))
}

/// `GET /v1/release`
pub(super) async fn release(call: Call) -> Answer {
    Ok(reply::ok(&Release { release: call.app.release.clone() }))
}

/// `GET /v1/openapi.json`
pub(super) async fn openapi(call: Call) -> Answer {
    let app = &call.app;
    Ok(reply::ok(app.openapi.get_or_init(|| tutti_api::openapi::document(&app.release))))
}

/// `GET /v1/whoami`
pub(super) async fn whoami(call: Call) -> Answer {
    let mut who = WhoAmI {
        token: call.caller.token().to_owned(),
        user: None,
        role: None,
        domain: None,
        domains: BTreeMap::new(),
    };
    match (call.caller.domains(), call.caller.user()) {
        (None, _) => who.role = Some(Role::Admin),
        (Some(domains), Some((user, _))) => {
            who.user = Some(user.clone());
            who.domains = domains;
        }
        (Some(domains), None) => (who.domain, who.role) = domains.into_iter().next().unzip(),
    }
    Ok(reply::ok(&who))
}
