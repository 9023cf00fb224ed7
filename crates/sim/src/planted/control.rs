//! A control with a bug: its store changes what it reads and writes to what the bug would have made of it. Everything
//! between this and the store itself, faults among it, is as for any other control.

use super::Planted;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tutti_base::Clock as _;
use tutti_base::clock::VirtualClock;
use tutti_control::{keys::Home, objects::decode};
use tutti_model::{
    Kind, Millis, Resource, Share, Timestamp,
    control::LEADER,
    deployment::DeploymentSpec,
    instance::{Goal, InstanceSpec, InstanceState},
    name::{NodeName, ZoneName},
    node::HEARD,
    resource::Object,
    table::{Backend, TableSpec},
};
use tutti_store::{
    Change, Compare, Entry, LeaseId, List, Listing, Operation, Revision, Store, StoreError, Txn, TxnOutcome,
    Watch, WatchEvent,
};

/// The store of a control that has a bug.
#[derive(Debug)]
pub(crate) struct Wrong {
    planted: Planted,
    clock: VirtualClock,
    inner: Arc<dyn Store>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    /// What watches have told.
    told: BTreeMap<String, Entry>,
    /// The service, the node and the moment of the last new instance.
    placed: Option<(String, NodeName, Timestamp)>,
    /// When a table was spoilt last.
    spoilt: Timestamp,
}

impl Wrong {
    pub(crate) fn new(planted: Planted, clock: VirtualClock, inner: Arc<dyn Store>) -> Self {
        Wrong { planted, clock, inner, memory: Arc::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transaction as the bug has it.
    fn spoil(&self, mut txn: Txn) -> Txn {
        let is_new =
            |key: &str| txn.compares.iter().any(|it| matches!(it, Compare::Absent(new) if new == key));
        match self.planted {
            Planted::FenceForgotten => {
                let fence = format!("{}{LEADER}", prefix(Kind::Leader));
                txn.compares.retain(|compare| key_of(compare) != fence);
            }
            Planted::ReadinessNotCompared => {
                let written: Vec<String> = txn.operations.iter().map(|it| key(it).to_owned()).collect();
                let of = prefix(Kind::Instance);
                txn.compares.retain(|compare| {
                    let key = key_of(compare);
                    !key.starts_with(&of) || written.iter().any(|it| it == key)
                });
            }
            Planted::StoppedKept => {
                let of = prefix(Kind::Instance);
                let forgets =
                    |it: &Operation| matches!(it, Operation::Delete { key } if key.starts_with(&of));
                txn.operations.retain(|operation| !forgets(operation));
            }
            Planted::DeploymentNeverEnds => {
                let ends =
                    |it: &Operation| read::<DeploymentSpec>(it).is_some_and(|it| it.status.phase.is_final());
                if txn.operations.iter().any(ends) {
                    txn.operations.clear();
                }
            }
            Planted::RoomPromisedTwice => {
                let place = |it: Operation| match is_new(key(&it)) {
                    true => edit::<InstanceSpec>(it, |instance| self.misplace(instance)),
                    false => it,
                };
                txn.operations = txn.operations.into_iter().map(place).collect();
            }
            Planted::DrainsAtOnce
            | Planted::GraceForgotten
            | Planted::VersionLost
            | Planted::SleepersLeftOut => {
                txn.operations = txn.operations.into_iter().map(|it| self.spoil_operation(it)).collect();
            }
            Planted::IngressesFromMemory | Planted::QuotaUnread | Planted::YesterdaysGoals => {}
        }
        txn
    }

    fn spoil_operation(&self, operation: Operation) -> Operation {
        match self.planted {
            Planted::DrainsAtOnce => edit::<InstanceSpec>(operation, |instance| {
                if matches!(instance.spec.goal, Goal::Standby { .. }) {
                    instance.spec.goal = Goal::Drain;
                }
            }),
            Planted::GraceForgotten => edit::<InstanceSpec>(operation, |instance| {
                for condition in &mut instance.conditions {
                    if condition.r#type == HEARD && !condition.met {
                        condition.since = Timestamp(0);
                    }
                }
            }),
            Planted::VersionLost => edit::<TableSpec>(operation, |table| {
                if let Backend::Versions(versions) = &mut table.spec.backend
                    && versions.len() > 1
                    && self.is_time()
                    && let Some(lost) = versions.pop()
                    && let Some(first) = versions.first_mut()
                {
                    let whole = first.weight.millionths() + lost.weight.millionths();
                    first.weight = Share::from_millionths(whole);
                }
            }),
            Planted::SleepersLeftOut => edit::<TableSpec>(operation, |table| {
                let mut named = table.spec.versions().iter().flat_map(|version| &version.endpoints);
                let sleeps = named.any(|endpoint| self.is_asleep(endpoint.instance.as_str()));
                if sleeps
                    && self.is_time()
                    && let Backend::Versions(versions) = &mut table.spec.backend
                {
                    for version in versions {
                        version.endpoints.retain(|endpoint| !self.is_asleep(endpoint.instance.as_str()));
                    }
                }
            }),
            _ => operation,
        }
    }

    /// A new instance goes where another service's went at the same moment: there was room before that.
    fn misplace(&self, instance: &mut Resource<InstanceSpec>) {
        let (service, now) = (instance.spec.version.service.to_string(), self.clock.now());
        let mut memory = self.memory();
        match &memory.placed {
            Some((other, node, at)) if *other != service && *at == now => instance.spec.node = node.clone(),
            _ => memory.placed = Some((service, instance.spec.node.clone(), now)),
        }
    }

    /// A table is spoilt once at a moment: control looks at what it wrote, and would write it for ever.
    fn is_time(&self) -> bool {
        let now = self.clock.now();
        std::mem::replace(&mut self.memory().spoilt, now) != now
    }

    fn is_asleep(&self, instance: &str) -> bool {
        let memory = self.memory();
        let told = memory.told.get(&format!("{}{instance}", prefix(Kind::Instance)));
        let told = told.and_then(|entry| decode::<InstanceSpec>(entry).ok());
        told.is_some_and(|instance| instance.status.state == InstanceState::Asleep)
    }
}

impl Memory {
    fn take(&mut self, prefix: &str, event: &WatchEvent) {
        match event {
            WatchEvent::Init => self.told.retain(|key, _| !key.starts_with(prefix)),
            WatchEvent::InitItem(entry) => drop(self.told.insert(entry.key.clone(), entry.clone())),
            WatchEvent::InitDone { .. } => {}
            WatchEvent::Changes { changes, .. } => {
                for change in changes {
                    match change {
                        Change::Put(entry) => drop(self.told.insert(entry.key.clone(), entry.clone())),
                        Change::Delete { key } => drop(self.told.remove(key)),
                    }
                }
            }
        }
    }
}

#[async_trait]
impl Store for Wrong {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        if self.planted == Planted::QuotaUnread && key.starts_with(&prefix(Kind::Quota)) {
            return Ok(None);
        }
        self.inner.get(key).await
    }

    async fn list(&self, list: List) -> Result<Listing, StoreError> {
        if self.planted == Planted::IngressesFromMemory && list.prefix == prefix(Kind::Ingress) {
            let revision = self.inner.revision().await?;
            let memory = self.memory();
            let of = memory.told.range(list.prefix.clone()..).map(|(_, entry)| entry);
            let entries = of.take_while(|entry| entry.key.starts_with(&list.prefix)).cloned().collect();
            return Ok(Listing { entries, revision, more: false });
        }
        self.inner.list(list).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.inner.txn(self.spoil(txn)).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError> {
        let (memory, prefix) = (Arc::clone(&self.memory), prefix.to_owned());
        let watch = self.inner.watch(&prefix, after).await?;
        let noted = watch.inspect(move |event| {
            if let Ok(event) = event {
                memory.lock().unwrap_or_else(PoisonError::into_inner).take(&prefix, event);
            }
        });
        Ok(noted.boxed())
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

fn prefix(kind: Kind) -> String {
    Home::of(kind, &ZoneName::local()).prefix(kind)
}

fn key(operation: &Operation) -> &str {
    match operation {
        Operation::Put { key, .. } | Operation::Delete { key } => key,
    }
}

fn key_of(compare: &Compare) -> &str {
    match compare {
        Compare::Absent(key) | Compare::Present(key) | Compare::Modified(key, _) => key,
    }
}

/// The object that an operation writes, if it is of this kind.
fn read<S: Object>(operation: &Operation) -> Option<Resource<S>> {
    match operation {
        Operation::Put { key, value, .. } if key.starts_with(&prefix(S::KIND)) => {
            serde_json::from_slice(value).ok()
        }
        _ => None,
    }
}

/// The operation with the object that it writes changed, if it is of this kind.
fn edit<S: Object>(operation: Operation, change: impl FnOnce(&mut Resource<S>)) -> Operation {
    let Some(mut object) = read::<S>(&operation) else { return operation };
    change(&mut object);
    match (operation, serde_json::to_vec(&object)) {
        (Operation::Put { key, lease, .. }, Ok(value)) => Operation::Put { key, value: value.into(), lease },
        (operation, _) => operation,
    }
}
