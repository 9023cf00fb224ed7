//! The objects of one kind as a watch tells them.

use crate::{Change, WatchEvent};
use std::collections::{BTreeMap, BTreeSet};
use tutti_model::{Resource, resource::Object};

/// Every object of one kind, by name.
#[derive(Debug)]
pub struct Cache<S: Object> {
    objects: BTreeMap<String, Resource<S>>,
    /// Names told since `Init`; whatever is not among them by `InitDone` is gone.
    initial: Option<BTreeSet<String>>,
    revision: u64,
    synced: bool,
}

impl<S: Object> Default for Cache<S> {
    fn default() -> Self {
        Cache { objects: BTreeMap::new(), initial: None, revision: 0, synced: false }
    }
}

impl<S: Object> Cache<S> {
    /// Takes an event; gives the objects that changed, as they are now or, if gone, as they were.
    pub fn apply(&mut self, event: WatchEvent<S>) -> Vec<Resource<S>> {
        match event {
            WatchEvent::Init => {
                self.initial = Some(BTreeSet::new());
                Vec::new()
            }
            WatchEvent::InitItem(object) => {
                if let Some(initial) = &mut self.initial {
                    initial.insert(object.name.clone());
                }
                let known = self.objects.insert(object.name.clone(), (*object).clone());
                if known.as_ref() == Some(&*object) { Vec::new() } else { vec![*object] }
            }
            WatchEvent::InitDone { revision } => {
                self.revision = revision;
                self.synced = true;
                let told = self.initial.take().unwrap_or_default();
                let gone: Vec<String> =
                    self.objects.keys().filter(|name| !told.contains(*name)).cloned().collect();
                gone.iter().filter_map(|name| self.objects.remove(name)).collect()
            }
            WatchEvent::Changes { revision, changes } => {
                self.revision = revision;
                let changed = changes.into_iter().filter_map(|change| match change {
                    Change::Put(object) => {
                        self.objects.insert(object.name.clone(), (*object).clone());
                        Some(*object)
                    }
                    Change::Delete { name } => self.objects.remove(&name),
                });
                changed.collect()
            }
        }
    }

    /// Nothing counts as complete before the next `Init` has been told to its end.
    pub const fn doubt(&mut self) {
        self.synced = false;
    }

    /// Whether everything there was has been told.
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        self.synced
    }

    /// The revision up to which it is complete.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The object of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Resource<S>> {
        self.objects.get(name)
    }

    /// Every object whose name starts with `prefix`, in name order.
    pub fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = &Resource<S>> {
        let from = self.objects.range(prefix.to_owned()..);
        from.take_while(move |(name, _)| name.starts_with(prefix)).map(|(_, object)| object)
    }

    /// Every object, in name order.
    pub fn iter(&self) -> impl Iterator<Item = &Resource<S>> {
        self.objects.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_model::{Timestamp, Uid, domain::DomainSpec};

    fn domain(name: &str) -> Box<Resource<DomainSpec>> {
        Box::new(Resource::new(name, Uid::from_bits(1), Timestamp(0), DomainSpec::default()))
    }

    #[test]
    fn a_second_beginning_drops_what_is_gone_and_tells_only_what_changed() {
        let mut cache = Cache::default();
        cache.apply(WatchEvent::Init);
        cache.apply(WatchEvent::InitItem(domain("a.com")));
        cache.apply(WatchEvent::InitItem(domain("b.com")));
        assert!(!cache.is_synced());
        cache.apply(WatchEvent::InitDone { revision: 5 });
        assert!(cache.is_synced());
        cache.apply(WatchEvent::Init);
        assert!(cache.apply(WatchEvent::InitItem(domain("b.com"))).is_empty());
        let gone = cache.apply(WatchEvent::InitDone { revision: 9 });
        assert_eq!((gone.len(), gone[0].name.as_str(), cache.revision()), (1, "a.com", 9));
        assert!(cache.get("a.com").is_none() && cache.get("b.com").is_some());
    }
}
