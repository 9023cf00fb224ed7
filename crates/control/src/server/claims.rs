//! Proofs of ownership: somebody says that a domain is theirs, is told a record to set in its DNS, and asks to have it
//! looked up.
//!
//! A claim is made whatever is registered, and no answer before the proof tells what is. After it, who can set records
//! below the name is told whatever there is to tell.

use super::{
    App,
    call::{Answer, Call},
    domains, names, reply,
};
use tutti_api::dns::TxtFault;
use tutti_model::{
    DomainName, ErrorCode, Problem, Resource, Uid, UserName,
    claim::{AliasSpec, CLAIM_LIFE, ClaimSpec, PROOF_PREFIX, record},
    domain::{DomainSpec, Ownership},
    user::UserSpec,
};

/// Most claims of one user that wait for their proof.
const CLAIMS_PER_USER: usize = 16;
/// Whose claims are called so that are no user's: admins' together. No user can have this name.
const PLATFORM: &str = "(platform)";
/// Proofs that are looked up at once; each may wait seconds for far name servers.
pub(super) const LOOKUPS: usize = 16;

/// The claim's name: each claimant has at most one of a domain.
fn name(user: Option<&UserName>, domain: &DomainName) -> String {
    match user {
        Some(user) => format!("{user}/{domain}"),
        None => format!("{PLATFORM}/{domain}"),
    }
}

/// Who claims: a user, or an admin for the platform.
fn claimant(call: &Call) -> Result<Option<&(UserName, Uid)>, Problem> {
    if call.caller.is_admin() {
        return Ok(None);
    }
    domains::user(call, &call.operation.id.replace('_', " ")).map(Some)
}

/// Makes a claim, or gives the one there is, with the record that proves it.
pub(super) async fn begin(call: &Call, domain: &DomainName, alias_of: Option<&DomainName>) -> Answer {
    let user = claimant(call)?.map(|(user, _)| user);
    let objects = &call.app.objects;
    let name = name(user, domain);
    let now = objects.clock().now();
    for _ in 0..names::ATTEMPTS {
        let there = objects.find::<ClaimSpec>(&name).await?;
        if let Some(there) = &there
            && there.spec.alias_of.as_ref() == alias_of
            && there.spec.expires_at > now
        {
            return Ok(reply::accepted(there));
        }
        if there.is_none() {
            room(call, user).await?;
        }
        let spec = ClaimSpec {
            domain: domain.clone(),
            alias_of: alias_of.cloned(),
            user: user.cloned(),
            record: record(domain),
            text: format!("{PROOF_PREFIX}{}", objects.random().uid()),
            expires_at: now.plus(CLAIM_LIFE),
        };
        let mut claim = objects.make(&name, spec);
        let write = match &there {
            Some(there) => {
                claim.revision = there.revision;
                objects.write().update(&claim)
            }
            None => objects.write().create(&claim),
        };
        if let Some(revision) = write.commit().await? {
            claim.revision = revision;
            return Ok(reply::accepted(&claim));
        }
    }
    Err(names::busy("claim", domain.as_str()).into())
}

/// Makes room for one more claim by forgetting those that are over.
async fn room(call: &Call, user: Option<&UserName>) -> Result<(), Problem> {
    let objects = &call.app.objects;
    let prefix = user.map_or_else(|| format!("{PLATFORM}/"), |user| format!("{user}/"));
    let now = objects.clock().now();
    let mut write = objects.write();
    for claim in objects.page::<ClaimSpec>(&prefix, None, Some(CLAIMS_PER_USER)).await?.items {
        if claim.spec.expires_at <= now {
            write = write.delete(&claim);
        }
    }
    if write.operations() > 0 {
        write.commit().await?;
    }
    let list = tutti_store::List {
        limit: Some(CLAIMS_PER_USER),
        ..tutti_store::List::prefix(objects.key::<ClaimSpec>(&prefix))
    };
    if objects.store().list(list).await.map_err(Problem::from)?.entries.len() < CLAIMS_PER_USER {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::QuotaExceeded,
        format!("{CLAIMS_PER_USER} of your claims wait for their proof already, which is the most"),
    )
    .hint("prove some with tutti domain verify, or forget some with tutti domain forget"))
}

/// The caller's claim of the domain that the path names.
async fn existing(call: &Call) -> Result<Resource<ClaimSpec>, Problem> {
    let domain: DomainName = call.name().parse()?;
    let user = claimant(call)?.map(|(user, _)| user);
    let found = call.app.objects.find::<ClaimSpec>(&name(user, &domain)).await?;
    found.filter(|claim| claim.spec.expires_at > call.app.objects.clock().now()).ok_or_else(|| {
        Problem::new(ErrorCode::NotFound, format!("you have no claim of domain \"{domain}\""))
            .object(format!("claim {domain}"))
            .hint(format!("begin with: tutti domain create {domain}"))
    })
}

/// `DELETE /v1/claims/{name}`
pub(super) async fn delete(call: Call) -> Answer {
    let claim = existing(&call).await?;
    // Refused, it was proved or forgotten meanwhile: it is gone all the same.
    call.app.objects.write().delete(&claim).commit().await?;
    Ok(reply::no_content())
}

/// `POST /v1/domains/{name}/verify`
pub(super) async fn verify(call: Call) -> Answer {
    let claim = existing(&call).await?;
    if let Some((user, _)) = call.caller.user() {
        domains::room_for_user(&call.app, user).await?;
    }
    look_up(&call.app, &claim.spec).await?;
    let domain = match &claim.spec.alias_of {
        None => as_domain(&call, &claim).await?,
        Some(of) => as_alias(&call, &claim, of).await?,
    };
    Ok(reply::created(&domain))
}

/// Looks the record up; whatever is not the proof is said with what to do about it.
async fn look_up(app: &App, claim: &ClaimSpec) -> Result<(), Problem> {
    let ClaimSpec { record, text, .. } = claim;
    let turn = app.lookups.acquire().await;
    let _turn = turn.map_err(|_| Problem::unavailable("the API is ending"))?;
    let problem = match app.txt.txt(record).await {
        Ok(texts) if texts.iter().any(|found| found.trim() == text) => return Ok(()),
        Ok(texts) => Problem::conflict(format!("the record {record} says something else: {}", quoted(&texts)))
            .hint(format!("let one TXT record of {record} say {text}; name servers may tell the old one for its time to live")),
        Err(TxtFault::NoName) => {
            Problem::new(ErrorCode::NotFound, format!("the name {record} does not exist in the DNS (NXDOMAIN)"))
                .hint(format!("set a TXT record {record} that says {text}; name servers may remember for some minutes that there was none"))
        }
        Err(TxtFault::NoRecord) => {
            Problem::new(ErrorCode::NotFound, format!("the name {record} has no TXT record"))
                .hint(format!("set one that says {text}; other kinds of records prove nothing"))
        }
        Err(TxtFault::Refused(code)) => {
            Problem::unavailable(format!("a name server answered {code} when asked for {record}"))
                .hint("check that the domain's name servers answer, and its DNSSEC signatures if it has some; then try again")
        }
        Err(TxtFault::Timeout(seconds)) => Problem::new(
            ErrorCode::Timeout,
            format!("no name server answered within {seconds} s when asked for {record}"),
        )
        .hint("try again; if it goes on, check the domain's name servers, and control's setting \"resolver\""),
        Err(TxtFault::Unreachable(why)) => {
            Problem::unavailable(format!("the DNS cannot be asked for {record}: {why}"))
                .hint("ask an admin to check control's setting \"resolver\"")
        }
    };
    Err(problem.object(format!("claim {}", claim.domain)))
}

/// What was found instead, in a readable amount.
fn quoted(texts: &[String]) -> String {
    let mut shown: Vec<String> =
        texts.iter().take(3).map(|text| format!("{:?}", text.chars().take(80).collect::<String>())).collect();
    if texts.len() > shown.len() {
        shown.push(format!("and {} more", texts.len() - shown.len()));
    }
    shown.join(", ")
}

/// The user's object, if they are still there.
async fn still(call: &Call) -> Result<Option<Resource<UserSpec>>, Problem> {
    let Some((user, life)) = call.caller.user() else { return Ok(None) };
    let found = call.app.objects.find::<UserSpec>(user.as_str()).await?;
    match found.filter(|found| found.uid == *life && found.deleted_at.is_none()) {
        Some(found) => Ok(Some(found)),
        None => Err(Problem::new(ErrorCode::Unauthenticated, format!("user \"{user}\" was deleted"))),
    }
}

async fn as_domain(call: &Call, claim: &Resource<ClaimSpec>) -> Result<Resource<DomainSpec>, Problem> {
    let user = still(call).await?;
    let spec = match call.caller.user() {
        Some((user, life)) => DomainSpec::owned_by(user.clone(), life.clone()),
        None => DomainSpec::default(),
    };
    domains::add(&call.app, &claim.spec.domain, spec, Ownership::Verified, |write| {
        let write = write.delete(claim);
        match &user {
            Some(user) => write.unchanged(user),
            None => write,
        }
    })
    .await
}

async fn as_alias(
    call: &Call,
    claim: &Resource<ClaimSpec>,
    of: &DomainName,
) -> Result<Resource<DomainSpec>, Problem> {
    let app = &call.app;
    let alias = &claim.spec.domain;
    let reserved = app.objects.make(alias.as_str(), AliasSpec { domain: of.clone() });
    for _ in 0..names::ATTEMPTS {
        domains::free(app, alias).await?;
        let domain = names::existing_domain(app, &call.caller, of).await?;
        // The caller may have lost the right since the claim was made.
        super::subject::check_domain(call.operation, tutti_api::operations::Right::Own, &call.caller, of)?;
        let changed = domains::commit(
            app,
            domain,
            |spec| spec.add_alias(alias),
            |write| domains::reserve(app, write, &reserved).delete(claim),
        )
        .await?;
        if let Some(changed) = changed {
            return Ok(changed);
        }
    }
    Err(names::busy("domain", of.as_str()))
}
