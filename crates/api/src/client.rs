//! The typed client of the API: every operation of [`crate::operations::OPERATIONS`] that a person or a role calls,
//! watches that resume by themselves, followed logs, pushes to the registry under `/v2`, and the zone's interface for
//! agents and ingresses. Over TCP or TLS with a token, over TLS with a member's certificate and then at any of several
//! controls, or over a socket file of this machine, whose owner needs none.
//!
//! Whatever goes wrong becomes a [`Problem`]: what the API says of itself, and also what it could not say (nobody
//! answers, an answer that is cut off, something else than Tutti answers). Nothing here prints or asks.
//!
//! Bounds: [`CONNECT`] to connect, [`ANSWER`] until an answer begins, [`SILENCE`] between the pieces of one,
//! [`ANSWER_BYTES`] for an answer read whole.

mod audit;
mod calls;
mod domains;
mod events;
mod fault;
mod lines;
mod members;
mod node_logs;
mod origins;
mod registry;
#[cfg(test)]
mod tests;
mod transport;
mod watching;
mod zone;

pub use audit::AuditRequest;
pub use calls::{Filter, LogScope, LogsRequest};
pub use domains::Claimed;
pub use events::{Events, EventsRequest};
pub use node_logs::NodeLogs;
pub use registry::BlobSource;
pub use zone::ZoneClient;

use crate::operations::{self, Operation};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client as HttpClient,
    rt::{TokioExecutor, TokioTimer},
};
use origins::Origins;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, path::Path, sync::Arc, time::Duration};
use transport::Connector;
use tutti_base::{Body, Random, Secret, SystemClock, body};
use tutti_model::{Problem, limits, node::HostPort};
use tutti_pki::ClientConfig;

/// Time to connect: a host that is up answers in far less, and a person waits for the error.
const CONNECT: Duration = Duration::from_secs(5);
/// Time to connect to one of several controls: that of a handshake over a slow line, since the next one waits.
const CONNECT_TO_ONE: Duration = Duration::from_secs(2);
/// Time until an answer begins. Nothing the API does before it answers takes longer than a store transaction.
const ANSWER: Duration = Duration::from_secs(30);
/// Time without a byte after which a stream or an upload counts as lost. Watches say that they live more often.
const SILENCE: Duration = Duration::from_secs(90);
/// Largest answer that is read whole, in bytes: a page of objects that are all of the largest size the store takes.
const ANSWER_BYTES: usize = limits::PAGE_SIZE * limits::STORE_VALUE_BYTES;
/// Idle connections kept: the command line uses one or two at once.
const IDLE_CONNECTIONS: usize = 4;
/// The header under which a create may be sent again without happening twice.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Told each time a running watch loses its source and is about to try again.
pub type OnLoss = Arc<dyn Fn(&Problem) + Send + Sync>;

/// Speaks to control: the one at an address, or any of those of a cluster. Cloning shares its connections.
#[derive(Clone)]
pub struct Client {
    http: HttpClient<Connector, Body>,
    /// What every request's address begins with. Over a socket the host says nothing.
    origins: Arc<Origins>,
    /// Where it speaks to, as people are told.
    base: String,
    bearer: Option<HeaderValue>,
    random: Random,
    on_loss: Option<OnLoss>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// What is sent.
struct Outgoing {
    method: Method,
    /// Path and query, from the base on.
    path: String,
    headers: HeaderMap,
    body: Bytes,
    /// Whether it may be sent again when the connection broke before the answer.
    repeatable: bool,
}

/// The header that a token is sent in.
fn bearer(token: &Secret<String>) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal().trim()))
        .map_err(|_| Problem::invalid("the token has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Client {
    /// A client of the API at `base`, such as `http://127.0.0.1:7070`, with a token's secret. Nothing is sent yet. For
    /// `https` the authorities of this machine are asked; see [`Client::with_tls`] for others.
    ///
    /// # Errors
    /// `invalid` if the address is not one that can be spoken to, or the token cannot stand in a header; `unavailable`
    /// if this machine knows no authorities.
    pub fn new(base: &Uri, token: Option<Secret<String>>) -> Result<Self, Problem> {
        Client::with_tls(base, token, || tutti_pki::connects_publicly(None, None, Arc::new(SystemClock)))
    }

    /// As [`Client::new`]; for `https` with what `tls` gives.
    ///
    /// # Errors
    /// As there, and what `tls` says.
    pub fn with_tls(
        base: &Uri,
        token: Option<Secret<String>>,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, Problem>,
    ) -> Result<Self, Problem> {
        let shown = base.to_string();
        let wrong = |why: &str| Problem::invalid(format!("API address \"{shown}\" {why}"));
        let scheme = match base.scheme_str() {
            Some(scheme @ ("http" | "https")) => scheme,
            _ => return Err(wrong("has no scheme: write it as https://HOST:PORT or http://HOST:PORT")),
        };
        let authority = base.authority().ok_or_else(|| wrong("has no host: write it as http://HOST:PORT"))?;
        if base.query().is_some() {
            return Err(wrong("has a query: write it as http://HOST:PORT"));
        }
        let bearer = token.map(|token| bearer(&token)).transpose()?;
        let connector = if scheme == "https" { Connector::tls(tls()?, CONNECT) } else { Connector::tcp() };
        let base = format!("{scheme}://{authority}{}", base.path().trim_end_matches('/'));
        Ok(Client::through(connector, Origins::one(base.clone()), base, bearer))
    }

    /// A client of any of a cluster's controls, over TLS and without a token: the certificate in `tls` says who calls.
    /// It stays with one that answers, and goes to the next when that one refuses, says nothing in time, or says that
    /// it cannot serve. Nothing is sent yet.
    ///
    /// # Errors
    /// `invalid` if there is no address, or more than 16.
    pub fn of_cluster(controls: &[HostPort], tls: Arc<ClientConfig>) -> Result<Self, Problem> {
        let origins = controls.iter().map(|control| format!("https://{control}")).collect::<Vec<_>>();
        let base = origins.join(", ");
        let limit = if origins.len() > 1 { CONNECT_TO_ONE } else { CONNECT };
        Ok(Client::through(Connector::tls(tls, limit), Origins::several(origins)?, base, None))
    }

    /// A client of the control on this machine that listens on this socket file. No token: that the file can be opened
    /// is the right, and who listens there is checked with each connection. Nothing is sent yet, and the socket need
    /// not be there yet.
    #[must_use]
    pub fn over_socket(path: &Path) -> Self {
        let base = format!("unix:{}", path.display());
        Client::through(Connector::socket(path), Origins::one("http://localhost".to_owned()), base, None)
    }

    /// As [`Client::over_socket`], for a command that a person gives: root may call what another user runs. A token that
    /// is sent all the same is heeded, so that who asks to be less is less.
    ///
    /// # Errors
    /// `invalid` if the token cannot stand in a header.
    pub fn over_persons_socket(path: &Path, token: Option<Secret<String>>) -> Result<Self, Problem> {
        let bearer = token.map(|token| bearer(&token)).transpose()?;
        let base = format!("unix:{}", path.display());
        let origins = Origins::one("http://localhost".to_owned());
        Ok(Client::through(Connector::persons_socket(path), origins, base, bearer))
    }

    fn through(connector: Connector, origins: Origins, base: String, bearer: Option<HeaderValue>) -> Self {
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Client { http, origins: Arc::new(origins), base, bearer, random: Random::from_os(), on_loss: None }
    }

    /// Says what to do whenever a running watch loses its source.
    #[must_use]
    pub fn on_loss(mut self, told: OnLoss) -> Self {
        self.on_loss = Some(told);
        self
    }

    /// Where it speaks to.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request once and gives the answer, whatever its status.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
        limit: Option<Duration>,
    ) -> Result<Response<Incoming>, Failed> {
        let origin = self.origins.current();
        let uri = Uri::try_from(located(&origin.text, path))
            .map_err(|error| Failed::Said(Problem::internal(format!("{path} is not a path: {error}"))))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        if let Some(bearer) = &self.bearer {
            request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
        }
        let answer = self.http.request(request);
        let answered = match limit {
            Some(limit) => match tokio::time::timeout(limit, answer).await {
                Ok(answered) => answered,
                Err(_) => {
                    self.origins.leave(&origin);
                    return Err(Failed::Said(fault::late(&self.base, limit)));
                }
            },
            None => answer.await,
        };
        // Another control may serve, and what is asked next goes there.
        if !answered.as_ref().is_ok_and(|answer| answer.status() != StatusCode::SERVICE_UNAVAILABLE) {
            self.origins.leave(&origin);
        }
        answered.map_err(Failed::Broken)
    }

    /// Sends a request, to the next control if one cannot be reached, a second time if the connection broke and that
    /// does no harm, and gives a successful answer.
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Incoming>, Problem> {
        let attempt = || {
            let body = body::full(outgoing.body.clone());
            let (method, headers) = (outgoing.method.clone(), outgoing.headers.clone());
            self.exchange(method, &outgoing.path, headers, body, Some(ANSWER))
        };
        let (mut broke, mut unreached) = (false, 1);
        loop {
            match attempt().await {
                Err(Failed::Broken(error)) if error.is_connect() && unreached < self.origins.len() => {
                    unreached += 1;
                }
                Err(Failed::Broken(error)) if outgoing.repeatable && !error.is_connect() && !broke => {
                    broke = true;
                }
                answered => return self.judge(answered).await,
            }
        }
    }

    /// Turns every failure, and every answer that is not a success, into a problem.
    async fn judge(
        &self,
        answered: Result<Response<Incoming>, Failed>,
    ) -> Result<Response<Incoming>, Problem> {
        match answered {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => Err(fault::refused(&self.base, response).await),
            Err(Failed::Said(problem)) => Err(problem),
            Err(Failed::Broken(error)) => Err(fault::broken(&self.base, &error)),
        }
    }

    /// Reads an answer whole.
    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, Problem> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect();
        match tokio::time::timeout(SILENCE, body).await {
            Err(_) => Err(fault::late(&self.base, SILENCE)),
            Ok(Err(error)) => Err(fault::cut_off(&self.base, error.as_ref())),
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
        }
    }

    async fn json<T: DeserializeOwned>(&self, outgoing: Outgoing) -> Result<T, Problem> {
        let response = self.send(outgoing).await?;
        let bytes = self.whole(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| fault::unreadable(&self.base, &error))
    }

    /// Calls an operation without a body.
    async fn call<T: DeserializeOwned>(&self, id: &str, names: &[&str], query: &Query) -> Result<T, Problem> {
        self.json(self.outgoing(id, names, query)?).await
    }

    /// Calls an operation with a JSON body.
    async fn call_with<T: DeserializeOwned, B: Serialize>(
        &self,
        id: &str,
        names: &[&str],
        body: &B,
    ) -> Result<T, Problem> {
        self.json(self.outgoing_with(id, names, body)?).await
    }

    /// Calls an operation that answers with nothing.
    async fn call_for_nothing(&self, id: &str, names: &[&str]) -> Result<(), Problem> {
        let response = self.send(self.outgoing(id, names, &Query::default())?).await?;
        self.whole(response).await.map(drop)
    }

    fn outgoing_with<B: Serialize>(&self, id: &str, names: &[&str], body: &B) -> Result<Outgoing, Problem> {
        let mut outgoing = self.outgoing(id, names, &Query::default())?;
        outgoing.body = serde_json::to_vec(body)
            .map_err(|error| Problem::internal(format!("the request cannot be written as JSON: {error}")))?
            .into();
        outgoing.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(outgoing)
    }

    fn outgoing(&self, id: &str, names: &[&str], query: &Query) -> Result<Outgoing, Problem> {
        let operation: &Operation = operations::operation(id)
            .ok_or_else(|| Problem::internal(format!("\"{id}\" is not in the table of operations")))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if operations::is_replayed(operation)
            && let Ok(key) = HeaderValue::try_from(self.random.uid().as_str())
        {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        Ok(Outgoing {
            // A GET changes nothing, a PUT sets what is so already, a POST carries its key or is a report; a second
            // DELETE would say that there is nothing to delete.
            repeatable: operation.method != Method::DELETE,
            method: operation.method.clone(),
            path: format!("{}{}", operations::path(operation.path, names), query.text()),
            headers,
            body: Bytes::new(),
        })
    }
}

/// The address of a path. The registry answers with whole addresses or paths of its own.
fn located(origin: &str, path: &str) -> String {
    match path.starts_with("http://") || path.starts_with("https://") {
        true => path.to_owned(),
        false => format!("{origin}{path}"),
    }
}

/// Why there is no answer.
enum Failed {
    /// Known in our own words.
    Said(Problem),
    /// The connection.
    Broken(hyper_util::client::legacy::Error),
}

/// A query string under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Query(String);

impl Query {
    /// Adds a key with a value.
    fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        let value = value.to_string();
        let value = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
        self.0.push_str(&format!("{key}={value}"));
        self
    }

    /// Adds a key if there is a value.
    fn with_some(self, key: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    fn text(&self) -> &str {
        &self.0
    }
}
