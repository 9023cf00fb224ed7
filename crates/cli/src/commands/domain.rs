//! `tutti domain` and `tutti user`: who owns what, and who belongs where.

use super::{Session, now, show, tables};
use crate::{
    args::{AliasCommand, DomainCommand, MemberCommand, UserCommand},
    exit::Failed,
    ui::{Tone, Ui},
};
use tutti_api::{
    client::{Claimed, Filter},
    wire::{CreateDomain, QuotaChange, WhoAmI},
};
use tutti_model::{
    Kind, Resource,
    claim::ClaimSpec,
    domain::{DomainSpec, MemberState},
    token::Role,
    user::UserSpec,
};

/// Says what was made of a domain or alias, or what proves it.
fn claimed(session: &Session<'_>, claimed: &Claimed, made: impl FnOnce() -> String) -> Result<(), Failed> {
    session.ui.result(claimed, || match claimed {
        Claimed::Domain(_) => made(),
        Claimed::Claim(claim) => proof(claim, session.ui),
    })
}

/// What to do to prove a claim.
fn proof(claim: &Resource<ClaimSpec>, ui: &Ui) -> String {
    let ClaimSpec { domain, record, text, .. } = &claim.spec;
    let line = ui.paint(Tone::Title, &format!("{record} TXT \"{text}\""));
    format!(
        "prove that {domain} is yours: set this record in its DNS\n\n  {line}\n\nthen: tutti domain verify {domain}\n"
    )
}

pub(super) async fn domain(session: &Session<'_>, command: DomainCommand) -> Result<(), Failed> {
    let client = &session.client;
    match command {
        DomainCommand::Create { domain } => {
            let made = client.create_domain(&CreateDomain { name: domain.clone() }).await?;
            claimed(session, &made, || format!("domain {domain} created\n"))
        }
        DomainCommand::Verify { domain } => {
            let made = client.verify_domain(&domain).await?;
            session.ui.result(&made, || match made.name == domain.as_str() {
                true => format!("domain {domain} is proved and created\n"),
                false => format!("alias {domain} of {} is proved and added\n", made.name),
            })
        }
        DomainCommand::Claims => {
            let claims: Vec<Resource<ClaimSpec>> = client.list(&Filter::default()).await?;
            session.ui.result(&claims, || tables::claims(&claims, now()).show(session.ui))
        }
        DomainCommand::Forget { domain } => {
            client.delete(Kind::Claim, domain.as_str()).await?;
            session.done(&format!("claim of {domain} forgotten"))
        }
        DomainCommand::List => {
            let domains: Vec<Resource<DomainSpec>> = client.list(&Filter::default()).await?;
            session.ui.result(&domains, || tables::domains(&domains, now()).show(session.ui))
        }
        DomainCommand::Show { domain } => {
            show::show::<DomainSpec>(session, domain.as_str(), |domain, ui| show::domain(domain, ui, now()))
                .await
        }
        DomainCommand::Delete { domain } => session.delete(Kind::Domain, domain.as_str()).await,
        DomainCommand::Alias(command) => alias(session, command).await,
        DomainCommand::Member(command) => member(session, command).await,
        DomainCommand::Invite { domain, user, role } => {
            let changed = client.invite(&domain, &user, role).await?;
            session.ui.result(&changed, || {
                format!("{user} is invited as {role}; they accept with: tutti domain accept {domain}\n")
            })
        }
        DomainCommand::Invitations => {
            let invitations = client.invitations().await?.items;
            session.ui.result(&invitations, || tables::invitations(&invitations).show(session.ui))
        }
        DomainCommand::Accept { domain } => {
            let changed = client.accept_invitation(&domain).await?;
            session.ui.result(&changed, || format!("you are a member of {domain}\n"))
        }
        DomainCommand::Decline { domain } => {
            client.decline_invitation(&domain).await?;
            session.done(&format!("invitation to {domain} declined"))
        }
        DomainCommand::Quota { domain, instances, cpu, memory, versions } => {
            let change = QuotaChange {
                instances: instances.map(|limit| limit.0),
                cpu: cpu.map(|limit| limit.0),
                memory: memory.map(|limit| limit.0),
                versions: versions.map(|limit| limit.0),
            };
            let quota = match change == QuotaChange::default() {
                true => client.quota(&domain).await?,
                false => client.change_quota(&domain, &change).await?,
            };
            session.ui.result(&quota, || tables::quota(&quota).show(session.ui))
        }
        DomainCommand::Leave { domain } => {
            client.leave_domain(&domain).await?;
            session.done(&format!("you have left {domain}"))
        }
    }
}

async fn alias(session: &Session<'_>, command: AliasCommand) -> Result<(), Failed> {
    match command {
        AliasCommand::Add { domain, alias } => {
            let made = session.client.add_alias(&domain, &alias).await?;
            claimed(session, &made, || format!("services of {domain} answer under {alias} too\n"))
        }
        AliasCommand::Remove { domain, alias } => {
            let changed = session.client.remove_alias(&domain, &alias).await?;
            session.ui.result(&changed, || format!("services of {domain} answer under {alias} no longer\n"))
        }
    }
}

async fn member(session: &Session<'_>, command: MemberCommand) -> Result<(), Failed> {
    match command {
        MemberCommand::List { domain } => {
            let found = session.client.get::<DomainSpec>(domain.as_str()).await?;
            session.ui.result(&found.spec.members, || tables::members(&found.spec.members).show(session.ui))
        }
        MemberCommand::Set { domain, user, role } => {
            let changed = session.client.set_member(&domain, &user, role).await?;
            let pending =
                changed.spec.member(&user).is_some_and(|member| member.state == MemberState::Pending);
            session.ui.result(&changed, || match pending {
                true => format!("{user} is invited as {role}\n"),
                false => format!("{user} is {role} of {domain}\n"),
            })
        }
        MemberCommand::Remove { domain, user } => {
            let changed = session.client.remove_member(&domain, &user).await?;
            session.ui.result(&changed, || format!("{user} is no member of {domain} any more\n"))
        }
    }
}

pub(super) async fn user(session: &Session<'_>, command: UserCommand) -> Result<(), Failed> {
    match command {
        UserCommand::Create { user } => {
            let created = session.client.create_user(&user).await?;
            session.ui.result(&created, || {
                let shown = session.ui.paint(Tone::Title, &created.secret);
                format!(
                    "user {user} created; the secret of token {} is shown this once:\n{shown}\n",
                    created.name
                )
            })
        }
        UserCommand::List => {
            let users: Vec<Resource<UserSpec>> = session.client.list(&Filter::default()).await?;
            session.ui.result(&users, || tables::users(&users, now()).show(session.ui))
        }
        UserCommand::Delete { user, sure } => {
            let question = format!("delete user {user} with all tokens and memberships?");
            if !sure.yes && !session.ui.confirm(&question)? {
                return session.done("nothing was deleted");
            }
            session.delete(Kind::User, user.as_str()).await
        }
        UserCommand::Me => {
            let who = session.client.whoami().await?;
            session.ui.result(&who, || me(&who))
        }
    }
}

fn me(who: &WhoAmI) -> String {
    let whose = match (&who.user, who.role, &who.domain) {
        (Some(user), _, _) => format!("you are user {user}, by token {}\n", who.token),
        (None, Some(Role::Admin), _) => format!("you are an admin, by token {}\n", who.token),
        (None, Some(role), Some(domain)) => format!("token {} is a {role} of {domain}\n", who.token),
        (None, _, _) => format!("token {} may do nothing\n", who.token),
    };
    let roles = who.domains.iter().map(|(domain, role)| format!("  {role} of {domain}\n"));
    std::iter::once(whose).chain(roles).collect()
}
