//! Users: made and removed by admins. What they may do stands with the domains.

use super::{
    App,
    call::{Answer, Call},
    domains, names, reply,
    subject::Subject,
    tokens,
};
use tutti_api::wire::{CreateUser, CreatedToken};
use tutti_model::{
    DomainName, Problem, Resource, UserName,
    claim::ClaimSpec,
    domain::DomainSpec,
    token::{Role, TokenSpec},
    user::UserSpec,
};

/// Most users. The index holds them all; at this number it takes about 2 MiB.
const USERS: usize = 10_000;
/// The name of a user's first token.
const FIRST: &str = "first";

/// `POST /v1/users`
pub(super) async fn create(call: Call) -> Answer {
    let name = call.json::<CreateUser>()?.name;
    let objects = &call.app.objects;
    names::room_for::<UserSpec>(objects, "", USERS, "users").await?;
    let user = objects.make(name.as_str(), UserSpec {});
    let secret = tokens::mint(objects.random());
    let spec = TokenSpec {
        user: Some(name.clone()),
        role: Role::Owner,
        domain: None,
        life: Some(user.uid.clone()),
        expires_at: None,
        hash: tokens::hash(secret.reveal()),
    };
    let token = objects.make(format!("{name}/{FIRST}"), spec);
    for _ in 0..names::ATTEMPTS {
        if objects.find::<UserSpec>(name.as_str()).await?.is_some() {
            return Err(Problem::already_exists("user", &name).into());
        }
        // What one of the same name has left goes with that one's removal; this is what a crash during it left.
        let write = objects.write().create(&user);
        let write = match objects.find::<TokenSpec>(&token.name).await? {
            Some(left) => {
                let mut token = token.clone();
                token.revision = left.revision;
                write.update(&token)
            }
            None => write.create(&token),
        };
        if let Some(revision) = write.commit().await? {
            call.app.identity.reached::<UserSpec>(revision).await?;
            call.app.identity.reached::<TokenSpec>(revision).await?;
            return Ok(reply::created(&CreatedToken { name: token.name, secret: secret.reveal().clone() }));
        }
    }
    Err(names::busy("user", name.as_str()).into())
}

fn subject(call: &Call) -> Result<&Resource<UserSpec>, Problem> {
    match &call.subject {
        Subject::User(user) => Ok(user),
        _ => Err(Problem::internal("the operation is not about a user")),
    }
}

/// `GET /v1/users/{name}`
pub(super) async fn get(call: Call) -> Answer {
    Ok(reply::ok(subject(&call)?))
}

/// `DELETE /v1/users/{name}`: first the user can do nothing any more, then their places, claims and tokens go, and last
/// the user. Cut short, it is done by asking again; nothing of it comes back meanwhile.
pub(super) async fn delete(call: Call) -> Answer {
    let name: UserName = subject(&call)?.name.parse()?;
    let app = &call.app;
    let marked = mark(&call, subject(&call)?, true).await?;
    let sole = app.identity.sole_owner_of(&name).await?;
    if !sole.is_empty() {
        mark(&call, &marked, false).await?;
        let domains: Vec<&str> = sole.iter().take(5).map(DomainName::as_str).collect();
        return Err(Problem::conflict(format!(
            "user \"{name}\" is the only owner of {}",
            domains.join(", ")
        ))
        .object(format!("user {name}"))
        .hint("let another owner accept an invitation first, or delete these domains")
        .into());
    }
    for (domain, _) in app.identity.entries(&name).await? {
        take_out(app, &domain, &name).await?;
    }
    let objects = &app.objects;
    for token in objects.list::<TokenSpec>(&format!("{name}/")).await?.items {
        objects.write().delete(&token).commit().await?;
    }
    for claim in objects.list::<ClaimSpec>(&format!("{name}/")).await?.items {
        objects.write().delete(&claim).commit().await?;
    }
    match objects.write().delete(&marked).commit().await? {
        Some(revision) => app.identity.reached::<UserSpec>(revision).await?,
        None => return Err(names::busy("user", name.as_str()).into()),
    }
    Ok(reply::no_content())
}

/// Says that a user is being removed, or not after all; holds for the next request.
async fn mark(call: &Call, user: &Resource<UserSpec>, going: bool) -> Result<Resource<UserSpec>, Problem> {
    let objects = &call.app.objects;
    let mut changed = user.clone();
    changed.deleted_at = going.then(|| objects.clock().now());
    match objects.write().update(&changed).commit().await? {
        Some(revision) => {
            changed.revision = revision;
            call.app.identity.reached::<UserSpec>(revision).await?;
            Ok(changed)
        }
        None => Err(names::busy("user", &user.name)),
    }
}

async fn take_out(app: &App, domain: &DomainName, user: &UserName) -> Result<(), Problem> {
    for _ in 0..names::ATTEMPTS {
        let Some(found) = app.objects.find::<DomainSpec>(domain.as_str()).await? else { return Ok(()) };
        if found.spec.member(user).is_none() {
            return Ok(());
        }
        if domains::commit(app, found, |spec| spec.remove(user), |write| write).await?.is_some() {
            return Ok(());
        }
    }
    Err(names::busy("domain", domain.as_str()))
}
