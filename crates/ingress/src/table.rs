//! Tables as requests find them: host, then the longest path prefix, then the service.
//!
//! Readers take no lock: they load the routes, and in them a service's slot. A transaction that changes only how
//! services are served (by far the most frequent) replaces what is in their slots, whatever the number of services;
//! no request ever looks at two of them. One that changes what they match makes new slots and a new map, in which only
//! the hosts concerned are built anew (the rest is a copy of pointers, about a millisecond for ten thousand), and
//! shows all of it in one swap.

use crate::{balance::Service, snapshot::Table};
use arc_swap::ArcSwap;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tutti_api::Change;
use tutti_model::{route::RouteMatch, stats::ServiceStats, table::TableSpec};

/// The host of routes that take any.
const ANY_HOST: &str = "*";

/// Every table.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    routes: ArcSwap<Routes>,
    /// The writer's own view; taken by the one task that applies changes and by who reads figures.
    known: Mutex<Known>,
    /// Whether they were ever told whole, by control or by the file of the last ones.
    told: AtomicBool,
}

type Slot = Arc<ArcSwap<Service>>;
type Routes = HashMap<Arc<str>, Arc<Host>>;

/// The path prefixes of one host.
#[derive(Debug, Default)]
struct Host {
    prefixes: HashMap<String, Slot>,
    /// Segments of the longest prefix: no more of a path need be looked at.
    deepest: usize,
}

#[derive(Debug, Default)]
struct Known {
    tables: BTreeMap<String, Table>,
    slots: HashMap<String, Slot>,
    /// Who claims which prefix of which host. Control lets only one; if two do, the first by name has it.
    claims: HashMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Tables {
    /// The service that takes a request for this host (as the request names it) and path.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<Arc<Service>> {
        let routes = self.routes.load();
        let host = normal_host(host);
        let found = routes.get(host.as_ref()).and_then(|host| host.find(path));
        found.or_else(|| routes.get(ANY_HOST)?.find(path)).map(|slot| slot.load_full())
    }

    /// The gRPC services that a host has beside each other, each below its name; those that any host has, if it has none.
    pub(crate) fn sharing(&self, host: &str) -> Vec<Arc<Service>> {
        let routes = self.routes.load();
        let own = routes.get(normal_host(host).as_ref()).map(|host| host.named()).unwrap_or_default();
        if own.is_empty() { routes.get(ANY_HOST).map(|host| host.named()).unwrap_or_default() } else { own }
    }

    /// Applies one transaction's changes: every request sees all of them or none.
    pub(crate) fn apply(&self, changes: Vec<Change<TableSpec>>) {
        let mut known = self.lock();
        let changes: Vec<_> = changes.into_iter().filter(|change| known.is_news(change)).collect();
        if changes.iter().all(|change| known.keeps_matches(change)) {
            for change in changes {
                if let Change::Put(table) = change {
                    known.put_backend(Arc::new(*table));
                }
            }
            return;
        }
        let hosts: BTreeSet<String> =
            changes.into_iter().flat_map(|change| known.put_matches(change)).collect();
        let mut routes = Routes::clone(&self.routes.load());
        for host in hosts {
            match known.host(&host) {
                Some(compiled) => routes.insert(host.into(), Arc::new(compiled)),
                None => routes.remove(host.as_str()),
            };
        }
        self.routes.store(Arc::new(routes));
    }

    /// Makes these all the tables there are.
    pub(crate) fn replace(&self, tables: Vec<Table>) {
        let named: BTreeSet<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let mut changes: Vec<_> = {
            let known = self.lock();
            let gone = known.tables.keys().filter(|name| !named.contains(name.as_str()));
            gone.map(|name| Change::Delete { name: name.clone() }).collect()
        };
        changes.extend(tables.into_iter().map(|table| Change::Put(Box::new(Arc::unwrap_or_clone(table)))));
        self.apply(changes);
        self.told.store(true, Ordering::Release);
    }

    /// Whether it is known which tables there are, be it none: until then a host that is not found may well be there.
    pub(crate) fn are_known(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// Every table as it is known.
    pub(crate) fn all(&self) -> Vec<Table> {
        self.lock().tables.values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().tables.len()
    }

    /// The figures of all services, in name order.
    pub(crate) fn stats(&self) -> Vec<ServiceStats> {
        let services: Vec<Arc<Service>> = {
            let known = self.lock();
            known
                .tables
                .keys()
                .filter_map(|name| known.slots.get(name))
                .map(|slot| slot.load_full())
                .collect()
        };
        services.iter().flat_map(|service| service.lasting.stats(&service.name)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether a change says anything new. Desired state that is older than what is known is refused.
    fn is_news(&self, change: &Change<TableSpec>) -> bool {
        match change {
            Change::Delete { name } => self.tables.contains_key(name),
            Change::Put(table) => match self.tables.get(&table.name) {
                Some(known) if known.uid == table.uid && table.generation < known.generation => {
                    tracing::warn!(
                        table = table.name,
                        generation = table.generation,
                        known = known.generation,
                        "an older table was refused"
                    );
                    false
                }
                Some(known) => {
                    known.spec != table.spec || known.uid != table.uid || known.generation != table.generation
                }
                None => true,
            },
        }
    }

    fn keeps_matches(&self, change: &Change<TableSpec>) -> bool {
        match change {
            Change::Delete { .. } => false,
            Change::Put(table) => {
                self.tables.get(&table.name).is_some_and(|known| known.spec.matches == table.spec.matches)
            }
        }
    }

    fn compile(&self, table: &Table) -> Arc<Service> {
        let before = self.slots.get(&table.name).map(|slot| slot.load_full());
        Arc::new(Service::new(&table.spec, before.as_deref()))
    }

    fn put_backend(&mut self, table: Table) {
        let service = self.compile(&table);
        if let Some(slot) = self.slots.get(&table.name) {
            slot.store(service);
        }
        self.tables.insert(table.name.clone(), table);
    }

    /// Notes a change of matches; gives the hosts to build anew.
    fn put_matches(&mut self, change: Change<TableSpec>) -> Vec<String> {
        let mut hosts = Vec::new();
        let (name, table) = match change {
            Change::Delete { name } => (name, None),
            Change::Put(table) => (table.name.clone(), Some(Arc::new(*table))),
        };
        if let Some(old) = self.tables.remove(&name) {
            for RouteMatch { host, path } in &old.spec.matches {
                if let Some(paths) = self.claims.get_mut(host) {
                    if let Some(names) = paths.get_mut(path) {
                        names.remove(&name);
                    }
                    paths.retain(|_, names| !names.is_empty());
                    if paths.is_empty() {
                        self.claims.remove(host);
                    }
                }
                hosts.push(host.clone());
            }
        }
        let Some(table) = table else {
            self.slots.remove(&name);
            return hosts;
        };
        // A new slot: the old one keeps showing the old service to who still looks at the old routes.
        let slot = Arc::new(ArcSwap::new(self.compile(&table)));
        self.slots.insert(name.clone(), slot);
        for RouteMatch { host, path } in &table.spec.matches {
            let names = self.claims.entry(host.clone()).or_default().entry(path.clone()).or_default();
            names.insert(name.clone());
            hosts.push(host.clone());
        }
        self.tables.insert(name, table);
        hosts
    }

    fn host(&self, host: &str) -> Option<Host> {
        let mut compiled = Host::default();
        for (path, names) in self.claims.get(host)? {
            if let Some(slot) = names.first().and_then(|name| self.slots.get(name)) {
                compiled.deepest = compiled.deepest.max(path.trim_end_matches('/').matches('/').count());
                compiled.prefixes.insert(path.trim_end_matches('/').to_owned(), Arc::clone(slot));
            }
        }
        Some(compiled)
    }
}

impl Host {
    /// The services whose prefix is their own name, in its order.
    fn named(&self) -> Vec<Arc<Service>> {
        let slots = self.prefixes.iter().map(|(prefix, slot)| (prefix, slot.load_full()));
        let named = |(prefix, service): (&String, Arc<Service>)| {
            let own = prefix.strip_prefix('/') == Some(service.name.service.as_str());
            own.then_some(service)
        };
        let mut services: Vec<Arc<Service>> = slots.filter_map(named).collect();
        services.sort_by(|one, other| one.name.cmp(&other.name));
        services
    }

    /// The longest prefix of `path` that ends where a segment does.
    fn find(&self, path: &str) -> Option<&Slot> {
        // Ends of the first segments: no further ones are looked at than the longest prefix has.
        let deep = path.match_indices('/').map(|(at, _)| at).skip(1).nth(self.deepest.saturating_sub(1));
        let mut prefix = match (self.deepest, deep) {
            (0, _) => "",
            (_, Some(end)) => path.get(..end).unwrap_or(path),
            (_, None) => path,
        };
        loop {
            if let Some(slot) = self.prefixes.get(prefix) {
                return Some(slot);
            }
            if prefix.is_empty() {
                return None;
            }
            prefix = prefix.rfind('/').and_then(|end| prefix.get(..end)).unwrap_or_default();
        }
    }
}

/// A host as tables have it: in lower case, without port and without the root's dot.
fn normal_host(host: &str) -> Cow<'_, str> {
    let host = match host.rfind(':') {
        // Colons inside brackets are an IPv6 address's own.
        Some(colon) if host.get(colon..).is_some_and(|port| !port.contains(']')) => {
            host.get(..colon).unwrap_or(host)
        }
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests;
