//! What is common to those who seal secrets and those who open them.

use crate::Objects;
use std::sync::Arc;
use tutti_base::SecretValues;
use tutti_model::{
    Problem, Resource,
    instance::InstanceSpec,
    secret::{SecretRef, SecretSpec},
};
use tutti_seal::{Keyring, OpenError, SealingKey, key::sealed_under};
use zeroize::Zeroizing;

/// What a secret is sealed for: another of the same name, or one of another name, does not open.
pub(crate) fn identity(secret: &Resource<SecretSpec>) -> String {
    format!("secret {} {}", secret.name, secret.uid)
}

/// The key that every secret is sealed under, checked against what is stored.
///
/// # Errors
/// `unavailable` if it is missing, or not the one that what is stored is sealed under.
pub async fn key_of_all(objects: &Objects, keyring: &Keyring) -> Result<Arc<SealingKey>, Problem> {
    let stored = objects.page::<SecretSpec>("", None, Some(1)).await?.items;
    if let Some(secret) = stored.first()
        && sealed_under(&secret.spec.sealed) != Some(keyring.key().await?.id())
    {
        // It may have been put right meanwhile, which this finds out.
        keyring.open(&secret.object(), &identity(secret), &secret.spec.sealed).await?;
    }
    let key = keyring.key().await?;
    match stored.first().and_then(|secret| sealed_under(&secret.spec.sealed)) {
        Some(id) if id != key.id() => {
            let other = OpenError::OtherKey { sealed_under: id.to_owned(), this: key.id().to_owned() };
            Err(keyring.refused(&other))
        }
        _ => Ok(key),
    }
}

/// Whether anything is sealed.
///
/// # Errors
/// The store's own.
pub async fn is_anything_sealed(objects: &Objects) -> Result<bool, Problem> {
    Ok(!objects.page::<SecretSpec>("", None, Some(1)).await?.items.is_empty())
}

/// The values that an instance is to have now, by variable.
///
/// # Errors
/// `not_found` for a secret that is not there, `unavailable` without its key.
pub(crate) async fn of_instance(
    objects: &Objects,
    keyring: &Keyring,
    instance: &InstanceSpec,
) -> Result<SecretValues, Problem> {
    let mut values = SecretValues::default();
    for (variable, name) in &instance.manifest.secrets {
        let name = SecretRef { domain: instance.version.service.domain.clone(), name: name.clone() };
        let secret = objects.find::<SecretSpec>(&name.to_string()).await?.ok_or_else(|| {
            Problem::not_found("secret", &name)
                .hint(format!("set it with: tutti secret set {name} --file FILE"))
        })?;
        let value = keyring.open(&secret.object(), &identity(&secret), &secret.spec.sealed).await?;
        let text = std::str::from_utf8(value.reveal())
            .map_err(|_| Problem::internal(format!("{} is not text", secret.object())))?;
        values.insert(variable.clone(), Zeroizing::new(text.to_owned()));
    }
    Ok(values)
}
