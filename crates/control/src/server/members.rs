//! Members of domains, and invitations. The rules of the list are [`tutti_model::domain`]'s; here each change is one
//! transaction, and holds for the next request.

use super::{
    call::{Answer, Call},
    domains, names, reply,
};
use tutti_api::wire::{Invitation, Invitations, Invite, SetMember};
use tutti_model::{
    DomainName, Problem, UserName,
    domain::{DomainSpec, MemberState, no_invitation},
    limits,
    user::UserSpec,
};

/// `POST /v1/domains/{name}/members`. The user is not looked up, so that nobody learns by it who there is.
pub(super) async fn invite(call: Call) -> Answer {
    let request: Invite = call.json()?;
    let domain =
        domains::change(&call, |spec| spec.invite(&request.user, request.role), |write| write).await?;
    Ok(reply::ok(&domain))
}

/// The member that the path names.
fn named(call: &Call) -> Result<UserName, Problem> {
    call.names.get(1).map_or("", String::as_str).parse()
}

/// `PUT /v1/domains/{name}/members/{user}`
pub(super) async fn set(call: Call) -> Answer {
    let request: SetMember = call.json()?;
    let user = named(&call)?;
    let domain = domains::change(&call, |spec| spec.set_role(&user, request.role), |write| write).await?;
    Ok(reply::ok(&domain))
}

/// `DELETE /v1/domains/{name}/members/{user}`
pub(super) async fn remove(call: Call) -> Answer {
    let user = named(&call)?;
    let domain = domains::change(&call, |spec| spec.remove(&user), |write| write).await?;
    Ok(reply::ok(&domain))
}

/// `POST /v1/domains/{name}/leave`
pub(super) async fn leave(call: Call) -> Answer {
    let (user, _) = domains::user(&call, "leaving a domain")?;
    domains::change(&call, |spec| spec.remove(user), |write| write).await?;
    Ok(reply::no_content())
}

/// `GET /v1/invitations`
pub(super) async fn invitations(call: Call) -> Answer {
    let Some((user, _)) = call.caller.user() else { return Ok(reply::ok(&Invitations::default())) };
    domains::user(&call, "seeing invitations")?;
    let entries = call.app.identity.entries(user).await?;
    let pending = entries.into_iter().filter(|(_, member)| member.state == MemberState::Pending);
    let items = pending.map(|(domain, member)| Invitation { domain, role: member.role });
    Ok(reply::ok(&Invitations { items: items.take(limits::PAGE_SIZE).collect() }))
}

/// `POST /v1/invitations/{name}/accept`
pub(super) async fn accept(call: Call) -> Answer {
    let (user, life) = domains::user(&call, "accepting an invitation")?;
    domains::room_for_user(&call.app, user).await?;
    let name: DomainName = call.name().parse()?;
    let objects = &call.app.objects;
    for _ in 0..names::ATTEMPTS {
        let domain = objects.find::<DomainSpec>(name.as_str()).await?.ok_or_else(|| no_invitation(&name))?;
        // Whoever is being removed gets no new place.
        let found = objects.find::<UserSpec>(user.as_str()).await?;
        let Some(found) = found.filter(|found| found.uid == *life && found.deleted_at.is_none()) else {
            return Err(no_invitation(&name).into());
        };
        let accepted = domains::commit(
            &call.app,
            domain,
            |spec| spec.accept(&name, user, life),
            |write| write.unchanged(&found),
        )
        .await?;
        if let Some(domain) = accepted {
            return Ok(reply::ok(&domain));
        }
    }
    Err(names::busy("domain", name.as_str()).into())
}

/// `DELETE /v1/invitations/{name}`
pub(super) async fn decline(call: Call) -> Answer {
    let (user, _) = domains::user(&call, "declining an invitation")?;
    let name: DomainName = call.name().parse()?;
    for _ in 0..names::ATTEMPTS {
        let found = call.app.objects.find::<DomainSpec>(name.as_str()).await?;
        let domain = found.ok_or_else(|| no_invitation(&name))?;
        let declined =
            domains::commit(&call.app, domain, |spec| spec.decline(&name, user), |write| write).await?;
        if declined.is_some() {
            return Ok(reply::no_content());
        }
    }
    Err(names::busy("domain", name.as_str()).into())
}
