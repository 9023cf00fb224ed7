//! The envelope that every stored object travels in.

use crate::{Timestamp, Uid};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt, str::FromStr};

/// Every kind of object, with its one home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A tenant's namespace. Global.
    Domain,
    /// What is served. Global.
    Service,
    /// An immutable build of a service. Global.
    Version,
    /// One rollout of one version. Global.
    Deployment,
    /// Host and path to service. Global.
    Route,
    /// An isolated failure domain. Global.
    Zone,
    /// A bearer's rights. Global.
    Token,
    /// A person who belongs to domains. Global.
    User,
    /// A domain that somebody says is theirs, not proved yet. Global.
    Claim,
    /// Another name of a domain. Global.
    Alias,
    /// A value that versions of a domain are given, and that nobody is shown. Global.
    Secret,
    /// The most that a domain may have. Global.
    Quota,
    /// What a zone says of one service. Global, written by the zone.
    Report,
    /// A zone's part of one service, handed down. Zone.
    Assignment,
    /// A machine that runs an agent. Zone.
    Node,
    /// Machines that commands make and remove. Zone.
    Pool,
    /// One running copy of a version on a node. Zone.
    Instance,
    /// Weights and endpoints of one service, watched by ingresses. Zone.
    Table,
    /// A living ingress and the table revision it has reached. Zone.
    Ingress,
    /// A sign that a node is heard, bound to a lease that is kept alive while it is. Zone.
    Presence,
    /// The control whose reconcilers run, bound to a lease that it keeps alive. Zone.
    Leader,
    /// The cluster itself, and its root authority. Global.
    Cluster,
    /// A zone's authority, which vouches for members. Zone.
    Authority,
    /// A machine of the cluster, known by its key. Zone.
    Member,
    /// What admits one machine. Zone.
    JoinToken,
    /// A change that somebody asked for. Global.
    Audit,
    /// Something that happened by itself. Global, written by zones too.
    Event,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 27] = [
        Kind::Domain,
        Kind::Service,
        Kind::Version,
        Kind::Deployment,
        Kind::Route,
        Kind::Zone,
        Kind::Token,
        Kind::User,
        Kind::Claim,
        Kind::Alias,
        Kind::Secret,
        Kind::Quota,
        Kind::Report,
        Kind::Assignment,
        Kind::Node,
        Kind::Pool,
        Kind::Instance,
        Kind::Table,
        Kind::Ingress,
        Kind::Presence,
        Kind::Leader,
        Kind::Cluster,
        Kind::Authority,
        Kind::Member,
        Kind::JoinToken,
        Kind::Audit,
        Kind::Event,
    ];

    /// The singular noun.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Domain => "domain",
            Kind::Service => "service",
            Kind::Version => "version",
            Kind::Deployment => "deployment",
            Kind::Route => "route",
            Kind::Zone => "zone",
            Kind::Token => "token",
            Kind::User => "user",
            Kind::Claim => "claim",
            Kind::Alias => "alias",
            Kind::Secret => "secret",
            Kind::Quota => "quota",
            Kind::Report => "report",
            Kind::Assignment => "assignment",
            Kind::Node => "node",
            Kind::Pool => "pool",
            Kind::Instance => "instance",
            Kind::Table => "table",
            Kind::Ingress => "ingress",
            Kind::Presence => "presence",
            Kind::Leader => "leader",
            Kind::Cluster => "cluster",
            Kind::Authority => "authority",
            Kind::Member => "member",
            Kind::JoinToken => "join_token",
            Kind::Audit => "audit",
            Kind::Event => "event",
        }
    }

    /// The plural noun: the path segment of the API and the segment of store keys.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Kind::Domain => "domains",
            Kind::Service => "services",
            Kind::Version => "versions",
            Kind::Deployment => "deployments",
            Kind::Route => "routes",
            Kind::Zone => "zones",
            Kind::Token => "tokens",
            Kind::User => "users",
            Kind::Claim => "claims",
            Kind::Alias => "aliases",
            Kind::Secret => "secrets",
            Kind::Quota => "quotas",
            Kind::Report => "reports",
            Kind::Assignment => "assignments",
            Kind::Node => "nodes",
            Kind::Pool => "pools",
            Kind::Instance => "instances",
            Kind::Table => "tables",
            Kind::Ingress => "ingresses",
            Kind::Presence => "presences",
            Kind::Leader => "leaders",
            Kind::Cluster => "clusters",
            Kind::Authority => "authorities",
            Kind::Member => "members",
            Kind::JoinToken => "join_tokens",
            Kind::Audit => "audit",
            Kind::Event => "events",
        }
    }

    /// Whether its home is the global tier; else it is a zone's.
    #[must_use]
    pub const fn is_global(self) -> bool {
        matches!(
            self,
            Kind::Domain
                | Kind::Service
                | Kind::Version
                | Kind::Deployment
                | Kind::Route
                | Kind::Zone
                | Kind::Token
                | Kind::User
                | Kind::Claim
                | Kind::Alias
                | Kind::Secret
                | Kind::Quota
                | Kind::Report
                | Kind::Cluster
                | Kind::Audit
                | Kind::Event
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = crate::Problem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Kind::ALL.into_iter().find(|kind| text == kind.as_str() || text == kind.plural()).ok_or_else(|| {
            let problem = crate::Problem::invalid(format!("there is no kind of object \"{text}\""));
            match crate::nearest::nearest(text, Kind::ALL.map(Kind::as_str)) {
                Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                None => problem,
            }
        })
    }
}

/// A kind's spec, tied to its status and its place.
pub trait Object:
    Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// What is, as opposed to what was asked.
    type Status: Clone
        + fmt::Debug
        + PartialEq
        + Default
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;
    /// Which kind this is.
    const KIND: Kind;
}

/// One stored object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Object", deserialize = "S: Object"))]
pub struct Resource<S: Object> {
    /// Its kind.
    pub kind: Kind,
    /// Its name, unique among its kind in its home.
    pub name: String,
    /// Its life: another after deletion and creation.
    pub uid: Uid,
    /// Raised by one whenever `spec` changes. Receivers of desired state refuse an older one.
    pub generation: u64,
    /// The store revision of its last change. It is not stored with the object but filled in by whoever reads it.
    #[serde(default)]
    pub revision: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its deletion was asked for; it goes when its last finalizer has gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// Who must still clean up before it may go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// What was asked.
    pub spec: S,
    /// What is.
    #[serde(default)]
    pub status: S::Status,
    /// What is noteworthy about it now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl<S: Object> Resource<S> {
    /// A new object, generation 1, not stored yet.
    pub fn new(name: impl Into<String>, uid: Uid, created_at: Timestamp, spec: S) -> Self {
        Resource {
            kind: S::KIND,
            name: name.into(),
            uid,
            generation: 1,
            revision: 0,
            created_at,
            deleted_at: None,
            finalizers: Vec::new(),
            spec,
            status: S::Status::default(),
            conditions: Vec::new(),
        }
    }

    /// How errors and reasons name it: `service example.com:web`.
    #[must_use]
    pub fn object(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, r#type: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.r#type == r#type)
    }

    /// Sets a condition; its time moves only when its truth does.
    pub fn set_condition(&mut self, mut condition: Condition) {
        match self.conditions.iter_mut().find(|known| known.r#type == condition.r#type) {
            Some(known) => {
                if known.met == condition.met {
                    condition.since = known.since;
                }
                *known = condition;
            }
            None => self.conditions.push(condition),
        }
    }
}

/// Something noteworthy that is, or is not, so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What it is about, such as `Ready`.
    pub r#type: String,
    /// Whether it is so.
    pub met: bool,
    /// Why, in one sentence.
    pub reason: String,
    /// Since when `met` has been what it is.
    pub since: Timestamp,
}
