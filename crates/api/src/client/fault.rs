//! What went wrong between us and the API, in words that say what to do.

use super::SILENCE;
use crate::wire::ProblemBody;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use std::{error::Error, time::Duration};
use tutti_model::{ErrorCode, Problem, limits};

/// Largest refusal that is read, in bytes.
const REFUSAL_BYTES: usize = limits::API_BODY_BYTES;

/// The connection was not made, or broke before an answer.
pub(super) fn broken(base: &str, error: &hyper_util::client::legacy::Error) -> Problem {
    if !error.is_connect() {
        return Problem::unavailable(format!(
            "{base} closed the connection before it answered: {}",
            innermost(error)
        ))
        .hint("try again; if it keeps happening, look at the log of control");
    }
    let io = causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>());
    match io.map(std::io::Error::kind) {
        // A socket file that is not there, or that nobody listens on any more, is the same.
        Some(std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound) => {
            // Only those of a cluster speak TLS.
            let with = if base.starts_with("https:") { "tutti server" } else { "tutti dev" };
            Problem::unavailable(format!("no control answers at {base}"))
                .hint(format!("start one with: {with}"))
        }
        Some(std::io::ErrorKind::TimedOut) => Problem::new(
            ErrorCode::Timeout,
            format!("no connection to {base} within {} s", super::CONNECT.as_secs()),
        )
        .hint("is the address right, and does a firewall let you through?"),
        Some(std::io::ErrorKind::InvalidData) => {
            Problem::unavailable(format!("who answers at {base} was not taken for it: {}", innermost(error)))
                .hint("if the cluster vouches for itself, name its root with --ca")
        }
        _ => Problem::unavailable(format!("no connection to {base}: {}", innermost(error)))
            .hint("is the address right? tutti config shows where it comes from"),
    }
}

/// Nothing came in time.
pub(super) fn late(base: &str, limit: Duration) -> Problem {
    Problem::new(ErrorCode::Timeout, format!("{base} did not answer within {} s", limit.as_secs()))
        .hint("what was asked for may still happen: look before you ask again")
}

/// The answer broke off.
pub(super) fn cut_off(base: &str, error: &(dyn Error + 'static)) -> Problem {
    Problem::unavailable(format!("the answer of {base} was cut off: {}", innermost(error)))
}

/// The answer is not what the API says.
pub(super) fn unreadable(base: &str, error: &serde_json::Error) -> Problem {
    Problem::internal(format!("the answer of {base} cannot be read: {error}"))
        .hint("is it a Tutti API, of a release near this command's? ask it: tutti status")
}

/// The problem that an answer without success tells of.
pub(super) async fn refused(base: &str, response: Response<Incoming>) -> Problem {
    let status = response.status();
    let body =
        tokio::time::timeout(SILENCE, Limited::new(response.into_body(), REFUSAL_BYTES).collect()).await;
    let bytes = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    problem_of(base, status, &bytes)
}

/// As [`refused`], from the bytes.
pub(super) fn problem_of(base: &str, status: StatusCode, bytes: &[u8]) -> Problem {
    if let Ok(body) = serde_json::from_slice::<ProblemBody>(bytes) {
        return of_body(body);
    }
    if let Ok(OciErrors { errors }) = serde_json::from_slice::<OciErrors>(bytes)
        && let Some(first) = errors.into_iter().next()
    {
        let problem = Problem::new(code_of(status), first.message);
        return match first.detail.and_then(|detail| detail.hint) {
            Some(hint) => problem.hint(hint),
            None => problem,
        };
    }
    Problem::new(code_of(status), format!("{base} answered {status} and nothing else that Tutti would say"))
        .hint("is it the address of a Tutti API? tutti config shows where it comes from")
}

/// A problem with its further faults in the same sentence.
pub(super) fn of_body(body: ProblemBody) -> Problem {
    let faults = body.faults.clone();
    let mut problem = Problem::from(body);
    if faults.len() > 1 {
        problem.detail = format!("{}: {}", problem.detail, faults.join("; "));
    }
    problem
}

/// Errors of the OCI distribution API.
#[derive(Deserialize)]
struct OciErrors {
    errors: Vec<OciError>,
}

#[derive(Deserialize)]
struct OciError {
    message: String,
    #[serde(default)]
    detail: Option<OciDetail>,
}

#[derive(Deserialize)]
struct OciDetail {
    #[serde(default)]
    hint: Option<String>,
}

/// The code nearest to an HTTP status.
fn code_of(status: StatusCode) -> ErrorCode {
    match status.as_u16() {
        401 => ErrorCode::Unauthenticated,
        403 => ErrorCode::Forbidden,
        404 | 410 => ErrorCode::NotFound,
        408 | 504 => ErrorCode::Timeout,
        409 | 412 => ErrorCode::Conflict,
        413 | 429 => ErrorCode::QuotaExceeded,
        400..=499 => ErrorCode::Invalid,
        502 | 503 => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}
