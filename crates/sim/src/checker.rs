//! What must hold after every single transaction, whoever wrote it.

use futures_util::{FutureExt as _, StreamExt as _};
use std::collections::{BTreeMap, BTreeSet};
use tutti_control::{Objects, keys::Home, objects::decode};
use tutti_model::{
    InstanceId, Kind, Resource,
    deployment::DeploymentSpec,
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec, InstanceState},
    resource::Object,
    service::ServiceSpec,
    table::TableSpec,
};
use tutti_store::{Change, Entry, Watch, WatchEvent};

/// Follows the whole store, one transaction after the other.
pub struct Checker {
    watch: Watch,
    revision: u64,
    tables: BTreeMap<String, Resource<TableSpec>>,
    instances: BTreeMap<String, Resource<InstanceSpec>>,
    ingresses: BTreeMap<String, Resource<IngressSpec>>,
    /// The revision at which each living ingress joined.
    joined: BTreeMap<String, u64>,
    services: BTreeMap<String, Resource<ServiceSpec>>,
    deployments: BTreeMap<String, Resource<DeploymentSpec>>,
    /// Every table of each service that was ever written: its revision, and the instances it named.
    told: BTreeMap<String, Vec<(u64, BTreeSet<InstanceId>)>>,
    /// What was found to be wrong, with the revision.
    pub faults: Vec<String>,
}

impl Checker {
    /// Starts following the store beneath `objects`, which must not fail.
    pub async fn start(store: &dyn tutti_store::Store) -> Checker {
        let watch = match store.watch("", None).await {
            Ok(watch) => watch,
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        };
        Checker {
            watch,
            revision: 0,
            tables: BTreeMap::new(),
            instances: BTreeMap::new(),
            ingresses: BTreeMap::new(),
            joined: BTreeMap::new(),
            services: BTreeMap::new(),
            deployments: BTreeMap::new(),
            told: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Takes every transaction that has been told by now.
    pub fn catch_up(&mut self, objects: &Objects) {
        while let Some(Some(event)) = self.watch.next().now_or_never() {
            match event {
                Ok(WatchEvent::Changes { revision, changes }) => {
                    if revision <= self.revision {
                        self.fault(revision, "the store went back".into());
                    }
                    self.revision = revision;
                    let before = self.instances.clone();
                    for change in &changes {
                        self.take(objects, change);
                    }
                    self.check(revision, &changes, &before);
                }
                Ok(_) => {}
                Err(error) => self.fault(self.revision, format!("the checker's own watch failed: {error}")),
            }
        }
    }

    fn fault(&mut self, revision: u64, text: String) {
        self.faults.push(format!("revision {revision}: {text}"));
    }

    fn take(&mut self, objects: &Objects, change: &Change) {
        let key = match change {
            Change::Put(entry) => &entry.key,
            Change::Delete { key } => key,
        };
        let of = |kind: Kind| Home::of(kind, objects.zone()).prefix(kind);
        if key.starts_with(&of(Kind::Table)) {
            put(&mut self.tables, &of(Kind::Table), change);
        } else if key.starts_with(&of(Kind::Instance)) {
            put(&mut self.instances, &of(Kind::Instance), change);
        } else if key.starts_with(&of(Kind::Ingress)) {
            put(&mut self.ingresses, &of(Kind::Ingress), change);
            self.joined.retain(|name, _| self.ingresses.contains_key(name));
            for name in self.ingresses.keys() {
                self.joined.entry(name.clone()).or_insert(self.revision);
            }
        } else if key.starts_with(&of(Kind::Service)) {
            put(&mut self.services, &of(Kind::Service), change);
        } else if key.starts_with(&of(Kind::Deployment)) {
            self.check_deployment(change, &of(Kind::Deployment));
            put(&mut self.deployments, &of(Kind::Deployment), change);
        }
    }

    fn check_deployment(&mut self, change: &Change, prefix: &str) {
        let Some(known) = key_of(change).strip_prefix(prefix).and_then(|name| self.deployments.get(name))
        else {
            return;
        };
        if let Some(next) = object::<DeploymentSpec>(change)
            && known.status.phase.is_final()
            && next.status.phase != known.status.phase
        {
            let text = format!(
                "deployment {} was {} and became {}",
                known.name, known.status.phase, next.status.phase
            );
            self.fault(next.revision, text);
        }
    }

    fn check(
        &mut self,
        revision: u64,
        changes: &[Change],
        before: &BTreeMap<String, Resource<InstanceSpec>>,
    ) {
        let tables: Vec<_> = changes.iter().filter_map(object::<TableSpec>).collect();
        for table in tables {
            self.check_table(revision, &table);
            let named: BTreeSet<InstanceId> = table
                .spec
                .versions()
                .iter()
                .flat_map(|backend| &backend.endpoints)
                .map(|endpoint| endpoint.instance.clone())
                .collect();
            self.told.entry(table.name).or_default().push((revision, named));
        }
        let instances: Vec<_> = changes.iter().filter_map(object::<InstanceSpec>).collect();
        for instance in instances {
            let was = before.get(&instance.name).map(|instance| instance.spec.goal);
            if instance.spec.goal == Goal::Drain && was != Some(Goal::Drain) {
                self.check_drain(revision, &instance);
            }
        }
        let locked: BTreeSet<String> = self
            .services
            .values()
            .filter_map(|service| service.status.deployment.as_ref())
            .map(ToString::to_string)
            .collect();
        let unfinished: BTreeSet<String> = self
            .deployments
            .values()
            .filter(|deployment| !deployment.status.phase.is_final())
            .map(|deployment| deployment.name.clone())
            .collect();
        if locked != unfinished {
            self.fault(
                revision,
                format!("locks {locked:?} are not the unfinished deployments {unfinished:?}"),
            );
        }
    }

    fn check_table(&mut self, revision: u64, table: &Resource<TableSpec>) {
        let backends = table.spec.versions();
        let before = self.told.get(&table.name).and_then(|tables| tables.last());
        let before = before.map(|(_, named)| named.clone()).unwrap_or_default();
        let sum: u64 = backends.iter().map(|backend| u64::from(backend.weight.millionths())).sum();
        if !backends.is_empty() && sum != 1_000_000 {
            self.fault(revision, format!("the weights of {} add up to {sum} millionths", table.name));
        }
        for backend in backends {
            if backend.endpoints.is_empty() {
                self.fault(
                    revision,
                    format!("{}@{} has a weight and no endpoint", table.name, backend.version),
                );
            }
            for endpoint in &backend.endpoints {
                let instance = self.instances.get(endpoint.instance.as_str());
                let fit = instance.is_some_and(|instance| {
                    instance.spec.version.version == backend.version
                        && instance.status.state == InstanceState::Ready
                });
                // One that stopped being ready meanwhile may be named for a moment more; a new one may not.
                let fresh = !before.contains(&endpoint.instance);
                if !fit && fresh {
                    self.fault(
                        revision,
                        format!("{} names {}, which is not ready", table.name, endpoint.instance),
                    );
                }
            }
        }
    }

    /// No ingress may hold a table that names an instance that drains. An ingress holds the last table that it said to
    /// have reached, or any later one. One that joined later than that reads everything anew, and what it sends by what
    /// it held before is refused and sent elsewhere.
    fn check_drain(&mut self, revision: u64, instance: &Resource<InstanceSpec>) {
        let service = instance.spec.version.service.to_string();
        let Some(tables) = self.told.get(&service) else { return };
        let holders: Vec<String> = self
            .ingresses
            .iter()
            .filter(|(name, ingress)| {
                let since = ingress.status.reached.max(self.joined.get(*name).copied().unwrap_or(0));
                let held = tables.iter().rposition(|(told, _)| *told <= since).unwrap_or(0);
                tables.iter().skip(held).any(|(_, named)| named.contains(&instance.spec.instance))
            })
            .map(|(name, _)| name.clone())
            .collect();
        let is_named = tables.last().is_some_and(|(_, named)| named.contains(&instance.spec.instance));
        if is_named || !holders.is_empty() {
            self.fault(revision, format!("{} drains while {holders:?} may send to it", instance.name));
        }
    }
}

fn key_of(change: &Change) -> &str {
    match change {
        Change::Put(entry) => &entry.key,
        Change::Delete { key } => key,
    }
}

fn object<S: Object>(change: &Change) -> Option<Resource<S>> {
    match change {
        Change::Put(entry) => read(entry),
        Change::Delete { .. } => None,
    }
}

fn read<S: Object>(entry: &Entry) -> Option<Resource<S>> {
    decode::<S>(entry).ok().filter(|object| object.kind == S::KIND)
}

fn put<S: Object>(into: &mut BTreeMap<String, Resource<S>>, prefix: &str, change: &Change) {
    let name = key_of(change).strip_prefix(prefix).unwrap_or_default().to_owned();
    match object(change) {
        Some(object) => into.insert(name, object),
        None => into.remove(&name),
    };
}
