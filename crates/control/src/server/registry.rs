//! The door of the registry: who may pull from and push to the repository `DOMAIN/SERVICE`.

use super::{
    App, audit,
    call::{Answer, Caller},
    dispatch, names,
    reply::Refusal,
    subject,
};
use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, Method, StatusCode, header};
use std::sync::Arc;
use tower::ServiceExt as _;
use tutti_api::operations::Right;
use tutti_model::{DomainName, ErrorCode, Problem};

/// Answers a request below `/v2`.
pub(super) async fn answer(app: &Arc<App>, request: Request, request_id: &str) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let caller =
        match app.identity.identify(request.headers(), request.extensions(), app.objects.clock().now()).await
        {
            Ok(caller) => caller,
            Err(problem) => return Ok(refuse(problem, request_id)),
        };
    let answer = match authorize(app, &caller, &method, &path).await {
        Ok(()) => app.registry.clone().oneshot(request).await.into_response(),
        Err(problem) => refuse(problem, request_id),
    };
    if audit::changes(&method) {
        audit::note_registry(request_id, &caller, dispatch::REGISTRY, &path, answer.status());
    }
    Ok(answer)
}

async fn authorize(app: &App, caller: &Caller, method: &Method, path: &str) -> Result<(), Problem> {
    subject::check_member(dispatch::registry_operation()?, caller)?;
    let Some(domain) = domain(path)? else { return Ok(()) };
    names::existing_domain(app, caller, &domain).await?;
    let right = if audit::changes(method) { Right::Deploy } else { Right::View };
    subject::check_domain(dispatch::registry_operation()?, right, caller, &domain)
}

/// The domain of the repository that a path is in; `None` for the registry itself. Nothing is decoded: a domain's name
/// has no letter that would be encoded, so that what is checked here is what the registry reads.
fn domain(path: &str) -> Result<Option<DomainName>, Problem> {
    let rest = path.strip_prefix("/v2").unwrap_or(path).trim_start_matches('/');
    if rest.is_empty() {
        return Ok(None);
    }
    let (domain, _) = rest.split_once('/').unwrap_or((rest, ""));
    domain.parse().map(Some).map_err(|problem: Problem| {
        Problem::invalid(format!("the repository is not DOMAIN/SERVICE: {}", problem.detail))
    })
}

/// A refusal that Tutti's client reads as problem+json and others as the distribution API's own error.
fn refuse(problem: Problem, request_id: &str) -> Response {
    let code = match problem.code {
        ErrorCode::Unauthenticated => "UNAUTHORIZED",
        ErrorCode::Forbidden => "DENIED",
        ErrorCode::NotFound => "NAME_UNKNOWN",
        _ => "NAME_INVALID",
    };
    let body = tutti_api::wire::ProblemBody::new(problem.clone(), Some(request_id.to_owned()));
    let mut response = Refusal::from(problem.clone()).response(request_id);
    if let Ok(mut value) = serde_json::to_value(&body)
        && let Some(fields) = value.as_object_mut()
    {
        let error = serde_json::json!({ "code": code, "message": problem.detail });
        fields.insert("errors".to_owned(), serde_json::Value::Array(vec![error]));
        *response.body_mut() = Body::from(value.to_string());
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        // What stock OCI clients understand: any user name, and the token as the password.
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"tutti\""));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_is_the_first_segment_undecoded() {
        assert_eq!(domain("/v2/").unwrap(), None);
        assert_eq!(domain("/v2").unwrap(), None);
        assert_eq!(domain("/v2/example.com/web/blobs/x").unwrap().unwrap().as_str(), "example.com");
        for bad in ["/v2/example%2ecom/web/blobs/x", "/v2/../x", "/v2/EXAMPLE.com/web", "/v2/_catalog"] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }
}
