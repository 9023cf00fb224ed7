//! What is common to those who seal secrets and those who open them.

use crate::Objects;
use std::sync::Arc;
use tutti_base::SecretValues;
use tutti_model::{
    Problem, Resource,
    cluster::{CLUSTER, ClusterSpec},
    instance::InstanceSpec,
    secret::{SecretRef, SecretSpec},
};
use tutti_seal::{Keyring, OpenError, SealingKey, key::sealed_under};
use zeroize::Zeroizing;

/// What a secret is sealed for: another of the same name, or one of another name, does not open.
pub(crate) fn identity(secret: &Resource<SecretSpec>) -> String {
    format!("secret {} {}", secret.name, secret.uid)
}

/// Something that is sealed in the store, by which a key is told from others.
struct Sealed {
    object: String,
    identity: String,
    sealed: String,
}

async fn anything_sealed(objects: &Objects) -> Result<Option<Sealed>, Problem> {
    if let Some(secret) = objects.page::<SecretSpec>("", None, Some(1)).await?.items.first() {
        let (object, identity) = (secret.object(), identity(secret));
        return Ok(Some(Sealed { object, identity, sealed: secret.spec.sealed.clone() }));
    }
    let found = objects.find::<ClusterSpec>(CLUSTER).await?;
    Ok(found.map(|found| Sealed {
        object: found.object(),
        identity: crate::cluster::sealed_for(CLUSTER, &found.spec.root.certificate),
        sealed: found.spec.root.sealed_key,
    }))
}

/// The key that everything is sealed under, checked against what is stored.
///
/// # Errors
/// `unavailable` if it is missing, or not the one that what is stored is sealed under.
pub async fn key_of_all(objects: &Objects, keyring: &Keyring) -> Result<Arc<SealingKey>, Problem> {
    let stored = anything_sealed(objects).await?;
    if let Some(stored) = &stored
        && sealed_under(&stored.sealed) != Some(keyring.key().await?.id())
    {
        // It may have been put right meanwhile, which this finds out.
        keyring.open(&stored.object, &stored.identity, &stored.sealed).await?;
    }
    let key = keyring.key().await?;
    match stored.as_ref().and_then(|stored| sealed_under(&stored.sealed)) {
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
    Ok(anything_sealed(objects).await?.is_some())
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
