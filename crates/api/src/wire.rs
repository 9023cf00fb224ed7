//! Requests and answers of the API that are not resources themselves. All JSON; unknown fields are refused.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tutti_model::{
    Digest, DomainName, ErrorCode, Millis, Problem, ServiceRef, Share, Split, UserName,
    deployment::AbortIf,
    domain::MemberRole,
    manifest::Manifest,
    name::{NodeName, ServiceText, VersionText},
    node::Readiness,
    quantity::{ByteSize, MilliCpu},
    quota::{Limits, Usage},
    report::VersionReport,
    route::RouteMatch,
    scheduling::{LabelKey, LabelValue, Taint},
    service::Upstream,
    token::Role,
    version::Isolate,
};
use utoipa::ToSchema;

/// `application/problem+json` (RFC 9457) with Tutti's members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemBody {
    /// `urn:tutti:problem:CODE`.
    pub r#type: String,
    /// The code's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, in one sentence.
    pub detail: String,
    /// The kind of failure, one of a closed set.
    #[schema(value_type = String)]
    pub code: ErrorCode,
    /// The object concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Names this request in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Further faults of the same request, where it was checked whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

impl ProblemBody {
    /// The body for a problem.
    #[must_use]
    pub fn new(problem: Problem, request_id: Option<String>) -> Self {
        ProblemBody {
            r#type: format!("urn:tutti:problem:{}", problem.code),
            title: problem.code.title().to_owned(),
            status: problem.code.http_status(),
            detail: problem.detail,
            code: problem.code,
            object: problem.object,
            hint: problem.hint,
            request_id,
            faults: Vec::new(),
        }
    }
}

impl From<ProblemBody> for Problem {
    fn from(body: ProblemBody) -> Problem {
        Problem { code: body.code, detail: body.detail, object: body.object, hint: body.hint }
    }
}

/// One page of a list, in name order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The objects.
    pub items: Vec<T>,
    /// Give this as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The store revision the page is of; a watch from it misses nothing.
    pub revision: u64,
}

/// `POST /v1/domains`. The answer is the domain, or where its ownership must be proved a claim of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDomain {
    /// Its name, such as `example.com`.
    #[schema(value_type = String)]
    pub name: DomainName,
}

/// `POST /v1/domains/{name}/aliases`. The answer is the domain, or where it must be proved a claim of the alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddAlias {
    /// The other name, such as `example.org`.
    #[schema(value_type = String)]
    pub alias: DomainName,
}

/// `POST /v1/domains/{name}/members`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// Who. Whether there is such a user is not told.
    #[schema(value_type = String)]
    pub user: UserName,
    /// What they may do once they have accepted.
    #[schema(value_type = String)]
    pub role: MemberRole,
}

/// `PUT /v1/domains/{name}/members/{user}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMember {
    /// What they may do from now on.
    #[schema(value_type = String)]
    pub role: MemberRole,
}

/// One of `GET /v1/invitations`: a domain that the caller may become a member of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// The domain.
    #[schema(value_type = String)]
    pub domain: DomainName,
    /// What the caller could do there.
    #[schema(value_type = String)]
    pub role: MemberRole,
}

/// `GET /v1/invitations`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitations {
    /// In name order.
    pub items: Vec<Invitation>,
}

/// `PATCH /v1/domains/{name}/quota`: what it does not name stays as it is, and `null` takes a limit off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// Most instances, over all services, and both versions while one replaces the other.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub instances: Option<Option<u32>>,
    /// Most cpu of these instances together, such as `250m` or `2`.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cpu: Option<Option<MilliCpu>>,
    /// Most memory of these instances together, such as `512Mi`.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory: Option<Option<ByteSize>>,
    /// Most versions that are kept.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub versions: Option<Option<u32>>,
}

/// A field that stands there, be it `null`.
fn named<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// `GET /v1/domains/{name}/quota`: the most that a domain may have, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainQuota {
    /// The domain.
    #[schema(value_type = String)]
    pub domain: DomainName,
    /// What is limited.
    #[schema(value_type = Object)]
    pub limits: Limits,
    /// What is in use.
    #[schema(value_type = Object)]
    pub used: Usage,
}

/// `POST /v1/users`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// A handle such as `ada`, or an address such as `ada@example.com`.
    #[schema(value_type = String)]
    pub name: UserName,
}

/// `POST /v1/services`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateService {
    /// `DOMAIN:NAME`, or a qualified name whose domain is found.
    #[schema(value_type = String)]
    pub service: ServiceText,
    /// Plain addresses that serve it; none for a service of versions.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub upstreams: Vec<Upstream>,
}

/// `PUT /v1/services/{name}/scale`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Workers that serve the whole traffic; `null` leaves it to the manifest again.
    pub workers: Option<u32>,
}

/// `POST /v1/versions`: makes a version of an artifact whose blobs were pushed before. The service is made if it is
/// new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVersion {
    /// `NAME@VERSION`.
    #[schema(value_type = String)]
    pub version: VersionText,
    /// The digest of the OCI manifest.
    #[schema(value_type = String)]
    pub artifact: Digest,
    /// The bytes of all its blobs together.
    pub size: u64,
    /// What runs it.
    #[schema(value_type = String)]
    pub isolate: Isolate,
    /// The checked `[service]` section.
    #[schema(value_type = Object)]
    #[serde(deserialize_with = "known_manifest")]
    pub manifest: Manifest,
}

/// A manifest with nothing in it that this release does not know: what is asked for and cannot be done is refused.
fn known_manifest<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Manifest, D::Error> {
    use serde::de::Error as _;
    let json = serde_json::Value::deserialize(from)?;
    match Manifest::unknown_key(&json) {
        Some(key) => Err(D::Error::custom(format!("the manifest has no key \"{key}\""))),
        None => serde_json::from_value(json).map_err(D::Error::custom),
    }
}

/// `POST /v1/deployments`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDeployment {
    /// `NAME@VERSION`.
    #[schema(value_type = String)]
    pub version: VersionText,
    /// The share at each step, rising; one for a plain deploy.
    #[schema(value_type = Vec<String>)]
    pub steps: Vec<Share>,
    /// How long each step but the last is observed; needed with more than one step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub every: Option<Millis>,
    /// What ends it early.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub abort_if: Vec<AbortIf>,
}

/// `POST /v1/deployments/{id}/promote`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// To the last step at once, rather than to the next.
    #[serde(default)]
    pub full: bool,
}

/// `POST /v1/routes`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRoute {
    /// `HOST` or `HOST/PATH`.
    #[schema(value_type = String)]
    pub r#match: RouteMatch,
    /// Where requests go.
    #[schema(value_type = String)]
    pub service: ServiceText,
}

/// `POST /v1/tokens`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// A name for people: 1 to 63 of a-z, 0-9 and inner hyphens. Made by a user it gets `USER/` or `DOMAIN/` before it.
    pub name: String,
    /// Whose it is: it may what they may, as far as role and domain let it. A user makes tokens for nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub user: Option<UserName>,
    /// What it may do; needed without a user, and at most that with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub role: Option<Role>,
    /// Where; needed without a user for every role but `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub domain: Option<DomainName>,
    /// How long it works; absent for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_in: Option<Millis>,
}

/// The answer to [`CreateToken`] and [`CreateUser`]: the only time the secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The token's name.
    pub name: String,
    /// The secret to put into `TUTTI_TOKEN`.
    pub secret: String,
}

impl std::fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedToken").field("name", &self.name).field("secret", &"[secret]").finish()
    }
}

/// `PUT /v1/secrets/{name}`. It does not print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// The value: at most 64 KiB of text without a zero byte.
    pub value: String,
}

impl std::fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetSecret").field("value", &"[secret]").finish()
    }
}

/// `PUT /v1/nodes/{name}/cordon`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cordon {
    /// Whether it takes no new instances.
    pub cordoned: bool,
    /// Whether what runs there is to run elsewhere; then it is cordoned too.
    #[serde(default)]
    pub draining: bool,
}

/// `PATCH /v1/nodes/{name}`: what it does not name stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeChange {
    /// Labels to set, and with `null` to remove, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    pub labels: BTreeMap<LabelKey, Option<LabelValue>>,
    /// Taints to add, as `KEY[=VALUE]:NoSchedule` or `…:NoExecute`. One of the same key and effect is replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub taint: Vec<Taint>,
    /// Keys of taints to remove, whatever their value and effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub untaint: Vec<LabelKey>,
}

/// `POST /v1/versions/{name}/preload`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Preload {
    /// The nodes to ask; none for every node that could run it now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub nodes: Vec<NodeName>,
    /// How long to wait until every node holds it or has found that it cannot, at most 20 s; absent does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub wait: Option<Millis>,
}

/// The answer to [`Preload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preloaded {
    /// One for each node that was asked, by name.
    pub nodes: Vec<NodePreload>,
    /// Whether all of them hold it ready.
    pub ready: bool,
}

/// What one node has made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePreload {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// What it says; absent until it has said something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub readiness: Option<Readiness>,
}

/// `GET /v1/explain/{kind}/{name}`: why an object is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The object, as `kind name`.
    pub object: String,
    /// Its state in one sentence.
    pub summary: String,
    /// Whether it is as the user asked.
    pub well: bool,
    /// The chain of reasons, from what was asked down to what is.
    pub reasons: Vec<Reason>,
    /// What the user can do, if anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
}

/// One link of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// What this is about, as `kind name`.
    pub about: String,
    /// What is so, in one sentence.
    pub text: String,
    /// Further lines, such as the last an instance wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// `GET /v1/status`: is all well?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// The release of the control that answers.
    pub release: String,
    /// The store's revision.
    pub revision: u64,
    /// The zones, with what is in them.
    pub zones: Vec<ZoneSummary>,
    /// Every service the caller may see, in name order.
    pub services: Vec<ServiceSummary>,
    /// What is not as it should be, one sentence each; empty when all is well.
    pub problems: Vec<String>,
}

/// One zone in [`ClusterStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ZoneSummary {
    /// Its name.
    pub zone: String,
    /// Nodes that are ready.
    pub nodes_ready: usize,
    /// Nodes that it has.
    pub nodes: usize,
    /// The control whose loops run; absent while none leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Members that run control.
    #[serde(default)]
    pub controls: usize,
    /// Living ingresses.
    pub ingresses: usize,
    /// Where they take requests, such as `127.0.0.1:8080`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<String>,
}

/// One service, in [`ClusterStatus`] and as `GET /v1/services/{name}/summary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceSummary {
    /// Its full name.
    #[schema(value_type = String)]
    pub service: ServiceRef,
    /// Hosts (and paths) it answers on.
    pub hosts: Vec<String>,
    /// What is decided.
    #[schema(value_type = Object)]
    pub split: Split,
    /// What the zone's table holds.
    #[schema(value_type = Object)]
    pub serving: Split,
    /// Its versions' instances.
    #[schema(value_type = Vec<Object>)]
    pub versions: Vec<VersionReport>,
    /// Its plain upstream addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<String>,
    /// The unfinished deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// In one word: `serving`, `deploying`, `degraded`, `failed`, `idle`, `deleting`.
    pub state: String,
    /// Why it is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `GET /v1/release`: what answers here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Release {
    /// The release, such as `0.1.0`.
    pub release: String,
}

/// `GET /v1/whoami`: whose token this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The token's name.
    pub token: String,
    /// The user whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub user: Option<UserName>,
    /// Its role, where it is one and the same: an admin's, and that of a token that is no user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub role: Option<Role>,
    /// The domain of a token that is no user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub domain: Option<DomainName>,
    /// What the user may do now, by domain, as far as the token lets them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub domains: BTreeMap<DomainName, Role>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_with_what_is_not_known_is_refused_at_the_push() {
        let mut asked = serde_json::json!({
            "version": "example.com:web@1.0", "artifact": format!("sha256:{}", "0".repeat(64)), "size": 1,
            "isolate": "wasm", "manifest": { "min": 2 },
        });
        let read = |asked: &serde_json::Value| serde_json::from_value::<CreateVersion>(asked.clone());
        assert_eq!(read(&asked).unwrap().manifest.min, 2);
        asked["manifest"]["replicas"] = 2.into();
        assert!(read(&asked).unwrap_err().to_string().contains("the manifest has no key \"replicas\""));
    }
}
