//! Machines that become members, stay it, and go.

use super::{
    App, audit,
    call::{Answer, Call, Caller},
    names, reply, zone,
};
use crate::cluster::{Cluster, taken};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, header, request::Parts};
use std::collections::BTreeSet;
use tutti_api::members::{
    ClusterKey, CreateJoinToken, CreatedJoinToken, JOIN_TOKEN_LIFE, Join, Joined, Renew,
};
use tutti_model::{
    Digest, ErrorCode, Problem, Resource,
    cluster::{JoinTokenSpec, MemberSpec},
    member::MachineRole,
    node::{HostPort, NodeSpec},
};
use tutti_pki::{Chain, JoinToken};
use tutti_plan::happened;

/// Most join tokens that wait for their machines: one rack's worth, and more than anybody keeps track of.
const JOIN_TOKENS: usize = 256;
/// Most members of a zone. All of them are in memory at each of them.
const MEMBERS: usize = 2000;
/// What a machine runs where nobody says.
const USUAL_ROLES: [MachineRole; 2] = [MachineRole::Agent, MachineRole::Ingress];

fn cluster(app: &App) -> Result<&Cluster, Problem> {
    app.cluster.as_ref().ok_or_else(|| {
        Problem::conflict("this cloud is one machine, and has no members")
            .hint("start a cluster with: tutti server --init")
    })
}

/// Who wants to join: the bearer of a join token, or whoever holds this machine's control socket.
///
/// # Errors
/// `unauthenticated` for any other.
pub(super) async fn identify(app: &App, parts: &Parts) -> Result<Caller, Problem> {
    let shown = parts.headers.contains_key(header::AUTHORIZATION);
    if !shown {
        return app.identity.identify(&parts.headers, &parts.extensions, app.objects.clock().now()).await;
    }
    let token = read(&parts.headers)?;
    if token.root() != cluster(app)?.fingerprint() {
        let text = "the join token is of another cluster";
        return Err(Problem::new(ErrorCode::Unauthenticated, text)
            .hint("make one here with: tutti token create --node"));
    }
    let found = app.objects.find::<JoinTokenSpec>(token.hash().hex()).await?;
    match found {
        Some(found) if found.spec.expires_at > app.objects.clock().now() => {}
        // Whoever lost the answer has the member that it made.
        None if joined_by(app, &token.hash()).await?.is_some() => {}
        Some(_) | None => {
            return Err(Problem::new(
                ErrorCode::Unauthenticated,
                "the join token is unknown: it has expired, or a machine has joined with it",
            )
            .hint("make another with: tutti token create --node"));
        }
    }
    Ok(Caller::Joining(token.hash()))
}

fn read(headers: &HeaderMap) -> Result<JoinToken, Problem> {
    let secret = super::tokens::secret(headers)?;
    let token = secret.reveal().parse::<JoinToken>();
    token.map_err(|problem| Problem { code: ErrorCode::Unauthenticated, ..problem })
}

async fn joined_by(app: &App, token: &Digest) -> Result<Option<Resource<MemberSpec>>, Problem> {
    let members = app.objects.list::<MemberSpec>("").await?.items;
    Ok(members.into_iter().find(|member| member.spec.joined_by.as_ref() == Some(token)))
}

/// `POST /v1/join-tokens`
pub(super) async fn create_token(call: Call) -> Answer {
    let request: CreateJoinToken = call.json_or_default()?;
    let cluster = cluster(&call.app)?;
    let objects = &call.app.objects;
    forget_expired(&call.app).await?;
    let room = names::room_for::<JoinTokenSpec>(objects, "", JOIN_TOKENS, "join tokens").await;
    room.map_err(|problem| problem.hint("use some of them, or wait until they have expired"))?;
    let token = JoinToken::make(cluster.fingerprint().clone(), objects.random());
    let roles = match request.roles.is_empty() {
        true => USUAL_ROLES.into(),
        false => request.roles,
    };
    let expires_at = objects.clock().now().plus(request.expires_in.unwrap_or(JOIN_TOKEN_LIFE));
    let spec = JoinTokenSpec { roles, member: request.member, expires_at };
    let made = objects.make(token.hash().hex(), spec);
    if objects.write().create(&made).commit().await?.is_none() {
        return Err(names::busy("join token", token.hash().short()).into());
    }
    Ok(reply::created(&CreatedJoinToken { token: token.to_text().reveal().clone(), expires_at }))
}

/// Makes room: what has expired admits nobody any more.
async fn forget_expired(app: &App) -> Result<(), Problem> {
    let now = app.objects.clock().now();
    for token in app.objects.list::<JoinTokenSpec>("").await?.items {
        if token.spec.expires_at <= now {
            // One that somebody else removes meanwhile is gone too.
            app.objects.write().delete(&token).commit().await?;
        }
    }
    Ok(())
}

/// `POST /v1/join`
pub(super) async fn join(call: Call) -> Answer {
    let request: Join = call.json()?;
    let cluster = cluster(&call.app)?;
    let objects = &call.app.objects;
    let csr = decoded(&request.request)?;
    if request.roles.is_empty() {
        return Err(Problem::invalid("a member has at least one role").hint("name them with --role").into());
    }
    names::room_for::<MemberSpec>(objects, "", MEMBERS, "members").await?;
    for _ in 0..names::ATTEMPTS {
        let token = match &call.caller {
            Caller::Joining(hash) => Some(hash),
            _ => None,
        };
        let kept = match token {
            Some(hash) => objects.find::<JoinTokenSpec>(hash.hex()).await?,
            None => None,
        };
        if let Some(kept) = &kept {
            check(&kept.spec, &request)?;
        }
        let chain = cluster.vouch(&csr, &request.member, &request.addresses).await?;
        let found = objects.find::<MemberSpec>(request.member.as_str()).await?;
        let write = objects.write();
        let write = match (&kept, found, token) {
            (_, Some(found), _) if found.spec.key != *chain.key() => {
                return Err(taken(&request.member).into());
            }
            // The answer was lost, and is given again.
            (None, Some(found), Some(hash)) if found.spec.joined_by.as_ref() == Some(hash) => {
                return answer(&call.app, cluster, &chain).await;
            }
            (None, _, Some(_)) => {
                return Err(Problem::new(
                    ErrorCode::Unauthenticated,
                    "a machine has joined with this token meanwhile",
                )
                .hint("make another with: tutti token create --node")
                .into());
            }
            (_, Some(mut found), _) => {
                found.spec.roles.extend(request.roles.iter().copied());
                found.spec.joined_by = token.cloned();
                found.generation += 1;
                certified(&mut found, &chain, &request.release);
                write.update(&found)
            }
            (_, None, _) => {
                let mut made = objects.make(
                    request.member.as_str(),
                    MemberSpec {
                        roles: request.roles.clone(),
                        key: chain.key().clone(),
                        api: None,
                        joined_by: token.cloned(),
                    },
                );
                certified(&mut made, &chain, &request.release);
                write.create(&made)
            }
        };
        let write = match &kept {
            Some(kept) => write.delete(kept),
            None => write,
        };
        if write.commit().await?.is_some() {
            return answer(&call.app, cluster, &chain).await;
        }
    }
    Err(names::busy("member", request.member.as_str()).into())
}

/// Whether the token is for this machine.
fn check(token: &JoinTokenSpec, request: &Join) -> Result<(), Problem> {
    let forbidden = |why: String| Err(Problem::new(ErrorCode::Forbidden, why));
    if let Some(member) = token.member.as_ref().filter(|member| **member != request.member) {
        return forbidden(format!("the join token is for a machine named {member}, not {}", request.member));
    }
    let more: BTreeSet<_> = request.roles.difference(&token.roles).collect();
    match more.first() {
        Some(role) => {
            let may: Vec<&str> = token.roles.iter().map(|role| role.as_str()).collect();
            forbidden(format!("the join token is not for the role {role}, but for {}", may.join(", ")))
        }
        None => Ok(()),
    }
}

fn certified(member: &mut Resource<MemberSpec>, chain: &Chain, release: &str) {
    member.status.certified_until = chain.not_after();
    member.status.release = release.chars().take(RELEASE_CHARS).collect();
}

/// Longest release that is kept of a member.
const RELEASE_CHARS: usize = 64;

fn decoded(request: &str) -> Result<Vec<u8>, Problem> {
    BASE64.decode(request).map_err(|_| Problem::invalid("the request for a certificate is not base64"))
}

async fn answer(app: &App, cluster: &Cluster, chain: &Chain) -> Answer {
    let members = app.objects.list::<MemberSpec>("").await?.items;
    let controls: Vec<HostPort> = members.into_iter().filter_map(|member| member.spec.api).collect();
    Ok(reply::created(&Joined { cluster: cluster.id().to_owned(), chain: chain.to_pem(), controls }))
}

/// `POST /v1/zone/members/{name}/certificate`
pub(super) async fn renew(call: Call) -> Answer {
    let request: Renew = call.json()?;
    let cluster = cluster(&call.app)?;
    let csr = decoded(&request.request)?;
    let objects = &call.app.objects;
    for _ in 0..names::ATTEMPTS {
        let mut member = objects.get::<MemberSpec>(call.name()).await?;
        let chain = cluster.vouch(&csr, &call.name().parse()?, &request.addresses).await?;
        if member.spec.key != *chain.key() {
            return Err(Problem::new(
                ErrorCode::Forbidden,
                format!("the request is for another key than that of member {}", member.name),
            )
            .hint("a new key joins anew, with a join token")
            .into());
        }
        certified(&mut member, &chain, &request.release);
        if objects.write().update(&member).commit().await?.is_some() {
            return answer(&call.app, cluster, &chain).await;
        }
    }
    Err(names::busy("member", call.name()).into())
}

/// `GET /v1/zone/key`
pub(super) async fn read_key(call: Call) -> Answer {
    cluster(&call.app)?;
    // One that opens nothing here is worth nothing there.
    crate::secrets::key_of_all(&call.app.objects, &call.app.keyring).await?;
    let key = call.app.keyring.hand_over().await?;
    audit::note_key(&call.caller);
    Ok(reply::ok(&ClusterKey { key: key.to_string() }))
}

/// `GET /v1/zone/members`
pub(super) async fn watch(call: Call) -> Answer {
    let after = zone::after(&call)?;
    let events = call.app.objects.watch::<MemberSpec>(after);
    zone::watch(&call, events, after)
}

/// `DELETE /v1/members/{name}`
pub(super) async fn delete(call: Call) -> Answer {
    let objects = &call.app.objects;
    for _ in 0..names::ATTEMPTS {
        let Some(member) = objects.find::<MemberSpec>(call.name()).await? else {
            return Err(names::missing::<MemberSpec>(&call.app, &call.caller, call.name()).await.into());
        };
        let write = objects.write().delete(&member);
        // What it ran is to run elsewhere, from now on if others have room, else when it has been silent for long.
        let node = objects.find::<NodeSpec>(call.name()).await?;
        let now = objects.clock().now();
        let event = node.as_ref().map(|node| happened::of_removed_node(now, &node.spec.node));
        let write = match node {
            Some(mut node) if !node.spec.draining => {
                (node.spec.cordoned, node.spec.draining) = (true, true);
                node.generation += 1;
                write.update(&node)
            }
            _ => write,
        };
        if write.tell(event).commit().await?.is_some() {
            return Ok(reply::no_content());
        }
    }
    Err(names::busy("member", call.name()).into())
}
