//! Tokens: 256 random bits, of which only the SHA-256 is kept, and an index in memory from that hash to its rights.
//!
//! The index follows the store by watch, so that a request costs no read of it and goes on to be answered while the
//! store is away. Looking up the hash of what was sent leaks nothing by its timing: nobody can choose a hash.
//! Creating and revoking a token wait until the index has seen it, so that both hold for the very next request.

use super::{
    call::{Answer, Call, Caller},
    names, reply,
    serve::OverSocket,
};
use crate::Objects;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::StreamExt as _;
use http::{Extensions, HeaderMap, header};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tutti_api::{
    Change, WatchEvent,
    wire::{CreateToken, CreatedToken},
};
use tutti_base::{Random, Secret, Tasks};
use tutti_model::{
    DomainName, ErrorCode, Problem, Resource, Timestamp,
    token::{Role, TokenSpec},
};

/// How every token begins, so that people and secret scanners know one.
const PREFIX: &str = "tutti_";
/// Most tokens. The index holds them all; at this number it takes about 4 MiB.
const TOKENS: usize = 10_000;
/// Longest wait for the index: at the start of control, and after a token was made or revoked.
const INDEX_WAIT: Duration = Duration::from_secs(5);
/// Longest `Authorization` header that is looked at, in bytes.
const HEADER_BYTES: usize = 1024;

/// A new secret.
pub(super) fn mint(random: &Random) -> Secret<String> {
    let mut bytes = [0u8; 32];
    random.fill(&mut bytes);
    Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What is kept of a secret.
pub(super) fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// A token's rights, as the index holds them.
#[derive(Debug, Clone)]
struct Bearer {
    name: String,
    role: Role,
    domain: Option<DomainName>,
    expires_at: Option<Timestamp>,
}

/// Every token, as of a revision.
#[derive(Debug, Clone, Default)]
struct Known {
    by_hash: HashMap<String, Arc<Bearer>>,
    by_name: BTreeMap<String, String>,
    revision: u64,
}

impl Known {
    fn put(&mut self, token: &Resource<TokenSpec>) {
        self.remove(&token.name);
        let spec = &token.spec;
        let bearer = Bearer {
            name: token.name.clone(),
            role: spec.role,
            domain: spec.domain.clone(),
            expires_at: spec.expires_at,
        };
        self.by_name.insert(token.name.clone(), spec.hash.clone());
        self.by_hash.insert(spec.hash.clone(), Arc::new(bearer));
    }

    fn remove(&mut self, name: &str) {
        if let Some(hash) = self.by_name.remove(name) {
            self.by_hash.remove(&hash);
        }
    }
}

/// The index of all tokens. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct TokenIndex(watch::Receiver<Option<Arc<Known>>>);

impl TokenIndex {
    /// Starts to follow the store.
    pub(super) fn start(objects: &Objects, tasks: &Tasks) -> Self {
        let (sender, receiver) = watch::channel(None);
        let (objects, stopping) = (objects.clone(), tasks.stopping());
        tasks.spawn("token index", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = follow(objects, &sender) => {}
            }
        });
        TokenIndex(receiver)
    }

    /// Who sends these headers.
    ///
    /// # Errors
    /// `unauthenticated` without a token that is known and valid.
    pub(super) async fn identify(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        now: Timestamp,
    ) -> Result<Caller, Problem> {
        // Who sends a token over the socket asks to be no more than that.
        if extensions.get::<OverSocket>().is_some() && !headers.contains_key(header::AUTHORIZATION) {
            return Ok(Caller::Machine);
        }
        let secret = secret(headers)?;
        let hash = hash(secret.reveal());
        let known = self.wait(|known| known.is_some()).await?;
        let bearer = known.as_ref().and_then(|known| known.by_hash.get(&hash).cloned());
        let Some(bearer) = bearer else {
            return Err(Problem::new(ErrorCode::Unauthenticated, "the token is unknown, or was deleted")
                .hint("check TUTTI_TOKEN and --context, or ask an admin for a new token"));
        };
        if bearer.expires_at.is_some_and(|end| now >= end) {
            return Err(Problem::new(
                ErrorCode::Unauthenticated,
                format!("token \"{}\" has expired", bearer.name),
            )
            .hint("ask an admin for a new token"));
        }
        Ok(Caller::Bearer { token: bearer.name.clone(), role: bearer.role, domain: bearer.domain.clone() })
    }

    /// Returns once every change of tokens up to `revision` holds.
    ///
    /// # Errors
    /// `unavailable` if the index does not hear from the store.
    async fn reached(&self, revision: u64) -> Result<(), Problem> {
        self.wait(|known| known.as_ref().is_some_and(|known| known.revision >= revision)).await.map(|_| ())
    }

    async fn wait(
        &self,
        enough: impl FnMut(&Option<Arc<Known>>) -> bool,
    ) -> Result<Option<Arc<Known>>, Problem> {
        let mut receiver = self.0.clone();
        match tokio::time::timeout(INDEX_WAIT, receiver.wait_for(enough)).await {
            Ok(Ok(known)) => Ok(known.clone()),
            Ok(Err(_)) | Err(_) => Err(Problem::unavailable("the tokens are not read from the store yet")
                .hint("try again in a second")),
        }
    }
}

async fn follow(objects: Objects, sender: &watch::Sender<Option<Arc<Known>>>) {
    let mut events = objects.watch::<TokenSpec>(None);
    let (mut known, mut whole) = (Known::default(), false);
    while let Some(event) = events.next().await {
        match event {
            Ok(WatchEvent::Init) => (known, whole) = (Known::default(), false),
            Ok(WatchEvent::InitItem(token)) => known.put(&token),
            Ok(WatchEvent::InitDone { revision }) => (known.revision, whole) = (revision, true),
            Ok(WatchEvent::Changes { revision, changes }) => {
                for change in &changes {
                    match change {
                        Change::Put(token) => known.put(token),
                        Change::Delete { name } => known.remove(name),
                    }
                }
                known.revision = revision;
            }
            Err(problem) => tracing::error!(%problem, "the watch over tokens ended"),
        }
        if whole {
            sender.send_replace(Some(Arc::new(known.clone())));
        }
    }
}

/// The secret in `Authorization`: `Bearer SECRET`, or the password of `Basic`, which OCI clients send.
fn secret(headers: &HeaderMap) -> Result<Secret<String>, Problem> {
    let refuse = |detail: &str| {
        Problem::new(ErrorCode::Unauthenticated, detail)
            .hint("set TUTTI_TOKEN, or choose a context with --context; tutti dev writes one")
    };
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(refuse("this needs a token, and the request has none"));
    };
    let text = value.to_str().ok().filter(|text| text.len() <= HEADER_BYTES);
    let parts = text.and_then(|text| text.split_once(' '));
    let secret = match parts {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Some(rest.trim().to_owned()),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("basic") => basic_password(rest.trim()),
        _ => None,
    };
    secret.map(Secret::new).ok_or_else(|| refuse("the Authorization header is not \"Bearer TOKEN\""))
}

fn basic_password(encoded: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// `POST /v1/tokens`
pub(super) async fn create(call: Call) -> Answer {
    let request: CreateToken = call.json()?;
    check_name(&request.name)?;
    match (&request.role, &request.domain) {
        (Role::Admin, Some(_)) => {
            return Err(Problem::invalid("an admin's token has no domain: it is for all of them").into());
        }
        (Role::Admin, None) => {}
        (role, None) => {
            return Err(Problem::invalid(format!("a token for a {role} needs a domain"))
                .hint("name it with --domain")
                .into());
        }
        (_, Some(domain)) => names::existing_domain(&call.app, &call.caller, domain).await.map(|_| ())?,
    }
    let objects = &call.app.objects;
    names::room_for::<TokenSpec>(objects, "", TOKENS, "tokens").await?;
    let secret = mint(objects.random());
    let spec = TokenSpec {
        role: request.role,
        domain: request.domain,
        expires_at: request.expires_in.map(|span| objects.clock().now().plus(span)),
        hash: hash(secret.reveal()),
    };
    let token = objects.make(&request.name, spec);
    let Some(revision) = objects.write().create(&token).commit().await? else {
        return Err(Problem::already_exists("token", &request.name)
            .hint(format!("choose another name, or delete it first: tutti token delete {}", request.name))
            .into());
    };
    call.app.tokens.reached(revision).await?;
    Ok(reply::created(&CreatedToken { name: request.name, secret: secret.reveal().clone() }))
}

/// `DELETE /v1/tokens/{name}`
pub(super) async fn delete(call: Call) -> Answer {
    let objects = &call.app.objects;
    for _ in 0..names::ATTEMPTS {
        let Some(token) = objects.find::<TokenSpec>(call.name()).await? else {
            return Err(names::missing::<TokenSpec>(&call.app, &call.caller, call.name()).await.into());
        };
        let own = call.caller.token() == token.name;
        if own {
            return Err(Problem::conflict(format!("token \"{}\" is the one you use", token.name))
                .hint("delete it with another admin's token, so that you don't lock yourself out")
                .into());
        }
        if let Some(revision) = objects.write().delete(&token).commit().await? {
            call.app.tokens.reached(revision).await?;
            return Ok(reply::no_content());
        }
    }
    Err(names::busy("token", call.name()).into())
}

fn check_name(name: &str) -> Result<(), Problem> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = (1..=63).contains(&name.len())
        && name.bytes().all(letters)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good {
        return Ok(());
    }
    Err(Problem::invalid(format!("token \"{name}\" is not 1 to 63 of a-z, 0-9 and inner hyphens")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(value: &str) -> Result<String, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        secret(&headers).map(|secret| secret.reveal().clone())
    }

    #[test]
    fn secrets_are_long_and_never_alike() {
        let random = Random::seeded(1);
        let (one, other) = (mint(&random), mint(&random));
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), PREFIX.len() + 43, "256 bits in base64url");
        assert_eq!(hash(one.reveal()).len(), 64);
    }

    #[test]
    fn reads_bearer_and_basic_and_nothing_else() {
        assert_eq!(read("Bearer tutti_x").unwrap(), "tutti_x");
        assert_eq!(read("bearer tutti_x").unwrap(), "tutti_x");
        assert_eq!(read("Basic dHV0dGk6dHV0dGlfeA==").unwrap(), "tutti_x");
        for bad in ["tutti_x", "Digest tutti_x", "Basic ???", "Bearer"] {
            assert_eq!(read(bad).unwrap_err().code, ErrorCode::Unauthenticated, "{bad}");
        }
        assert!(read(&format!("Bearer {}", "x".repeat(HEADER_BYTES))).is_err());
        assert!(secret(&HeaderMap::new()).is_err());
    }
}
