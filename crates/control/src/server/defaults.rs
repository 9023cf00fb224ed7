//! What there is from the first start on.

use super::tokens;
use crate::Objects;
use tutti_base::Secret;
use tutti_model::{
    Problem,
    domain::{DomainSpec, Ownership},
    token::{Role, TokenSpec},
    zone::ZoneSpec,
};

/// The first token's name.
const ADMIN: &str = "admin";
/// The domain that `tutti dev` begins with (RFC 2606, 3).
const EXAMPLE: &str = "example.com";

/// Makes the token `admin` if there is no token at all, and gives its secret, which is never shown again.
///
/// # Errors
/// The store's own.
pub async fn ensure_admin_token(objects: &Objects) -> Result<Option<Secret<String>>, Problem> {
    if !objects.page::<TokenSpec>("", None, Some(1)).await?.items.is_empty() {
        return Ok(None);
    }
    let secret = tokens::mint(objects.random());
    let spec = admin(&secret);
    let made = objects.write().create(&objects.make(ADMIN, spec)).commit().await?;
    Ok(made.map(|_| secret))
}

/// Makes another admin token of this name, for a machine whose own has been lost.
///
/// # Errors
/// `already_exists`, and the store's own.
pub async fn make_admin_token(objects: &Objects, name: &str) -> Result<Secret<String>, Problem> {
    let secret = tokens::mint(objects.random());
    let spec = admin(&secret);
    match objects.write().create(&objects.make(name, spec)).commit().await? {
        Some(_) => Ok(secret),
        None => Err(Problem::already_exists("token", name)),
    }
}

fn admin(secret: &Secret<String>) -> TokenSpec {
    TokenSpec {
        user: None,
        role: Role::Admin,
        domain: None,
        life: None,
        expires_at: None,
        hash: tokens::hash(secret.reveal()),
    }
}

/// Whether this is the secret of an admin token that works now.
///
/// # Errors
/// The store's own.
pub async fn is_admin_token(objects: &Objects, secret: &str) -> Result<bool, Problem> {
    let (hash, now) = (tokens::hash(secret), objects.clock().now());
    let all = objects.list::<TokenSpec>("").await?.items;
    let works = |token: &TokenSpec| {
        token.user.is_none()
            && token.role == Role::Admin
            && token.hash == hash
            && token.expires_at.is_none_or(|until| until > now)
    };
    Ok(all.iter().any(|token| works(&token.spec)))
}

/// Makes what must always be there: the zone, and in dev (`vouch`) on the first start the domain `example.com`.
///
/// # Errors
/// The store's own.
pub async fn ensure_defaults(objects: &Objects, vouch: bool) -> Result<(), Problem> {
    let zone = objects.zone().clone();
    if objects.find::<ZoneSpec>(&zone.to_string()).await?.is_some() {
        // Not the first start: whoever removed the domain meant it.
        return Ok(());
    }
    let mut write = objects.write().create(&objects.make(zone.to_string(), ZoneSpec { zone }));
    if vouch && objects.find::<DomainSpec>(EXAMPLE).await?.is_none() {
        let mut domain = objects.make(EXAMPLE, DomainSpec::default());
        domain.status.ownership = Ownership::Vouched;
        write = write.create(&domain);
    }
    // A refusal means that another control was faster.
    write.commit().await.map(|_| ())
}
