//! The cluster as control keeps it: its authorities, whose keys are sealed in the store, and its members.
//!
//! Every control that has the cluster's key vouches for members; which of them a machine asks does not matter. Who is a
//! member is what the store says ([`MemberSpec`]); certificates only make the first contact.

use crate::Objects;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use std::{collections::BTreeSet, sync::Arc};
use tutti_api::members;
use tutti_base::{Secret, Tasks, sha256};
use tutti_model::{
    Digest, Millis, Problem, Resource,
    cluster::{AUTHORITY, AuthoritySpec, CLUSTER, ClusterSpec, KeptAuthority, MemberSpec},
    member::MachineRole,
    name::NodeName,
    node::HostPort,
};
use tutti_pki::{Chain, Intermediate, MemberId, MemberTable, Root, SealedAuthority};
use tutti_seal::Keyring;

/// A zone's authority that is good for less than this is replaced: long enough for a control that is seldom on.
const REPLACED: Millis = Millis::seconds(120 * 24 * 3600);
/// How often a change is decided anew when something had changed meanwhile.
const ATTEMPTS: usize = 8;

/// What an authority's key is sealed for.
pub(crate) fn sealed_for(kind: &str, certificate: &str) -> String {
    format!("{kind} {}", sha256::digest(certificate.as_bytes()))
}

/// The cluster that a store holds, for a control that has its key or is looking for it.
#[derive(Debug, Clone)]
pub struct Cluster {
    objects: Objects,
    keyring: Keyring,
    /// Its id.
    id: String,
    /// The digest of its root's certificate.
    fingerprint: Digest,
}

impl Cluster {
    /// The cluster in this store; `None` if it holds none.
    ///
    /// # Errors
    /// The store's own.
    pub async fn find(objects: &Objects, keyring: &Keyring) -> Result<Option<Cluster>, Problem> {
        let found = objects.find::<ClusterSpec>(CLUSTER).await?;
        found.map(|found| Cluster::of(objects, keyring, &found)).transpose()
    }

    /// The cluster in this store, made if there is none. Of several who make it at once one does, and all get that.
    ///
    /// # Errors
    /// The store's own, and the keyring's if it has no key to seal a new one's authorities under.
    pub async fn ensure(objects: &Objects, keyring: &Keyring) -> Result<Cluster, Problem> {
        for _ in 0..ATTEMPTS {
            if let Some(found) = Cluster::find(objects, keyring).await? {
                return Ok(found);
            }
            let id = objects.random().uid().to_string().to_ascii_lowercase();
            let root = Root::make(&id, Arc::clone(objects.clock()), objects.random().clone())?;
            let issuer = root.intermediate(objects.zone())?;
            let cluster = ClusterSpec { id, root: seal(keyring, CLUSTER, &root.kept()).await? };
            let authority = AuthoritySpec { issuer: seal(keyring, AUTHORITY, &issuer.kept()).await? };
            let (cluster, authority) = (objects.make(CLUSTER, cluster), objects.make(AUTHORITY, authority));
            if objects.write().create(&cluster).create(&authority).commit().await?.is_some() {
                return Cluster::of(objects, keyring, &cluster);
            }
        }
        Err(Problem::conflict("the cluster cannot be made: the store keeps changing"))
    }

    fn of(objects: &Objects, keyring: &Keyring, found: &Resource<ClusterSpec>) -> Result<Cluster, Problem> {
        Ok(Cluster {
            objects: objects.clone(),
            keyring: keyring.clone(),
            id: found.spec.id.clone(),
            fingerprint: sha256::digest(&der(&found.spec.root)?),
        })
    }

    /// What tells it from every other.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What its root is pinned by.
    #[must_use]
    pub const fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    /// How a member of this name of its own zone is called.
    ///
    /// # Errors
    /// `invalid` if the stored id is none.
    pub fn member(&self, name: &NodeName) -> Result<MemberId, Problem> {
        MemberId::new(&self.id, self.objects.zone().clone(), name.clone())
    }

    /// A certificate for the member whose key `request` (PKCS #10, DER) proves to have, with its chain.
    ///
    /// # Errors
    /// `unavailable` without the cluster's key, `invalid` for a bad request, and the store's own.
    pub async fn vouch(
        &self,
        request: &[u8],
        name: &NodeName,
        addresses: &[HostPort],
    ) -> Result<Chain, Problem> {
        self.authority().await?.vouch(request, &self.member(name)?, addresses)
    }

    /// The zone's authority, replaced when it ends soon.
    async fn authority(&self) -> Result<Intermediate, Problem> {
        for _ in 0..ATTEMPTS {
            let cluster = self.objects.get::<ClusterSpec>(CLUSTER).await?;
            let found = self.objects.find::<AuthoritySpec>(AUTHORITY).await?;
            if let Some(found) = &found {
                let issuer = self.load(&cluster, found).await?;
                if issuer.not_after().since(self.objects.clock().now()) > REPLACED {
                    return Ok(issuer);
                }
            }
            let kept = open(&self.keyring, CLUSTER, &cluster.spec.root).await?;
            let root = Root::load(&kept, Arc::clone(self.objects.clock()), self.objects.random().clone())?;
            let issuer = root.intermediate(self.objects.zone())?;
            let spec = AuthoritySpec { issuer: seal(&self.keyring, AUTHORITY, &issuer.kept()).await? };
            let write = match found {
                Some(found) => {
                    let generation = found.generation + 1;
                    self.objects.write().update(&Resource { spec, generation, ..found })
                }
                None => self.objects.write().create(&self.objects.make(AUTHORITY, spec)),
            };
            if write.commit().await?.is_some() {
                return Ok(issuer);
            }
        }
        Err(Problem::conflict("the zone's authority keeps changing"))
    }

    async fn load(
        &self,
        cluster: &Resource<ClusterSpec>,
        found: &Resource<AuthoritySpec>,
    ) -> Result<Intermediate, Problem> {
        let kept = open(&self.keyring, AUTHORITY, &found.spec.issuer).await?;
        let root = der(&cluster.spec.root)?.into();
        Intermediate::load(&kept, root, Arc::clone(self.objects.clock()), self.objects.random().clone())
    }

    /// Makes this machine, which has the store itself, a member with these roles; or says anew where it is reached, and
    /// what it runs beside what it ran.
    ///
    /// # Errors
    /// `already_exists` if another machine has the name.
    pub async fn enrol_control(
        &self,
        name: &NodeName,
        key: &Digest,
        api: &HostPort,
        roles: &BTreeSet<MachineRole>,
    ) -> Result<(), Problem> {
        for _ in 0..ATTEMPTS {
            let found = self.objects.find::<MemberSpec>(name.as_str()).await?;
            let write = match found {
                None => {
                    let (roles, api) = (roles.clone(), Some(api.clone()));
                    let spec = MemberSpec { roles, key: key.clone(), api, joined_by: None };
                    self.objects.write().create(&self.objects.make(name.as_str(), spec))
                }
                Some(found) if found.spec.key != *key => return Err(taken(name)),
                Some(mut found) => {
                    let before = found.spec.clone();
                    found.spec.roles.extend(roles);
                    found.spec.api = Some(api.clone());
                    if found.spec == before {
                        return Ok(());
                    }
                    found.generation += 1;
                    self.objects.write().update(&found)
                }
            };
            if write.commit().await?.is_some() {
                return Ok(());
            }
        }
        Err(Problem::conflict(format!("member {name} keeps changing")))
    }
}

/// What a machine is told whose name another one has.
#[must_use]
pub fn taken(name: &NodeName) -> Problem {
    Problem::already_exists("member", name).hint(format!(
        "choose another name with --node, or, if that machine is gone: tutti node remove {name}"
    ))
}

fn der(kept: &KeptAuthority) -> Result<Vec<u8>, Problem> {
    BASE64
        .decode(&kept.certificate)
        .map_err(|_| Problem::internal("the stored certificate of an authority cannot be read"))
}

async fn seal(keyring: &Keyring, kind: &str, kept: &SealedAuthority) -> Result<KeptAuthority, Problem> {
    let certificate = BASE64.encode(&kept.certificate);
    let sealed_key = keyring.seal(&sealed_for(kind, &certificate), kept.key.reveal()).await?;
    Ok(KeptAuthority { certificate, sealed_key })
}

async fn open(keyring: &Keyring, kind: &str, kept: &KeptAuthority) -> Result<SealedAuthority, Problem> {
    let sealed_for = sealed_for(kind, &kept.certificate);
    let key = keyring.open("the key of the cluster's authority", &sealed_for, &kept.sealed_key).await?;
    Ok(SealedAuthority { certificate: der(kept)?, key: Secret::new(key.reveal().to_vec()) })
}

/// Keeps `table` what the store says, until `tasks` are to stop. Returns once it is that for the first time.
///
/// # Errors
/// The store's own.
pub async fn follow_members(
    objects: &Objects,
    table: Arc<MemberTable>,
    tasks: &Tasks,
) -> Result<(), Problem> {
    table.hold(&objects.list::<MemberSpec>("").await?.items);
    let (events, stopping) = (objects.watch::<MemberSpec>(None), tasks.stopping());
    tasks.spawn("members", async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = members::follow(events, &table, |_| ()) => {}
        }
    });
    Ok(())
}
