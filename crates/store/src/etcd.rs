//! The engine for clusters: etcd, 3.4 or later, by its public API over gRPC.
//!
//! etcd is where the contract comes from, and most of it is passed through: reads are linearizable, a transaction is
//! one of etcd's, a watch is one of etcd's, leases are etcd's. Where the contract says more than etcd does is told in
//! [`txn`] (which comparison did not hold), [`watch`] (where history begins), [`keys`] (revisions), [`retain`]
//! (forgetting) and here (full, and leases). What it means is decided in docs/adr/0014-the-store-on-etcd.md.
//!
//! **Which member** is asked is decided in [`link`]: one at a time, another when it fails. A transaction that may have
//! taken effect is never sent again: its caller is told that this is not known.
//!
//! Nothing is kept here but connections, so that any number of processes may share a cluster.

mod address;
mod failure;
mod keys;
mod link;
mod proto;
mod read;
mod retain;
mod txn;
mod watch;

pub use address::EtcdAddress;

use crate::{
    Entry, LeaseId, List, Listing, Revision, Store, StoreError, Txn, TxnOutcome, Watch, check,
    watchers::WATCHES,
};
use async_trait::async_trait;
use failure::Failure;
use keys::{Root, lease_of, of_etcd, to_etcd};
use link::{ANSWER_BYTES, Link, Twice, led};
use proto::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    TxnRequest, TxnResponse, kv_client::KvClient, lease_client::LeaseClient,
};
use std::{fmt, sync::Arc};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Response, Status};
use tutti_base::{Clock, Random, SystemClock};
use tutti_model::Millis;

/// How an etcd store is run.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// By which history is forgotten. Leases expire by etcd's own.
    pub clock: Arc<dyn Clock>,
    /// For pauses between tries.
    pub random: Random,
    /// How many of the last revisions can be listed and watched from, at the least; whatever is younger than five
    /// minutes can be too. `u64::MAX` leaves it to others to compact the cluster.
    pub retain_revisions: u64,
}

impl Default for EtcdOptions {
    /// The machine's clock, and as many revisions as SQLite keeps.
    fn default() -> Self {
        EtcdOptions {
            clock: Arc::new(SystemClock),
            random: Random::from_os(),
            retain_revisions: crate::memory::RETAIN_REVISIONS,
        }
    }
}

/// A store in an etcd cluster. Cloning shares it; its watches end when the last clone is dropped.
#[derive(Clone)]
pub struct EtcdStore {
    shared: Arc<Shared>,
    address: Arc<EtcdAddress>,
    _closing: Arc<DropGuard>,
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdStore({})", self.address)
    }
}

struct Shared {
    root: Root,
    link: Link,
    /// One place for each running watch.
    watches: Arc<Semaphore>,
    closing: CancellationToken,
}

impl EtcdStore {
    /// Connects to the first member that answers. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Unavailable` if no member can be used, with why for each.
    pub async fn open(address: &EtcdAddress, options: EtcdOptions) -> Result<EtcdStore, StoreError> {
        let closing = CancellationToken::new();
        let shared = Arc::new(Shared {
            root: Root::new(&address.prefix),
            link: Link::new(&address.members, options.random)?,
            watches: Arc::new(Semaphore::new(WATCHES)),
            closing: closing.clone(),
        });
        shared.link.connection().await?;
        if options.retain_revisions != u64::MAX {
            let store = Arc::downgrade(&shared);
            tokio::spawn(retain::run(store, options.clock, options.retain_revisions));
        }
        let _closing = Arc::new(closing.drop_guard());
        Ok(EtcdStore { shared, address: Arc::new(address.clone()), _closing })
    }
}

impl Shared {
    async fn commit(&self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        let answer = self
            .link
            .ask(Twice::Never, |channel| {
                let mut client = KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES);
                let request = led(request.clone());
                async move { client.txn(request).await }
            })
            .await?;
        self.link.saw(answer.header.as_ref().map_or(0, |header| header.revision));
        Ok(answer)
    }

    /// A transaction that etcd said it has no space for. One that finds the quota used up while it is applied is
    /// applied all the same, so that nothing happened is only known if nothing happened at all since `before`.
    async fn full(&self, place: String, before: i64) -> StoreError {
        match self.revision().await {
            Ok(now) if before > 0 && now == before => StoreError::NoSpace(place),
            Ok(_) => StoreError::Unavailable(format!("no space left for {place}")),
            Err(error) => error,
        }
    }

    /// Which of a transaction's leases it was that etcd does not have.
    async fn gone(&self, txn: &Txn) -> StoreError {
        let leases = txn::leases(txn);
        for lease in &leases {
            match self.is_live(*lease).await {
                Ok(true) => {}
                Ok(false) => return StoreError::LeaseGone(*lease),
                Err(failure) => return failure.into(),
            }
        }
        // It is back, which etcd never does.
        StoreError::Corrupt(format!("etcd does not have one of the leases {leases:?}, and has each of them"))
    }

    async fn is_live(&self, lease: LeaseId) -> Result<bool, Failure> {
        let Some(id) = lease_of(lease) else { return Ok(false) };
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let answer = self
            .link
            .ask(Twice::Same, |channel| async move {
                LeaseClient::new(channel).lease_time_to_live(led(request)).await
            })
            .await?;
        Ok(answer.ttl >= 0)
    }

    /// Forgets what was before etcd's revision.
    async fn compact(&self, revision: i64) -> Result<(), Failure> {
        let request = CompactionRequest { revision, physical: false };
        let asked = self
            .link
            .ask(Twice::Same, |channel| async move { KvClient::new(channel).compact(led(request)).await });
        match asked.await {
            // More than that is forgotten already.
            Ok(_) | Err(Failure::Compacted) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        check::key(key)?;
        self.shared.get(key).await
    }

    async fn list(&self, list: List) -> Result<Listing, StoreError> {
        check::prefix(&list.prefix)?;
        self.shared.list(list).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        check::txn(&txn)?;
        let before = self.shared.link.seen();
        match self.shared.commit(txn::request(&self.shared.root, &txn)).await {
            Ok(answer) => txn::outcome(&txn, &answer),
            Err(Failure::LeaseGone) => Err(self.shared.gone(&txn).await),
            Err(Failure::NoSpace(place)) => Err(self.shared.full(place, before).await),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError> {
        check::prefix(prefix)?;
        let place = Arc::clone(&self.shared.watches).try_acquire_owned().map_err(|_| {
            StoreError::Unavailable(format!("there are {WATCHES} watches, and no more are allowed"))
        })?;
        watch::open(&self.shared, prefix, after, place).await
    }

    /// etcd counts in whole seconds, and raises what is shorter than its members need to elect a leader (2 s unless
    /// told otherwise). One that was granted and not told runs out by itself, so that asking twice is fine.
    async fn grant(&self, ttl: Millis) -> Result<LeaseId, StoreError> {
        check::ttl(ttl)?;
        let seconds = i64::try_from(ttl.0.div_ceil(1000)).unwrap_or(i64::MAX);
        let request = LeaseGrantRequest { ttl: seconds, id: 0 };
        let answer =
            self.shared
                .link
                .ask(Twice::Same, |channel| async move {
                    LeaseClient::new(channel).lease_grant(led(request)).await
                })
                .await?;
        match u64::try_from(answer.id) {
            Ok(id) if id > 0 && answer.error.is_empty() => Ok(LeaseId(id)),
            _ => Err(StoreError::Unavailable(format!("etcd granted no lease: {}", answer.error))),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let Some(id) = lease_of(lease) else { return Err(StoreError::LeaseGone(lease)) };
        let asked = self.shared.link.ask(Twice::Same, |channel| async move {
            let requests = tokio_stream::once(LeaseKeepAliveRequest { id });
            let mut answers = LeaseClient::new(channel).lease_keep_alive(led(requests)).await?.into_inner();
            let answer = answers.message().await?;
            answer.map(Response::new).ok_or_else(|| Status::unknown("a sign of life was not answered"))
        });
        match asked.await {
            Ok(answer) if answer.ttl > 0 => Ok(()),
            Ok(_) | Err(Failure::LeaseGone) => Err(StoreError::LeaseGone(lease)),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let Some(id) = lease_of(lease) else { return Err(StoreError::LeaseGone(lease)) };
        let asked = self.shared.link.ask(Twice::Never, |channel| async move {
            LeaseClient::new(channel).lease_revoke(led(LeaseRevokeRequest { id })).await
        });
        match asked.await {
            Ok(_) => Ok(()),
            Err(Failure::LeaseGone) => Err(StoreError::LeaseGone(lease)),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let Some(at) = to_etcd(revision) else { return Err(self.shared.future(revision).await) };
        match self.shared.compact(at).await {
            Ok(()) => Ok(()),
            Err(Failure::Future) => Err(self.shared.future(revision).await),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(of_etcd(self.shared.revision().await?))
    }
}
