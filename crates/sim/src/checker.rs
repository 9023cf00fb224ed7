//! What must hold after every single transaction, whoever wrote it. What needs to know more than the transaction (who
//! wrote it, who was heard when, what a domain may have) is in files of its own.

mod grace;
mod leader;
mod left_out;
mod quota;

use crate::{Authors, Check, Fault};
use futures_util::{FutureExt as _, StreamExt as _};
use grace::Heard;
use std::collections::{BTreeMap, BTreeSet};
use tutti_control::{Objects, keys::Home, objects::decode};
use tutti_model::{
    InstanceId, Kind, Resource, Share, Split, Timestamp, VersionName,
    assignment::AssignmentSpec,
    control::LeaderSpec,
    deployment::DeploymentSpec,
    ingress::IngressSpec,
    instance::{Goal, InstanceSpec},
    node::Resources,
    quota::QuotaSpec,
    resource::Object,
    service::ServiceSpec,
    table::TableSpec,
};
use tutti_store::{Change, Entry, Watch, WatchEvent};

/// Most times that controls write one object from one look of the checker to the next: several times what the busiest
/// step of many stories has. More is a loop that undoes its own work.
const SPIN: usize = 30;

/// Follows the whole store, one transaction after the other.
pub struct Checker {
    watch: Watch,
    revision: u64,
    tables: BTreeMap<String, Resource<TableSpec>>,
    instances: BTreeMap<String, Resource<InstanceSpec>>,
    assignments: BTreeMap<String, Resource<AssignmentSpec>>,
    ingresses: BTreeMap<String, Resource<IngressSpec>>,
    /// The revision at which each living ingress joined.
    joined: BTreeMap<String, u64>,
    services: BTreeMap<String, Resource<ServiceSpec>>,
    deployments: BTreeMap<String, Resource<DeploymentSpec>>,
    /// Every table of each service that was ever written: its revision, and the instances it named.
    told: BTreeMap<String, Vec<(u64, BTreeSet<InstanceId>)>>,
    /// The uid and generation of every object.
    lives: BTreeMap<String, (String, u64)>,
    leaders: BTreeMap<String, Resource<LeaderSpec>>,
    quotas: BTreeMap<String, Resource<QuotaSpec>>,
    authors: Authors,
    heard: Heard,
    /// Since when each instance that answers does, asleep or awake.
    answering: BTreeMap<String, Timestamp>,
    /// Whoever writes now may not have read what is newer than this: the revision at the last look, or the one at which
    /// the writer was stopped for a while.
    read: u64,
    /// How many instances stood by for less than their time.
    pub early: usize,
    /// What was found to be wrong, with the revision.
    pub faults: Vec<Fault>,
    /// The most times that controls wrote one object between two looks.
    pub busiest: usize,
}

impl Checker {
    /// Starts following the store beneath `objects`, which must not fail.
    pub(crate) async fn start(store: &dyn tutti_store::Store, authors: Authors) -> Checker {
        let watch = match store.watch("", None).await {
            Ok(watch) => watch,
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        };
        Checker {
            watch: watch.fuse().boxed(),
            revision: 0,
            tables: BTreeMap::new(),
            instances: BTreeMap::new(),
            assignments: BTreeMap::new(),
            ingresses: BTreeMap::new(),
            joined: BTreeMap::new(),
            services: BTreeMap::new(),
            deployments: BTreeMap::new(),
            told: BTreeMap::new(),
            lives: BTreeMap::new(),
            leaders: BTreeMap::new(),
            quotas: BTreeMap::new(),
            authors,
            heard: Heard::default(),
            answering: BTreeMap::new(),
            read: 0,
            early: 0,
            faults: Vec::new(),
            busiest: 0,
        }
    }

    /// Takes every transaction that has been told by now. Each node has what `node` says. A control that was `stopped` at
    /// a revision may have written what it decided then.
    pub(crate) fn catch_up(&mut self, objects: &Objects, node: Resources, stopped: Option<u64>) {
        self.read = stopped.unwrap_or(self.revision).min(self.revision);
        let mut written: BTreeMap<String, usize> = BTreeMap::new();
        while let Some(Some(event)) = self.watch.next().now_or_never() {
            match event {
                Ok(WatchEvent::Changes { revision, changes }) => {
                    if revision <= self.revision {
                        self.fault(Check::Store, revision, "the store went back".into());
                    }
                    self.revision = revision;
                    let author = self.authors.take(revision);
                    if let Some(author) = author {
                        for change in &changes {
                            *written.entry(key_of(change).to_owned()).or_default() += 1;
                        }
                        self.check_leader(revision, &author, &changes);
                    }
                    let before = (self.instances.clone(), self.tables.clone());
                    for change in &changes {
                        self.check_generation(revision, change);
                        self.take(objects, change);
                    }
                    self.check(revision, objects.clock().now(), &changes, &before.0, &before.1);
                    self.check_room(revision, &changes, node);
                    self.check_grace(revision, &changes, &before.0, &before.1);
                }
                Ok(_) => {}
                Err(error) => {
                    let text = format!("the checker's own watch failed: {error}");
                    self.fault(Check::Store, self.revision, text);
                }
            }
        }
        self.heard.settle();
        if let Some((key, times)) = written.into_iter().max_by_key(|(_, times)| *times) {
            self.busiest = self.busiest.max(times);
            if times > SPIN {
                let text = format!("controls wrote {key} {times} times, and nothing new had happened");
                self.fault(Check::Spin, self.revision, text);
            }
        }
    }

    /// The revision of the last transaction taken.
    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    fn fault(&mut self, check: Check, revision: u64, text: String) {
        self.faults.push(Fault { check, revision, text });
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
            self.note_answering();
        } else if key.starts_with(&of(Kind::Ingress)) {
            put(&mut self.ingresses, &of(Kind::Ingress), change);
            self.joined.retain(|name, _| self.ingresses.contains_key(name));
            for name in self.ingresses.keys() {
                self.joined.entry(name.clone()).or_insert(self.revision);
            }
        } else if key.starts_with(&of(Kind::Leader)) {
            put(&mut self.leaders, &of(Kind::Leader), change);
        } else if key.starts_with(&of(Kind::Quota)) {
            put(&mut self.quotas, &of(Kind::Quota), change);
        } else if key.starts_with(&of(Kind::Assignment)) {
            self.check_quota(change, &of(Kind::Assignment));
            put(&mut self.assignments, &of(Kind::Assignment), change);
        } else if key.starts_with(&of(Kind::Service)) {
            self.check_removal(change, &of(Kind::Service));
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
            self.fault(Check::Final, next.revision, text);
        }
    }

    fn check(
        &mut self,
        revision: u64,
        now: Timestamp,
        changes: &[Change],
        before: &BTreeMap<String, Resource<InstanceSpec>>,
        tables_before: &BTreeMap<String, Resource<TableSpec>>,
    ) {
        for name in tables_before.keys().filter(|name| !self.tables.contains_key(*name)) {
            self.told.entry(name.clone()).or_default().push((revision, BTreeSet::new()));
        }
        let tables: Vec<_> = changes.iter().filter_map(object::<TableSpec>).collect();
        for table in tables {
            self.check_table(revision, &table);
            if let Some(before) = tables_before.get(&table.name) {
                self.check_rise(revision, before, &table);
                self.check_left_out(revision, now, before, &table);
            }
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
            let early = match (was, instance.spec.goal) {
                (Some(Goal::Standby { until: was }), Goal::Standby { until }) => until < was,
                (Some(Goal::Standby { until }), Goal::Drain) => now < until,
                _ => false,
            };
            if early {
                self.check_early(revision, &instance);
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
                Check::Lock,
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
            self.fault(
                Check::Weights,
                revision,
                format!("the weights of {} add up to {sum} millionths", table.name),
            );
        }
        for backend in backends {
            if backend.endpoints.is_empty() {
                self.fault(
                    Check::Weights,
                    revision,
                    format!("{}@{} has a weight and no endpoint", table.name, backend.version),
                );
            }
            for endpoint in &backend.endpoints {
                let instance = self.instances.get(endpoint.instance.as_str());
                let fit = instance.is_some_and(|instance| {
                    instance.spec.version.version == backend.version && instance.status.state.answers()
                });
                // One that stopped being ready meanwhile may be named for a moment more; a new one may not.
                let fresh = !before.contains(&endpoint.instance);
                if !fit && fresh {
                    self.fault(
                        Check::Readiness,
                        revision,
                        format!("{} names {}, which is not ready", table.name, endpoint.instance),
                    );
                }
            }
        }
    }

    /// Within one life of an object its generation never goes back, and what is written is new.
    fn check_generation(&mut self, revision: u64, change: &Change) {
        let Change::Put(entry) = change else {
            self.lives.remove(key_of(change));
            return;
        };
        let Ok(object) = serde_json::from_slice::<serde_json::Value>(&entry.value) else {
            self.fault(Check::Generation, revision, format!("{} is not an object", entry.key));
            return;
        };
        let uid = object.get("uid").and_then(|uid| uid.as_str()).unwrap_or_default().to_owned();
        let generation = object.get("generation").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let was = self.lives.insert(entry.key.clone(), (uid.clone(), generation));
        if let Some((was_uid, was_generation)) = was
            && (was_uid != uid || was_generation > generation)
        {
            let text = format!("{} was {was_uid} {was_generation} and is {uid} {generation}", entry.key);
            self.fault(Check::Generation, revision, text);
        }
    }

    /// A service goes last: when it does, its zone has nothing of it any more.
    fn check_removal(&mut self, change: &Change, prefix: &str) {
        let Change::Delete { key } = change else { return };
        let name = key.strip_prefix(prefix).unwrap_or_default();
        let of = |instance: &&Resource<InstanceSpec>| instance.spec.version.service.to_string() == name;
        let instances = self.instances.values().filter(of).count();
        let more = self.tables.contains_key(name) || self.assignments.contains_key(name);
        if instances > 0 || more {
            self.fault(
                Check::Removal,
                self.revision,
                format!("{name} went, and left {instances} instances, more: {more}"),
            );
        }
    }

    /// A share that rises to what was handed down has all its workers ready, unless it takes over from what is not.
    fn check_rise(&mut self, revision: u64, before: &Resource<TableSpec>, table: &Resource<TableSpec>) {
        let Some(assignment) = self.assignments.get(&table.name) else { return };
        let (split, was) = (split_of(table), split_of(before));
        let workers = assignment.spec.workers;
        let ready = |version: &VersionName| {
            let service = &assignment.spec.service;
            let of = |instance: &&Resource<InstanceSpec>| {
                instance.spec.version.service == *service && instance.spec.version.version == *version
            };
            let ready = |instance: &&Resource<InstanceSpec>| {
                instance.status.state.answers() && instance.spec.goal == Goal::Serve
            };
            self.instances.values().filter(of).filter(ready).count()
        };
        let takes_over = was.is_empty() || was.iter().any(|(version, _)| !self.could_stay(version, before));
        if split != assignment.spec.split || takes_over {
            return;
        }
        let short: Vec<String> = split
            .iter()
            .filter(|(version, share)| *share > was.share(version))
            .map(|(version, share)| (version, ready(version), share.workers(workers)))
            .filter(|(_, ready, wanted)| u32::try_from(*ready).unwrap_or(u32::MAX) < *wanted)
            .map(|(version, ready, wanted)| format!("{version} rises with {ready} of {wanted} ready"))
            .collect();
        for text in short {
            self.fault(Check::Capacity, revision, format!("{}@{text}", table.name));
        }
    }

    /// Whether a version of a table still has an endpoint that is ready and on a node that may be heard: one that is
    /// left out of the next table has been found silent by control, which this checker cannot know.
    fn could_stay(&self, version: &VersionName, table: &Resource<TableSpec>) -> bool {
        let backend = table.spec.versions().iter().find(|backend| backend.version == *version);
        backend.is_some_and(|backend| {
            backend.endpoints.iter().any(|endpoint| {
                let instance = self.instances.get(endpoint.instance.as_str());
                instance.is_some_and(|instance| instance.status.state.answers() && instance.spec.goal.runs())
            })
        })
    }

    /// No node is promised more than it has. A new instance may be, only by one that is told to stop.
    fn check_room(&mut self, revision: u64, changes: &[Change], node: Resources) {
        for new in changes.iter().filter_map(object::<InstanceSpec>) {
            let on = |instance: &&Resource<InstanceSpec>| {
                // What may sleep holds room only while it is awake, which nobody compares: its node looks when it wakes.
                let may_sleep = instance.spec.manifest.min == 0;
                instance.spec.node == new.spec.node && instance.spec.goal != Goal::Stop && !may_sleep
            };
            let promised: u64 =
                self.instances.values().filter(on).map(|instance| instance.spec.manifest.memory.0).sum();
            if new.revision == revision && new.generation == 1 && promised > node.memory.0 {
                self.fault(
                    Check::Room,
                    revision,
                    format!("{} finds {promised} bytes promised on {}", new.name, new.spec.node),
                );
            }
        }
    }

    /// What a deployment that runs returns to if it is rolled back does not go before its time, whoever needs its room.
    fn check_early(&mut self, revision: u64, instance: &Resource<InstanceSpec>) {
        let (service, version) = (instance.spec.version.service.to_string(), &instance.spec.version.version);
        let Some(assignment) = self.assignments.get(&service).map(|assignment| &assignment.spec) else {
            return;
        };
        self.early += 1;
        let left = self.instances.values().filter(|other| {
            let of = &other.spec.version;
            let stays = other.name != instance.name && other.spec.goal.runs();
            stays && of.service == assignment.service && of.version == *version
        });
        let wanted = assignment.from.share(version).workers(assignment.workers);
        if assignment.deployment.is_some()
            && !assignment.removed
            && assignment.from.share(version) > Share::ZERO
            && left.count() < usize::try_from(wanted).unwrap_or(usize::MAX)
        {
            self.fault(
                Check::Standby,
                revision,
                format!("{} of {service}@{version} goes early", instance.name),
            );
        }
    }

    /// No ingress may hold a table that names an instance that drains. An ingress holds the last table that it said to
    /// have reached, or any later one, however late it joined: one that was cut off and comes back sends by what it held
    /// before. Only of one that joined after the writer had read who there is nothing could be known: what that one sends
    /// is refused and sent elsewhere.
    fn check_drain(&mut self, revision: u64, instance: &Resource<InstanceSpec>) {
        let service = instance.spec.version.service.to_string();
        let Some(tables) = self.told.get(&service) else { return };
        let holders: Vec<String> = self
            .ingresses
            .iter()
            .filter(|(name, ingress)| {
                let joined = self.joined.get(*name).copied().unwrap_or(0);
                let is_known = joined <= self.read;
                let since =
                    if is_known { ingress.status.reached } else { ingress.status.reached.max(joined) };
                let held = tables.iter().rposition(|(told, _)| *told <= since).unwrap_or(0);
                tables.iter().skip(held).any(|(_, named)| named.contains(&instance.spec.instance))
            })
            .map(|(name, _)| name.clone())
            .collect();
        let is_named = tables.last().is_some_and(|(_, named)| named.contains(&instance.spec.instance));
        if is_named || !holders.is_empty() {
            self.fault(
                Check::Drain,
                revision,
                format!("{} drains while {holders:?} may send to it", instance.name),
            );
        }
    }
}

fn split_of(table: &Resource<TableSpec>) -> Split {
    let backends = table.spec.versions().iter();
    Split::new(backends.map(|backend| (backend.version.clone(), backend.weight))).unwrap_or_default()
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
