//! What a guest can reach: the data of its store, its limits, and the hooks that say no.

use crate::{engine::TABLE_ELEMENTS, guest::Meter};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// Things that the host keeps for one guest at once (streams, headers, timers). A request with a hundred of each is
/// far from it.
const HOST_RESOURCES: usize = 10_000;
/// Handles to them in the guest.
const GUEST_HANDLES: usize = 20_000;
/// What one call of the guest can make the host copy, in bytes: well over the largest piece of a body.
const HOSTCALL_BYTES: usize = 8 << 20;
/// Largest piece of a body that a guest writes at once, in bytes: two of these are what a slow client makes the host
/// hold for each request.
const BODY_PIECE_BYTES: usize = 256 << 10;
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
}

/// Memory that the guests of one instance hold at this moment.
#[derive(Debug, Default)]
pub(crate) struct MemoryGauge(AtomicU64);

impl MemoryGauge {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes the store of one request.
pub(crate) fn store(
    engine: &Engine,
    wasi: WasiCtx,
    memory: u64,
    gauge: Arc<MemoryGauge>,
    meter: Arc<Meter>,
) -> Store<State> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(HOST_RESOURCES);
    let limits = Limits { most: memory, held: 0, last: 0, gauge, meter: Arc::clone(&meter) };
    let state = State { wasi, http: WasiHttpCtx::new(), table, outgoing: Outgoing, limits };
    let mut store = Store::new(engine, state);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_max_component_handles(GUEST_HANDLES);
    store.limiter(|state| &mut state.limits);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| match meter.check() {
        Ok(()) => Ok(UpdateDeadline::Yield(1)),
        Err(exceeded) => Err(exceeded.into()),
    });
    store
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
        if held > self.most {
            // The guest is told that there is no memory, and may do without. If it fails now, this is why.
            self.meter.refuse_memory();
            return false;
        }
        self.held = held;
        self.last = more;
        self.gauge.0.fetch_add(more, Ordering::Relaxed);
        true
    }

    fn ungrow(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.held = self.held.saturating_sub(last);
        self.gauge.0.fetch_sub(last, Ordering::Relaxed);
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
        self.gauge.0.fetch_sub(self.held, Ordering::Relaxed);
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

/// What becomes of requests that a guest makes itself. This is where an allow-list will decide; for now there is none,
/// and every request is denied.
struct Outgoing;

type SentRequest =
    Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>), HttpError>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _ended: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = SentRequest> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_PIECE_BYTES
    }
}
