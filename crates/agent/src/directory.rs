//! The table of instances that take requests on this node, awake or asleep: read by every request without a lock, swapped whole by the
//! runners whenever an instance becomes ready or no longer is.

use crate::admission::{Line, Slot};
use arc_swap::ArcSwap;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tutti_model::{InstanceId, Millis, ServiceRef, VersionName, VersionRef};
use tutti_proxy::hop::HopTarget;

/// The instances of one version that take requests.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    version: VersionRef,
    /// Longest time to the first byte of an answer, waiting included.
    pub(crate) timeout: Millis,
    /// Those who wait for room.
    pub(crate) line: Arc<Line>,
    /// The instances that run.
    pub(crate) slots: Vec<Arc<Slot>>,
    /// Those that sleep until somebody waits in line. They and the slots are never both empty.
    asleep: Vec<InstanceId>,
}

/// An instance that sleeps: requests for it wait in line. Dropping it says that it does not wake, unless it was opened
/// meanwhile.
#[derive(Debug)]
pub(crate) struct Sleeper {
    directory: Arc<Directory>,
    version: VersionRef,
    instance: InstanceId,
    line: Arc<Line>,
}

impl Sleeper {
    /// Returns once somebody waits.
    pub(crate) async fn wanted(&self) {
        self.line.wanted().await;
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let forget = |group: &mut Group| group.asleep.retain(|known| *known != self.instance);
        self.directory.change(&self.version, None, forget);
    }
}

/// One state of the directory.
#[derive(Debug, Default)]
struct Table {
    by_instance: HashMap<InstanceId, Arc<Group>>,
    by_service: HashMap<ServiceRef, Vec<(VersionName, Arc<Group>)>>,
}

/// The instances that take requests.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    table: ArcSwap<Table>,
    /// What the table is made from; its mutex orders the writers.
    groups: Mutex<BTreeMap<VersionRef, Group>>,
}

impl Directory {
    /// The instances that may serve this: the wanted one's version, or else the same version by name.
    pub(crate) fn find(&self, target: &HopTarget) -> Option<Arc<Group>> {
        let table = self.table.load();
        let named = table.by_instance.get(&target.instance);
        // An id alone is not trusted: a stale table may name another service's.
        let named = named.filter(|group| {
            group.version.service == target.service && group.version.version == target.version
        });
        let group = named.or_else(|| {
            let versions = table.by_service.get(&target.service)?;
            versions.iter().find(|(version, _)| *version == target.version).map(|(_, group)| group)
        });
        group.cloned()
    }

    /// From now on this instance takes requests.
    pub(crate) fn open(&self, version: &VersionRef, timeout: Millis, slot: Arc<Slot>) {
        self.change(version, Some(timeout), |group| {
            group.slots.retain(|known| known.instance != slot.instance);
            group.asleep.retain(|known| *known != slot.instance);
            group.slots.push(slot);
        });
    }

    /// From now on requests for this instance wait in line until it is opened, or the sleeper is dropped.
    pub(crate) fn sleep(
        self: &Arc<Self>,
        version: &VersionRef,
        timeout: Millis,
        instance: &InstanceId,
    ) -> Sleeper {
        let line = self.change(version, Some(timeout), |group| {
            group.slots.retain(|known| known.instance != *instance);
            group.asleep.retain(|known| known != instance);
            group.asleep.push(instance.clone());
        });
        let line = line.unwrap_or_default();
        Sleeper { directory: Arc::clone(self), version: version.clone(), instance: instance.clone(), line }
    }

    /// From now on this instance takes none; those inside go on.
    pub(crate) fn close(&self, version: &VersionRef, slot: &Slot) {
        slot.close();
        self.change(version, None, |group| group.slots.retain(|known| known.instance != slot.instance));
    }

    /// Changes a version's group, which is made with this timeout if there is none, and forgotten once it is empty. Gives
    /// its line.
    fn change(
        &self,
        version: &VersionRef,
        make: Option<Millis>,
        change: impl FnOnce(&mut Group),
    ) -> Option<Arc<Line>> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(timeout) = make {
            groups.entry(version.clone()).or_insert_with(|| Group {
                version: version.clone(),
                timeout,
                line: Arc::default(),
                slots: Vec::new(),
                asleep: Vec::new(),
            });
        }
        let group = groups.get_mut(version)?;
        change(group);
        let (line, slots, asleep) = (Arc::clone(&group.line), group.slots.clone(), group.asleep.len());
        if slots.is_empty() && asleep == 0 {
            groups.remove(version);
        }
        self.publish(&groups);
        // After the table, so that whoever is let in from the line is also found in it; and before another changes it.
        line.set(slots, asleep);
        Some(line)
    }

    /// Requests that wait for room, over all versions.
    pub(crate) fn waiting(&self) -> usize {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.values().map(|group| group.line.waiting()).sum()
    }

    /// How long the first answer of each version took that has given one: its slowest instance's.
    pub(crate) fn first_answers(&self) -> Vec<(VersionRef, Duration)> {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let slowest =
            |group: &Group| group.slots.iter().filter_map(|slot| slot.first_answer.get().copied()).max();
        groups.iter().filter_map(|(version, group)| Some((version.clone(), slowest(group)?))).collect()
    }

    fn publish(&self, groups: &BTreeMap<VersionRef, Group>) {
        let mut table = Table::default();
        for (version, group) in groups {
            let group = Arc::new(group.clone());
            for slot in &group.slots {
                table.by_instance.insert(slot.instance.clone(), Arc::clone(&group));
            }
            for instance in &group.asleep {
                table.by_instance.insert(instance.clone(), Arc::clone(&group));
            }
            table
                .by_service
                .entry(version.service.clone())
                .or_default()
                .push((version.version.clone(), group));
        }
        self.table.store(Arc::new(table));
    }
}
