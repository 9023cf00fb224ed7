//! Answers of creates, remembered by `Idempotency-Key`, so that a client may send one again when it never saw the
//! answer.
//!
//! They are kept in memory, bounded in number and time: across a restart of control the object's own name (and for a
//! deployment the service's lock) still refuses a second one, only with a conflict instead of the first answer.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};
use tutti_model::{Digest, Millis, Problem, Timestamp};

/// The header that names a request.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key, in bytes: a UUID with room to spare.
const KEY_BYTES: usize = 128;
/// Most answers remembered; the oldest goes first. At 4 KiB each that is 4 MiB.
const ANSWERS: usize = 1024;
/// Largest answer remembered, in bytes; larger ones are simply not replayed.
const ANSWER_BYTES: usize = 16 * 1024;
/// How long an answer is remembered: longer than any client retries.
const KEEP: Millis = Millis::seconds(3600);

/// Whose request it was: token and key.
type Name = (String, String);

#[derive(Debug, Clone)]
enum Kept {
    Running,
    Answered { at: Timestamp, status: StatusCode, body: Bytes },
}

#[derive(Debug, Default)]
struct Memory {
    answers: HashMap<Name, (Digest, Kept)>,
    order: VecDeque<Name>,
}

/// The remembered answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Replays(Arc<Mutex<Memory>>);

/// What is known of a request.
#[derive(Debug)]
pub(super) enum Known {
    /// It is new; whoever does it says what became of it.
    New(Doing),
    /// It was answered so.
    Answered(Response),
}

/// A request that is being done. Dropped without an answer, it is forgotten.
#[derive(Debug)]
pub(super) struct Doing {
    replays: Replays,
    name: Name,
    kept: bool,
}

/// The key of a request.
///
/// # Errors
/// `invalid` if it is not 1 to 128 visible characters.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(text)
            if (1..=KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(Some(text.to_owned()))
        }
        _ => {
            Err(Problem::invalid(format!("Idempotency-Key is not 1 to {KEY_BYTES} visible ASCII characters")))
        }
    }
}

impl Replays {
    /// Looks a request up, and notes that it is being done if it is new.
    ///
    /// # Errors
    /// `conflict` if another request had this key, or if this one is still being done.
    pub(super) fn begin(
        &self,
        token: &str,
        key: String,
        request: &Digest,
        now: Timestamp,
    ) -> Result<Known, Problem> {
        let name = (token.to_owned(), key);
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match memory.answers.get(&name).cloned() {
            Some((_, Kept::Answered { at, .. })) if now.since(at) >= KEEP => memory.forget(&name),
            Some((known, _)) if known != *request => {
                return Err(Problem::conflict(format!(
                    "Idempotency-Key \"{}\" was used for another request",
                    name.1
                ))
                .hint("use a new key for each new request"));
            }
            Some((_, Kept::Running)) => {
                return Err(Problem::conflict(format!(
                    "the request with Idempotency-Key \"{}\" is still running",
                    name.1
                ))
                .hint("send it again in a second"));
            }
            Some((_, Kept::Answered { status, body, .. })) => {
                return Ok(Known::Answered(replay(status, body)));
            }
            None => {}
        }
        while memory.order.len() >= ANSWERS {
            let Some(oldest) = memory.order.pop_front() else { break };
            memory.answers.remove(&oldest);
        }
        memory.order.push_back(name.clone());
        memory.answers.insert(name.clone(), (request.clone(), Kept::Running));
        Ok(Known::New(Doing { replays: self.clone(), name, kept: false }))
    }
}

impl Memory {
    fn forget(&mut self, name: &Name) {
        self.answers.remove(name);
        self.order.retain(|other| other != name);
    }
}

fn replay(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}

impl Doing {
    /// Remembers the answer of a request that was done. Failures are not remembered: trying again may help.
    pub(super) async fn answered(mut self, response: Response, now: Timestamp) -> Response {
        if !response.status().is_success() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let Ok(body) = axum::body::to_bytes(body, super::dispatch::ANSWER_BYTES).await else {
            return Response::from_parts(parts, Body::empty());
        };
        if body.len() <= ANSWER_BYTES {
            let mut memory = self.replays.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, kept)) = memory.answers.get_mut(&self.name) {
                *kept = Kept::Answered { at: now, status: parts.status, body: body.clone() };
                self.kept = true;
            }
        }
        Response::from_parts(parts, Body::from(body))
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        if !self.kept {
            self.replays.0.lock().unwrap_or_else(PoisonError::into_inner).forget(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_base::sha256::digest;

    fn begin(replays: &Replays, key: &str, body: &str, at: u64) -> Result<Known, Problem> {
        replays.begin("ci", key.to_owned(), &digest(body.as_bytes()), Timestamp(at))
    }

    fn fresh(known: Result<Known, Problem>) -> Doing {
        match known.unwrap() {
            Known::New(doing) => doing,
            Known::Answered(_) => panic!("was answered"),
        }
    }

    #[tokio::test]
    async fn an_answer_comes_again_and_another_request_does_not() {
        let replays = Replays::default();
        let doing = fresh(begin(&replays, "k", "a", 0));
        assert!(begin(&replays, "k", "a", 0).unwrap_err().detail.contains("still running"));
        let _ = doing.answered(replay(StatusCode::CREATED, Bytes::from_static(b"{}")), Timestamp(1)).await;
        assert!(matches!(begin(&replays, "k", "a", 2).unwrap(), Known::Answered(_)));
        assert!(begin(&replays, "k", "b", 2).unwrap_err().detail.contains("another request"));
        drop(fresh(begin(&replays, "k", "b", 1 + KEEP.0)));
    }

    #[tokio::test]
    async fn a_failure_is_forgotten() {
        let replays = Replays::default();
        let doing = fresh(begin(&replays, "k", "a", 0));
        let _ = doing.answered(replay(StatusCode::CONFLICT, Bytes::new()), Timestamp(1)).await;
        drop(fresh(begin(&replays, "k", "a", 2)));
        assert!(replays.0.lock().unwrap().answers.is_empty());
    }

    #[tokio::test]
    async fn only_so_many_are_remembered() {
        let replays = Replays::default();
        for index in 0..ANSWERS + 10 {
            let doing = fresh(begin(&replays, &index.to_string(), "a", 0));
            let _ = doing.answered(replay(StatusCode::OK, Bytes::new()), Timestamp(1)).await;
        }
        let memory = replays.0.lock().unwrap();
        assert_eq!((memory.answers.len(), memory.order.len()), (ANSWERS, ANSWERS));
    }
}
