//! Tokens: 256 random bits, of which only the SHA-256 is kept. Who a token belongs to and what it may is the business of
//! [`super::identity`].
//!
//! A token made by a user or in the name of a domain has `USER/` or `DOMAIN/` before its name, so that no name tells
//! of another's tokens.

use super::{
    call::{Answer, Bearer, Call, Caller},
    lists::{Scope, Visible as _},
    names, reply,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use tutti_api::wire::{CreateToken, CreatedToken};
use tutti_base::{Random, Secret};
use tutti_model::{
    ErrorCode, Problem, Resource, Timestamp, UserName,
    token::{Role, TokenSpec},
    user::UserSpec,
};

/// How every token begins, so that people and secret scanners know one.
const PREFIX: &str = "tutti_";
/// Most tokens. The index holds them all; at this number it takes about 8 MiB.
const TOKENS: usize = 10_000;
/// Most tokens of one user: a few machines and some jobs.
const TOKENS_PER_USER: usize = 16;
/// Most tokens that the owners of a domain make in its name.
const TOKENS_PER_DOMAIN: usize = 64;
/// Longest `Authorization` header that is looked at, in bytes.
const HEADER_BYTES: usize = 1024;

/// A new secret.
pub(super) fn mint(random: &Random) -> Secret<String> {
    let mut bytes = [0u8; 32];
    random.fill(&mut bytes);
    Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What is kept of a secret.
pub(super) fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// The secret in `Authorization`: `Bearer SECRET`, or the password of `Basic`, which OCI clients send.
pub(super) fn secret(headers: &HeaderMap) -> Result<Secret<String>, Problem> {
    let refuse = |detail: &str| {
        Problem::new(ErrorCode::Unauthenticated, detail)
            .hint("set TUTTI_TOKEN, or choose a context with --context; tutti dev writes one")
    };
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(refuse("this needs a token, and the request has none"));
    };
    let text = value.to_str().ok().filter(|text| text.len() <= HEADER_BYTES);
    let parts = text.and_then(|text| text.split_once(' '));
    let secret = match parts {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Some(rest.trim().to_owned()),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("basic") => basic_password(rest.trim()),
        _ => None,
    };
    secret.map(Secret::new).ok_or_else(|| refuse("the Authorization header is not \"Bearer TOKEN\""))
}

fn basic_password(encoded: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// What a caller asks for, once it may.
struct Wanted {
    name: String,
    spec: TokenSpec,
    most: Option<(String, usize, &'static str)>,
}

/// `POST /v1/tokens`
pub(super) async fn create(call: Call) -> Answer {
    let request: CreateToken = call.json()?;
    check_name(&request.name)?;
    let objects = &call.app.objects;
    let expires_at = request.expires_in.map(|span| objects.clock().now().plus(span));
    not_beyond(&call.caller, expires_at)?;
    let mut wanted = match (&call.caller, &request.user) {
        (caller, Some(user)) if caller.is_admin() => of_user(&call, &request, user).await?,
        (Caller::Bearer(bearer), user) if is_own(bearer, user.as_ref(), &request) => {
            own(&call, &request, bearer).await?
        }
        (_, Some(_)) => {
            return Err(Problem::new(ErrorCode::Forbidden, "only admins make tokens for other users")
                .hint("without --user the token is yours")
                .into());
        }
        (_, None) => of_service(&call, &request).await?,
    };
    names::room_for::<TokenSpec>(objects, "", TOKENS, "tokens").await?;
    if let Some((prefix, most, what)) = &wanted.most {
        names::room_for::<TokenSpec>(objects, prefix, *most, what).await?;
    }
    let secret = mint(objects.random());
    wanted.spec.expires_at = expires_at;
    wanted.spec.hash = hash(secret.reveal());
    let token = objects.make(&wanted.name, wanted.spec);
    let Some(revision) = objects.write().create(&token).commit().await? else {
        return Err(Problem::already_exists("token", &token.name)
            .hint(format!("choose another name, or delete it first: tutti token delete {}", token.name))
            .into());
    };
    call.app.identity.reached::<TokenSpec>(revision).await?;
    Ok(reply::created(&CreatedToken { name: token.name, secret: secret.reveal().clone() }))
}

/// Who has a token that ends cannot make one that goes on.
fn not_beyond(caller: &Caller, expires_at: Option<Timestamp>) -> Result<(), Problem> {
    match (caller.expires_at(), expires_at) {
        (Some(end), expires_at) if expires_at.is_none_or(|at| at > end) => Err(Problem::new(
            ErrorCode::Forbidden,
            format!("token \"{}\" expires, and makes none that outlives it", caller.token()),
        )
        .hint("give a shorter --expires-in, or use a token that does not expire")),
        _ => Ok(()),
    }
}

/// Whether a user asks for a token of their own.
fn is_own(bearer: &Bearer, user: Option<&UserName>, request: &CreateToken) -> bool {
    let Some((own, _)) = &bearer.user else { return false };
    match user {
        Some(user) => user == own,
        None => request.role.is_none() && request.domain.is_none(),
    }
}

async fn own(call: &Call, request: &CreateToken, bearer: &Bearer) -> Result<Wanted, Problem> {
    let Some((user, life)) = &bearer.user else { return Err(Problem::internal("a token of nobody")) };
    if bearer.narrowed {
        return Err(Problem::new(
            ErrorCode::Forbidden,
            format!("token \"{}\" is narrowed, and makes no tokens for its user", bearer.token),
        )
        .hint("use a token of yours that is not narrowed"));
    }
    if let Some(domain) = &request.domain {
        names::existing_domain(&call.app, &call.caller, domain).await?;
    }
    Ok(Wanted {
        name: format!("{user}/{}", request.name),
        spec: spec_of(user, life, request)?,
        most: Some((format!("{user}/"), TOKENS_PER_USER, "tokens of this user")),
    })
}

async fn of_user(call: &Call, request: &CreateToken, user: &UserName) -> Result<Wanted, Problem> {
    let objects = &call.app.objects;
    let Some(found) = objects.find::<UserSpec>(user.as_str()).await? else {
        return Err(names::missing::<UserSpec>(&call.app, &call.caller, user.as_str()).await);
    };
    if let Some(domain) = &request.domain {
        names::existing_domain(&call.app, &call.caller, domain).await?;
    }
    Ok(Wanted {
        name: format!("{user}/{}", request.name),
        spec: spec_of(user, &found.uid, request)?,
        most: Some((format!("{user}/"), TOKENS_PER_USER, "tokens of this user")),
    })
}

fn spec_of(user: &UserName, life: &tutti_model::Uid, request: &CreateToken) -> Result<TokenSpec, Problem> {
    if request.role == Some(Role::Admin) {
        return Err(Problem::invalid(
            "a user's token is no admin's: it may what the user may in their domains",
        )
        .hint("leave out --user for an admin's token"));
    }
    Ok(TokenSpec {
        user: Some(user.clone()),
        role: request.role.unwrap_or(Role::Owner),
        domain: request.domain.clone(),
        life: Some(life.clone()),
        expires_at: None,
        hash: String::new(),
    })
}

/// A token that is no user's: an admin's, or one with a role in a domain, which admins and owners make.
async fn of_service(call: &Call, request: &CreateToken) -> Result<Wanted, Problem> {
    let Some(role) = request.role else {
        return Err(Problem::invalid("a token that is no user's needs a role").hint("give it with --role"));
    };
    let (domain, life) = match (role, &request.domain) {
        (Role::Admin, _) if !call.caller.is_admin() => {
            return Err(Problem::new(ErrorCode::Forbidden, "only admins make tokens for admins"));
        }
        (Role::Admin, Some(_)) => {
            return Err(Problem::invalid("an admin's token has no domain: it is for all of them"));
        }
        (Role::Admin, None) => (None, None),
        (role, None) => {
            return Err(Problem::invalid(format!("a token for a {role} needs a domain"))
                .hint("name it with --domain"));
        }
        (_, Some(domain)) => {
            let found = names::existing_domain(&call.app, &call.caller, domain).await?;
            super::subject::check_domain(
                call.operation,
                tutti_api::operations::Right::Own,
                &call.caller,
                domain,
            )?;
            (Some(domain.clone()), Some(found.uid))
        }
    };
    let spec =
        TokenSpec { user: None, role, domain: domain.clone(), life, expires_at: None, hash: String::new() };
    Ok(match domain {
        Some(domain) if !call.caller.is_admin() => Wanted {
            name: format!("{domain}/{}", request.name),
            spec,
            most: Some((format!("{domain}/"), TOKENS_PER_DOMAIN, "tokens of this domain")),
        },
        _ => Wanted { name: request.name.clone(), spec, most: None },
    })
}

/// The token of this name that the caller sees; a user's own without `USER/` too.
async fn existing(call: &Call, name: &str) -> Result<Resource<TokenSpec>, Problem> {
    let objects = &call.app.objects;
    let scope = TokenSpec::seen(&call.caller);
    let short = call.caller.user().map(|(user, _)| format!("{user}/{name}"));
    for name in short.iter().map(String::as_str).chain([name]) {
        if name.len() <= tutti_model::limits::STORE_KEY_BYTES / 2
            && let Some(token) = objects.find::<TokenSpec>(name).await?
            && Scope::has(&scope, &token)
        {
            return Ok(token);
        }
    }
    Err(names::missing::<TokenSpec>(&call.app, &call.caller, name).await)
}

/// `DELETE /v1/tokens/{name}`
pub(super) async fn delete(call: Call) -> Answer {
    let objects = &call.app.objects;
    for _ in 0..names::ATTEMPTS {
        let token = existing(&call, call.name()).await?;
        if call.caller.token() == token.name {
            return Err(Problem::conflict(format!("token \"{}\" is the one you use", token.name))
                .hint("delete it with another token, so that you don't lock yourself out")
                .into());
        }
        if let Some(revision) = objects.write().delete(&token).commit().await? {
            call.app.identity.reached::<TokenSpec>(revision).await?;
            return Ok(reply::no_content());
        }
    }
    Err(names::busy("token", call.name()).into())
}

fn check_name(name: &str) -> Result<(), Problem> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = (1..=63).contains(&name.len())
        && name.bytes().all(letters)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good {
        return Ok(());
    }
    Err(Problem::invalid(format!("token \"{name}\" is not 1 to 63 of a-z, 0-9 and inner hyphens")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(value: &str) -> Result<String, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        secret(&headers).map(|secret| secret.reveal().clone())
    }

    #[test]
    fn secrets_are_long_and_never_alike() {
        let random = Random::seeded(1);
        let (one, other) = (mint(&random), mint(&random));
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), PREFIX.len() + 43, "256 bits in base64url");
        assert_eq!(hash(one.reveal()).len(), 64);
    }

    #[test]
    fn reads_bearer_and_basic_and_nothing_else() {
        assert_eq!(read("Bearer tutti_x").unwrap(), "tutti_x");
        assert_eq!(read("bearer tutti_x").unwrap(), "tutti_x");
        assert_eq!(read("Basic dHV0dGk6dHV0dGlfeA==").unwrap(), "tutti_x");
        for bad in ["tutti_x", "Digest tutti_x", "Basic ???", "Bearer"] {
            assert_eq!(read(bad).unwrap_err().code, ErrorCode::Unauthenticated, "{bad}");
        }
        assert!(read(&format!("Bearer {}", "x".repeat(HEADER_BYTES))).is_err());
        assert!(secret(&HeaderMap::new()).is_err());
    }
}
