//! What machines say to become members of a cluster, and to stay known in it.

use crate::{Cache, WatchEvent, WatchStream};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tutti_model::{
    Millis, Timestamp, cluster::MemberSpec, member::MachineRole, name::NodeName, node::HostPort,
};
use tutti_pki::MemberTable;
use utoipa::ToSchema;

/// Keeps `table` what the watch says, and tells of each change, until the watch ends. Who was known stays known while it
/// begins anew, until all of the new list is there.
pub async fn follow(
    mut events: WatchStream<MemberSpec>,
    table: &MemberTable,
    mut told: impl FnMut(&Cache<MemberSpec>),
) {
    let mut members = Cache::default();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(problem) => {
                tracing::error!(%problem, "who is a member cannot be followed any longer");
                continue;
            }
        };
        let is_whole = matches!(event, WatchEvent::InitDone { .. } | WatchEvent::Changes { .. });
        members.apply(event);
        if is_whole {
            table.hold(members.iter());
            told(&members);
        }
    }
}

/// How long a join token works where nobody says: long enough to walk to the machine.
pub const JOIN_TOKEN_LIFE: Millis = Millis::seconds(24 * 3600);

/// `POST /v1/join-tokens`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateJoinToken {
    /// Which roles it may be given, at most; agent and ingress if it is empty.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub roles: BTreeSet<MachineRole>,
    /// The machine's name; absent leaves the choice to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub member: Option<NodeName>,
    /// How long it works; absent for a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_in: Option<Millis>,
}

/// The answer to [`CreateJoinToken`]: the only time that it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedJoinToken {
    /// What `tutti join` is given.
    pub token: String,
    /// When it stops working.
    #[schema(value_type = u64)]
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for CreatedJoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedJoinToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// `POST /v1/join`, with the join token as bearer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Join {
    /// The machine's name.
    #[schema(value_type = String)]
    pub member: NodeName,
    /// What it will run.
    #[schema(value_type = Vec<String>)]
    pub roles: BTreeSet<MachineRole>,
    /// A request for a certificate: PKCS #10, DER in base64, signed with the machine's own key.
    pub request: String,
    /// Where it is reached, as its certificate is to say.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<HostPort>,
    /// Its release.
    #[serde(default)]
    pub release: String,
}

/// The answer to [`Join`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Joined {
    /// The cluster's id.
    pub cluster: String,
    /// The certificate with its chain up to the root, PEM.
    pub chain: String,
    /// Where the cluster's controls are reached.
    #[schema(value_type = Vec<String>)]
    pub controls: Vec<HostPort>,
}

/// `GET /v1/zone/key`. It does not print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterKey {
    /// 64 hex digits.
    pub key: String,
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey([secret])")
    }
}

impl Drop for ClusterKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

/// `POST /v1/zone/members/{name}/certificate`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Renew {
    /// A request for a certificate, as in [`Join`], for the key that the member has.
    pub request: String,
    /// Where it is reached, as its certificate is to say.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<HostPort>,
    /// Its release.
    #[serde(default)]
    pub release: String,
}
