//! One service's table, ready to be used: which version a request goes to by weight, which instance by load.
//!
//! A value of [`Service`] never changes; a changed table makes a new one. What lasts from one to the next is shared:
//! the turn, the counts, and how busy each instance is.

use crate::{
    stats::Counters,
    turn::{RING, Turn, Turns},
};
use http::HeaderValue;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};
use tutti_model::{
    InstanceId, Millis, ServiceRef, Timestamp, VersionName,
    name::NodeName,
    service::Upstream,
    stats::ServiceStats,
    table::{Backend, TableSpec, VersionBackend},
};
use tutti_proxy::HopTarget;

/// How long an endpoint that could not be reached is left out: long enough not to be tried by every request, short
/// enough to come back by itself should the table not change.
const LEFT_OUT: Millis = Millis::seconds(2);
/// Versions of one service whose counts are kept, those without a share included: twice as many as may share.
const COUNTED_VERSIONS: usize = 2 * tutti_model::limits::SPLIT_VERSIONS;

/// What of a service outlives its tables.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    pub(crate) turns: Turns,
    /// By version, the longest known first; locked when a table changes or figures are read, never by a request.
    counters: Mutex<Vec<(Option<VersionName>, Arc<Counters>)>>,
}

impl Lasting {
    fn counters(&self, version: Option<&VersionName>, in_table: &[VersionBackend]) -> Arc<Counters> {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = all.iter().find(|(one, _)| one.as_ref() == version) {
            return Arc::clone(known);
        }
        if all.len() >= COUNTED_VERSIONS {
            let gone = |(one, _): &(Option<VersionName>, _)| {
                !in_table.iter().any(|kept| Some(&kept.version) == one.as_ref())
            };
            if let Some(at) = all.iter().position(gone) {
                all.remove(at);
            }
        }
        let new = Arc::new(Counters::default());
        all.push((version.cloned(), Arc::clone(&new)));
        new
    }

    /// The figures of every version that was asked.
    pub(crate) fn stats(&self, service: &ServiceRef) -> Vec<ServiceStats> {
        let all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let touched = all.iter().filter(|(_, counters)| !counters.is_untouched());
        touched
            .map(|(version, counters)| ServiceStats {
                service: service.clone(),
                version: version.clone(),
                stats: counters.read(),
            })
            .collect()
    }
}

/// How an endpoint is doing.
#[derive(Debug, Default)]
pub(crate) struct Load {
    running: AtomicU32,
    /// Milliseconds since the epoch until which it is left out; 0 if it is not.
    out_until: AtomicU64,
}

impl Load {
    fn is_out(&self, now: &impl Fn() -> Timestamp) -> bool {
        // The clock is read only for the few that were left out at all.
        let until = self.out_until.load(Ordering::Relaxed);
        until != 0 && now().0 < until
    }

    /// It could not be reached: leaves it out for a while.
    pub(crate) fn leave_out(&self, now: Timestamp) {
        self.out_until.store(now.plus(LEFT_OUT).0, Ordering::Relaxed);
    }

    /// A request goes there; it is there until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Busy {
        self.running.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }
}

/// One request at an endpoint.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Load>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One service as its table says, with everything precomputed that a request needs.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: ServiceRef,
    /// The name as a field's value.
    pub(crate) header: HeaderValue,
    pub(crate) backend: Served,
    pub(crate) lasting: Arc<Lasting>,
}

/// By what a service is served.
#[derive(Debug)]
pub(crate) enum Served {
    Nothing(String),
    Versions(Vec<Version>),
    Upstreams(Vec<Address>, Arc<Counters>),
}

/// One version's arc of the ring and its instances.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) header: HeaderValue,
    pub(crate) counters: Arc<Counters>,
    pub(crate) timeout: Millis,
    weight: u32,
    /// The first position of the ring that is not its own.
    end: u32,
    places: Vec<Place>,
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) node: NodeName,
    pub(crate) target: HopTarget,
    /// The instance's id as a field's value.
    pub(crate) header: HeaderValue,
    pub(crate) load: Arc<Load>,
}

/// One plain upstream.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) upstream: Upstream,
    pub(crate) load: Arc<Load>,
}

/// The names of model types are plain ASCII, which every field may hold.
fn header(text: &impl ToString) -> HeaderValue {
    HeaderValue::try_from(text.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

impl Service {
    /// From a table, taking over from the service as it was before.
    pub(crate) fn new(table: &TableSpec, before: Option<&Service>) -> Self {
        let lasting = before.map_or_else(Arc::default, |before| Arc::clone(&before.lasting));
        let backend = match &table.backend {
            Backend::None { reason } => Served::Nothing(reason.clone()),
            Backend::Versions(versions) => {
                Served::Versions(Self::versions(table, versions, before, &lasting))
            }
            Backend::Upstreams(upstreams) => {
                let addresses = upstreams
                    .iter()
                    .map(|upstream| Address { upstream: upstream.clone(), load: Arc::default() });
                Served::Upstreams(addresses.collect(), lasting.counters(None, &[]))
            }
        };
        Service { name: table.service.clone(), header: header(&table.service), backend, lasting }
    }

    fn versions(
        table: &TableSpec,
        versions: &[VersionBackend],
        before: Option<&Service>,
        lasting: &Lasting,
    ) -> Vec<Version> {
        let known: HashMap<&InstanceId, &Arc<Load>> = match before.map(|before| &before.backend) {
            Some(Served::Versions(before)) => before
                .iter()
                .flat_map(|version| &version.places)
                .map(|place| (&place.target.instance, &place.load))
                .collect(),
            _ => HashMap::new(),
        };
        let mut end = 0;
        versions
            .iter()
            .map(|version| {
                end += version.weight.millionths();
                let place = |endpoint: &tutti_model::table::Endpoint| {
                    let load =
                        known.get(&endpoint.instance).map_or_else(Arc::default, |load| Arc::clone(load));
                    // Control has seen the world anew.
                    load.out_until.store(0, Ordering::Relaxed);
                    let target = HopTarget {
                        service: table.service.clone(),
                        version: version.version.clone(),
                        instance: endpoint.instance.clone(),
                    };
                    Place { node: endpoint.node.clone(), target, header: header(&endpoint.instance), load }
                };
                Version {
                    header: header(&version.version),
                    counters: lasting.counters(Some(&version.version), versions),
                    timeout: version.timeout,
                    weight: version.weight.millionths(),
                    end,
                    places: version.endpoints.iter().map(place).collect(),
                }
            })
            .collect()
    }
}

/// Where a request has been already.
pub(crate) type Tried = [InstanceId];

/// The version and instance for this turn. A version none of whose instances can be reached gives its share to the
/// others, in their proportion; with none at all, one that was left out is tried after all.
pub(crate) fn pick<'a>(
    versions: &'a [Version],
    turn: Turn,
    tried: &Tried,
    now: impl Fn() -> Timestamp,
) -> Option<(&'a Version, &'a Place)> {
    let own = versions.iter().find(|version| turn.position < version.end).or(versions.last())?;
    let usable = |place: &Place| !place.load.is_out(&now) && !tried.contains(&place.target.instance);
    if let Some(place) = own.pick(turn.bits(), &usable) {
        return Some((own, place));
    }
    let others = || versions.iter().filter(|version| version.places.iter().any(&usable));
    let live: u64 = others().map(|version| u64::from(version.weight)).sum();
    let within = u64::from(turn.position.saturating_sub(own.end.saturating_sub(own.weight)));
    let mut at = within * live / u64::from(own.weight.max(1));
    for version in others() {
        let weight = u64::from(version.weight);
        if at < weight {
            return version.pick(turn.bits(), &usable).map(|place| (version, place));
        }
        at -= weight;
    }
    let untried = |place: &Place| !tried.contains(&place.target.instance);
    let either = std::iter::once(own).chain(versions);
    either.into_iter().find_map(|version| version.pick(turn.bits(), &untried).map(|place| (version, place)))
}

impl Version {
    /// The less busy of two usable instances, taken by chance: nearly as good as the least busy of all, and blind to
    /// how many there are.
    fn pick(&self, bits: u64, usable: &impl Fn(&Place) -> bool) -> Option<&Place> {
        let count = u64::try_from(self.places.len()).unwrap_or(u64::MAX).max(1);
        let first = usize::try_from((bits >> 32) % count).unwrap_or(0);
        let step =
            if count > 1 { 1 + usize::try_from((bits & 0xffff_ffff) % (count - 1)).unwrap_or(0) } else { 0 };
        let place = |at: usize| self.places.get(at % self.places.len().max(1)).filter(|place| usable(place));
        match (place(first), place(first + step)) {
            (Some(one), Some(other)) => {
                let running = |place: &Place| place.load.running.load(Ordering::Relaxed);
                Some(if running(other) < running(one) { other } else { one })
            }
            (Some(one), None) | (None, Some(one)) => Some(one),
            (None, None) => (0..self.places.len()).find_map(|offset| place(first + offset)),
        }
    }
}

/// The upstreams in the order in which to try them on this turn; those left out come last.
pub(crate) fn in_turn(
    addresses: &[Address],
    turn: Turn,
    now: impl Fn() -> Timestamp + Copy,
) -> impl Iterator<Item = &Address> {
    let count = u64::try_from(addresses.len()).unwrap_or(u64::MAX).max(1);
    let first = usize::try_from(turn.number % count).unwrap_or(0);
    let all = move || addresses.iter().cycle().skip(first).take(addresses.len());
    all().filter(move |one| !one.load.is_out(&now)).chain(all().filter(move |one| one.load.is_out(&now)))
}

/// The ring's length as positions are counted.
const _: () = assert!(RING == 1_000_000, "weights are millionths");

#[cfg(test)]
mod tests;
