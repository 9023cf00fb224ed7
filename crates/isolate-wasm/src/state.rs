//! What a guest can reach: the data of its store, its limits, and the hooks that say no.

use crate::{denied::Denials, engine::TABLE_ELEMENTS, grpc::Call, guest::Meter, outgoing::Outgoing};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Things that the host keeps for one guest at once (streams, headers, timers). A request with a hundred of each is
/// far from it.
const HOST_RESOURCES: usize = 10_000;
/// Handles to them in the guest.
const GUEST_HANDLES: usize = 20_000;
/// What one call of the guest can make the host copy, in bytes: well over the largest piece of a body.
const HOSTCALL_BYTES: usize = 8 << 20;
/// Largest piece of a body that a guest writes at once, in bytes: two of these are what a slow client makes the host
/// hold for each request.
pub(crate) const BODY_PIECE_BYTES: usize = 256 << 10;
/// Core instances, memories and tables in one store; the pool's own bounds are per component.
const STORE_ITEMS: usize = 1000;
/// Table entries that count as much memory as they take.
const TABLE_ENTRY_BYTES: usize = size_of::<usize>();

/// The data of a store.
pub(crate) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outgoing: Outgoing,
    limits: Limits,
    /// The gRPC call that the guest serves.
    pub(crate) call: Option<Box<Call>>,
}

/// Memory that guests hold at this moment: those of one instance, and through it those of the whole node. A manifest
/// bounds a request; this bounds what many requests of one tenant take from the others, and from the agent itself.
#[derive(Debug)]
pub(crate) struct MemoryGauge {
    held: AtomicU64,
    most: u64,
    node: Option<Arc<MemoryGauge>>,
}

impl MemoryGauge {
    /// All guests of a node.
    pub(crate) fn node(most: u64) -> Arc<MemoryGauge> {
        Arc::new(MemoryGauge { held: AtomicU64::new(0), most, node: None })
    }

    /// The guests of one instance, of which each request may take `of_request`: at most half of the node's, so that
    /// others have room, unless a single request needs more.
    pub(crate) fn instance(node: &Arc<MemoryGauge>, of_request: u64) -> Arc<MemoryGauge> {
        let most = (node.most / 2).max(of_request);
        Arc::new(MemoryGauge { held: AtomicU64::new(0), most, node: Some(Arc::clone(node)) })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn take(&self, more: u64) -> bool {
        let room = |held: u64| held.checked_add(more).filter(|sum| *sum <= self.most);
        if self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return false;
        }
        let taken = self.node.as_ref().is_none_or(|node| node.take(more));
        if !taken {
            self.held.fetch_sub(more, Ordering::Relaxed);
        }
        taken
    }

    fn give(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(node) = &self.node {
            node.give(bytes);
        }
    }
}

/// Memory that the host holds for a guest, counted with the guest's own.
#[derive(Debug)]
pub(crate) struct Held {
    gauge: Arc<MemoryGauge>,
    bytes: u64,
}

impl Held {
    /// `None` if there is none left.
    pub(crate) fn take(gauge: &Arc<MemoryGauge>, bytes: u64) -> Option<Held> {
        gauge.take(bytes).then(|| Held { gauge: Arc::clone(gauge), bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.give(self.bytes);
    }
}

/// Makes the store of one request. `memory` is the most that it may hold, and `copied` what it may make
/// the host copy at once beside what any guest may, in bytes.
pub(crate) fn store(
    engine: &Engine,
    wasi: WasiCtx,
    outgoing: Outgoing,
    (memory, copied): (u64, usize),
    gauge: Arc<MemoryGauge>,
    meter: Arc<Meter>,
) -> Store<State> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(HOST_RESOURCES);
    let limits = Limits { most: memory, held: 0, last: 0, gauge, meter: Arc::clone(&meter) };
    let state = State { wasi, http: WasiHttpCtx::new(), table, outgoing, limits, call: None };
    let mut store = Store::new(engine, state);
    store.set_hostcall_fuel(HOSTCALL_BYTES.saturating_add(copied));
    store.set_max_component_handles(GUEST_HANDLES);
    store.limiter(|state| &mut state.limits);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| match meter.check() {
        Ok(()) => Ok(UpdateDeadline::Yield(1)),
        Err(exceeded) => Err(exceeded.into()),
    });
    store
}

impl State {
    /// Where the guest is told what it may not do.
    pub(crate) fn denials(&self) -> &Denials {
        self.outgoing.denials()
    }
}

/// Bounds the memory of one request, over all its memories and tables together.
struct Limits {
    most: u64,
    held: u64,
    last: u64,
    gauge: Arc<MemoryGauge>,
    meter: Arc<Meter>,
}

impl Limits {
    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current) as u64;
        let held = self.held.saturating_add(more);
        if held > self.most || !self.gauge.take(more) {
            // The guest is told that there is no memory, and may do without. If it fails now, this is why.
            self.meter.refuse_memory();
            return false;
        }
        self.held = held;
        self.last = more;
        true
    }

    fn ungrow(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.held = self.held.saturating_sub(last);
        self.gauge.give(last);
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.ungrow();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |entries: usize| entries.saturating_mul(TABLE_ENTRY_BYTES);
        Ok(desired <= TABLE_ELEMENTS && self.grow(bytes(current), bytes(desired)))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.ungrow();
        Ok(())
    }

    fn instances(&self) -> usize {
        STORE_ITEMS
    }

    fn tables(&self) -> usize {
        STORE_ITEMS
    }

    fn memories(&self) -> usize {
        STORE_ITEMS
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.gauge.give(self.held);
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instance_leaves_room_for_others() {
        let node = MemoryGauge::node(100);
        let (greedy, other) = (MemoryGauge::instance(&node, 10), MemoryGauge::instance(&node, 10));
        assert!((0..5).all(|_| greedy.take(10)));
        assert!(!greedy.take(10) && other.take(50) && !other.take(1));
        assert_eq!((greedy.bytes(), other.bytes(), node.bytes()), (50, 50, 100));
        greedy.give(50);
        assert_eq!(node.bytes(), 50);
        // A request that needs more than half may have it, if it is there.
        let large = MemoryGauge::instance(&node, 80);
        assert!(!large.take(80) && large.bytes() == 0);
        other.give(50);
        assert!(large.take(80));
    }
}
