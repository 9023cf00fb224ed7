//! One request, as handlers see it: authenticated, authorized, its names and query read.

use super::{App, reply::Refusal, subject::Subject};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, str::FromStr, sync::Arc};
use tutti_api::{openapi, operations::Operation};
use tutti_model::{
    Digest, DomainName, Problem, Timestamp, Uid, UserName, member::Membership, nearest::nearest, token::Role,
};

/// What a handler gives.
pub(super) type Answer = Result<Response, Refusal>;

/// A handler.
pub(super) type Handler = fn(Call) -> BoxFuture<'static, Answer>;

/// How the holder of the control socket is called where others have a token's name.
const MACHINE: &str = "(this machine)";
/// How the bearer of a join token is.
const JOINING: &str = "(a join token)";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Nobody in particular; only public operations take it.
    Anonymous,
    /// Whoever holds this machine's control socket: the user that control runs as, or root. It may do what an admin may,
    /// and act for every node and ingress of the zone.
    Machine,
    /// The bearer of a token.
    Bearer(Arc<Bearer>),
    /// A machine that wants to be a member, by the hash of its join token. It may do that, and nothing else.
    Joining(Digest),
    /// A member of the cluster, known by its key. It may act for its own node and ingresses, and nothing else.
    Member {
        /// Who it is by the table of the moment.
        member: Arc<Membership>,
        /// Its key.
        key: Digest,
    },
}

/// The bearer of a token, and what it may at the moment it was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    /// The token's name.
    pub(super) token: String,
    /// The token's life: another one of its name is another caller.
    pub(super) life: Uid,
    /// Whose it is, with the user's life; `None` for an admin's and a service's.
    pub(super) user: Option<(UserName, Uid)>,
    /// Whether it may less than its user may.
    pub(super) narrowed: bool,
    /// What it may.
    pub(super) rights: Rights,
    /// When it stops working.
    pub(super) expires_at: Option<Timestamp>,
}

/// What a bearer may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rights {
    /// Everything, everywhere.
    Everything,
    /// A role in each of these domains, and nothing elsewhere.
    In(BTreeMap<DomainName, Role>),
}

impl Caller {
    /// The token's name, for the log; what is not a token has one that no token can have.
    pub(super) fn token(&self) -> &str {
        match self {
            Caller::Anonymous => "",
            Caller::Machine => MACHINE,
            Caller::Joining(_) => JOINING,
            Caller::Bearer(bearer) => &bearer.token,
            Caller::Member { member, .. } => member.name.as_str(),
        }
    }

    /// Who it is, for the log and for whoever is refused.
    pub(super) fn shown(&self) -> String {
        match self {
            Caller::Member { member, .. } => format!("member \"{}\"", member.name),
            Caller::Anonymous | Caller::Machine | Caller::Joining(_) | Caller::Bearer(_) => {
                format!("token \"{}\"", self.token())
            }
        }
    }

    /// Who it is, whichever token of a user is used: what bounds are counted by, and remembered answers kept under.
    pub(super) fn account(&self) -> String {
        match self {
            Caller::Anonymous | Caller::Machine => self.token().to_owned(),
            Caller::Joining(token) => format!("joining {}", token.hex()),
            Caller::Bearer(bearer) => match &bearer.user {
                Some((user, life)) => format!("user {user} {life}"),
                None => format!("token {} {}", bearer.token, bearer.life),
            },
            Caller::Member { member, .. } => format!("member {}", member.name),
        }
    }

    /// The user whose token it is, with the user's life.
    pub(super) fn user(&self) -> Option<&(UserName, Uid)> {
        match self {
            Caller::Bearer(bearer) => bearer.user.as_ref(),
            Caller::Anonymous | Caller::Machine | Caller::Joining(_) | Caller::Member { .. } => None,
        }
    }

    /// When it can call no longer.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Caller::Bearer(bearer) => bearer.expires_at,
            Caller::Anonymous | Caller::Machine | Caller::Joining(_) | Caller::Member { .. } => None,
        }
    }

    /// Whether it may do everything, everywhere.
    pub(super) fn is_admin(&self) -> bool {
        match self {
            Caller::Machine => true,
            Caller::Bearer(bearer) => bearer.rights == Rights::Everything,
            Caller::Anonymous | Caller::Joining(_) | Caller::Member { .. } => false,
        }
    }

    /// Its role in a domain.
    pub(super) fn role_in(&self, domain: &DomainName) -> Option<Role> {
        match self {
            Caller::Machine => Some(Role::Admin),
            Caller::Anonymous | Caller::Joining(_) | Caller::Member { .. } => None,
            Caller::Bearer(bearer) => match &bearer.rights {
                Rights::Everything => Some(Role::Admin),
                Rights::In(domains) => domains.get(domain).copied(),
            },
        }
    }

    /// Whether it may know that something of this domain exists.
    pub(super) fn sees(&self, domain: &DomainName) -> bool {
        self.role_in(domain).is_some()
    }

    /// Whether it may push and deploy in this domain.
    pub(super) fn deploys_in(&self, domain: &DomainName) -> bool {
        matches!(self.role_in(domain), Some(Role::Admin | Role::Owner | Role::Deployer))
    }

    /// Its role in each domain whose objects it sees; `None` for who sees all.
    pub(super) fn domains(&self) -> Option<BTreeMap<DomainName, Role>> {
        match self {
            Caller::Machine => None,
            Caller::Anonymous | Caller::Joining(_) | Caller::Member { .. } => Some(BTreeMap::new()),
            Caller::Bearer(bearer) => match &bearer.rights {
                Rights::Everything => None,
                Rights::In(domains) => Some(domains.clone()),
            },
        }
    }
}

/// One request.
pub(super) struct Call {
    pub(super) app: Arc<App>,
    pub(super) operation: &'static Operation,
    pub(super) caller: Caller,
    /// The path's names, decoded, in the template's order.
    pub(super) names: Vec<String>,
    pub(super) query: Query,
    pub(super) body: Bytes,
    /// The object it is about, and so the domain that its right was checked in.
    pub(super) subject: Subject,
}

impl Call {
    /// The first name in the path.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// `invalid`, saying where and with the nearest known field.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        read_json(&self.body)
    }

    /// The body read as JSON, or the default for none.
    pub(super) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.is_empty() { Ok(T::default()) } else { self.json() }
    }
}

/// Reads JSON that a person or a program sent.
pub(super) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Err(Problem::invalid("the request has no body: a JSON object is wanted"));
    }
    serde_json::from_slice(body).map_err(|error| json_fault(&error.to_string()))
}

/// Says what serde said in our words: where, what, and the nearest known field.
fn json_fault(message: &str) -> Problem {
    let (what, place) = match message.rsplit_once(" at line ") {
        Some((what, place)) => (what, format!(" at line {}", place.replace(" column", ", column"))),
        None => (message, String::new()),
    };
    let what = what.replace('`', "\"");
    let problem = Problem::invalid(format!("the body cannot be read{place}: {what}"));
    let quoted: Vec<&str> = what.split('"').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((word, known)) if what.starts_with("unknown ") => match nearest(word, known.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
            None if known.is_empty() => problem,
            None => problem.hint(format!("known here: {}", known.join(", "))),
        },
        _ => problem,
    }
}

/// The query string, with only keys that the operation knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a request.
    ///
    /// # Errors
    /// `invalid` for a key that the operation does not know, or that stands there twice.
    pub(super) fn parse(operation: &Operation, uri: &http::Uri) -> Result<Query, Problem> {
        let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::invalid(format!("the query cannot be read: {error}")))?;
        let known: Vec<&str> =
            openapi::parameters(operation.id).iter().map(|parameter| parameter.name).collect();
        for (index, (key, _)) in pairs.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                let problem =
                    Problem::invalid(format!("{} has no query parameter \"{key}\"", operation.path));
                return Err(match nearest(key, known.iter().copied()) {
                    Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                    None if known.is_empty() => problem.hint("it takes none"),
                    None => problem.hint(format!("it takes {}", known.join(", "))),
                });
            }
            if pairs.iter().take(index).any(|(before, _)| before == key) {
                return Err(Problem::invalid(format!("the query parameter \"{key}\" stands there twice")));
            }
        }
        Ok(Query(pairs))
    }

    /// The value of a key, which may be empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The value of a key, read as what it is.
    ///
    /// # Errors
    /// `invalid`, naming the key.
    pub(super) fn read<T: FromStr>(&self, key: &str, wanted: &str) -> Result<Option<T>, Problem> {
        match self.get(key) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Problem::invalid(format!("query parameter {key}: \"{text}\" is not {wanted}"))),
        }
    }

    /// Whether a switch is on: `?follow`, `?follow=true`.
    pub(super) fn switch(&self, key: &str) -> Result<bool, Problem> {
        match self.get(key) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(text) => {
                Err(Problem::invalid(format!("query parameter {key}: \"{text}\" is neither true nor false")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_api::wire::{CreateDeployment, Scale};

    fn fault<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> (String, Option<String>) {
        let problem = read_json::<T>(body.as_bytes()).unwrap_err();
        (problem.detail, problem.hint)
    }

    #[test]
    fn a_body_that_is_wrong_says_what_and_where() {
        let (detail, hint) = fault::<CreateDeployment>(r#"{"verson":"example.com:web@1.0","steps":["10%"]}"#);
        assert!(detail.starts_with("the body cannot be read at line 1, column"), "{detail}");
        assert!(detail.contains("unknown field \"verson\""), "{detail}");
        assert_eq!(hint.as_deref(), Some("did you mean \"version\"?"));
        let (detail, _) = fault::<CreateDeployment>(r#"{"version":"web@1.0","steps":["10"]}"#);
        assert!(detail.contains("share \"10\" is not a percentage"), "{detail}");
        let (detail, _) = fault::<CreateDeployment>(r#"{"steps":["10%"]}"#);
        assert!(detail.contains("missing field \"version\""), "{detail}");
        assert!(fault::<Scale>("").0.contains("no body"));
        assert!(fault::<Scale>("{").0.contains("EOF while parsing"));
    }

    #[test]
    fn a_query_that_is_wrong_says_what_is_known() {
        let operation = tutti_api::operations::operation("list_services").unwrap();
        let parse = |query: &str| Query::parse(operation, &format!("/v1/services?{query}").parse().unwrap());
        assert_eq!(parse("domian=x").unwrap_err().hint.unwrap(), "did you mean \"domain\"?");
        assert!(parse("limit=1&limit=2").unwrap_err().detail.contains("twice"));
        assert!(parse("limit=x").unwrap().read::<usize>("limit", "a number").is_err());
        assert_eq!(parse("watch").unwrap().get("watch"), Some(""));
    }
}
