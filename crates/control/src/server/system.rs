//! Operations about the API itself.

use super::{
    call::{Answer, Call, Caller},
    reply,
};
use tutti_api::wire::{Release, WhoAmI};
use tutti_model::{Problem, token::Role};

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

/// `GET /metrics`
pub(super) async fn metrics(call: Call) -> Answer {
    let text = (call.app.metrics)();
    Ok(reply::text("application/openmetrics-text; version=1.0.0; charset=utf-8", text))
}

/// `GET /v1/whoami`
pub(super) async fn whoami(call: Call) -> Answer {
    match call.caller {
        Caller::Bearer { token, role, domain } => Ok(reply::ok(&WhoAmI { token, role, domain })),
        caller @ Caller::Machine => {
            Ok(reply::ok(&WhoAmI { token: caller.token().to_owned(), role: Role::Admin, domain: None }))
        }
        Caller::Anonymous => Err(Problem::internal("whoami without a token").into()),
    }
}
