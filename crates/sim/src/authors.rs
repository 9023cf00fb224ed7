//! Who wrote what: a store that notes which control committed each revision. It stands next to the store itself, below
//! all faults, so that a transaction whose answer is lost is noted too.

use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tutti_model::{Millis, name::NodeName};
use tutti_store::{Entry, LeaseId, List, Listing, Revision, Store, StoreError, Txn, TxnOutcome, Watch};

/// The control that committed each revision, of those that a control did. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Authors(Arc<Mutex<BTreeMap<Revision, NodeName>>>);

impl Authors {
    /// Who committed a revision; asked once.
    pub(crate) fn take(&self, revision: Revision) -> Option<NodeName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&revision)
    }

    fn note(&self, revision: Revision, control: &NodeName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(revision, control.clone());
    }
}

/// A store as one control has it.
#[derive(Debug)]
pub(crate) struct Authored<S> {
    pub(crate) control: NodeName,
    pub(crate) authors: Authors,
    pub(crate) inner: Arc<S>,
}

#[async_trait]
impl<S: Store> Store for Authored<S> {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, list: List) -> Result<Listing, StoreError> {
        self.inner.list(list).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        let writes = !txn.operations.is_empty();
        let outcome = self.inner.txn(txn).await?;
        if let TxnOutcome::Committed(revision) = outcome
            && writes
        {
            self.authors.note(revision, &self.control);
        }
        Ok(outcome)
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError> {
        self.inner.watch(prefix, after).await
    }

    async fn grant(&self, ttl: Millis) -> Result<LeaseId, StoreError> {
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }
}
