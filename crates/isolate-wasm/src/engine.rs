//! The engine and its pool: what every component gets, whoever sent it.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

/// Core modules in one component. Python's runtime brings about forty.
const MODULES_PER_COMPONENT: u32 = 100;
/// Memories in one component. One that adapts an older module has two; more is for composed ones.
const MEMORIES_PER_COMPONENT: u32 = 4;
/// Tables in one component, for the same reason.
const TABLES_PER_COMPONENT: u32 = 100;
/// Memories and tables that the whole pool has for each request, on average: reserved address space is the cost.
const MEMORIES_PER_REQUEST: u32 = 2;
const TABLES_PER_REQUEST: u32 = 8;
/// Entries of one table. Large languages' runtimes have some ten thousand functions.
pub(crate) const TABLE_ELEMENTS: usize = 100_000;
/// The engine's own data about one component instance. The default of 1 MiB rejects large components.
const INSTANCE_BYTES: usize = 16 << 20;
/// Largest memory of a guest, and what is reserved for each: with the whole 32-bit range, no access needs a check.
const MEMORY_BYTES: u64 = 4 << 30;
/// Stack of a guest, and of the host functions that it calls above that.
const GUEST_STACK_BYTES: usize = 512 << 10;
const STACK_BYTES: usize = GUEST_STACK_BYTES + (512 << 10);
/// What an idle slot keeps rather than give it back to the kernel after each request: a small guest's working set.
const MEMORY_KEPT_BYTES: usize = 256 << 10;
const STACK_KEPT_BYTES: usize = 32 << 10;
const TABLE_KEPT_BYTES: usize = 8 << 10;
/// Slots that may stay warm while nobody uses them: with the above, 10 MiB at most.
const WARM_SLOTS: u32 = 32;

/// Makes the engine for so many requests at once, or for as many as there is address space for, which a limit on it
/// (`ulimit -v`) may make fewer. Says how many.
///
/// # Errors
/// The engine's, if not even one request has room.
pub(crate) fn make(requests: u32) -> wasmtime::Result<(Engine, u32)> {
    most(requests, engine)
}

/// Tries with fewer and fewer.
fn most<T, E>(requests: u32, make: impl Fn(u32) -> Result<T, E>) -> Result<(T, u32), E> {
    let mut requests = requests.max(1);
    loop {
        match make(requests) {
            Ok(made) => return Ok((made, requests)),
            Err(error) if requests == 1 => return Err(error),
            Err(_) => requests = requests.div_ceil(2),
        }
    }
}

fn engine(requests: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(requests)
        .total_core_instances(requests.saturating_mul(MODULES_PER_COMPONENT))
        .total_memories(requests.saturating_mul(MEMORIES_PER_REQUEST))
        .total_tables(requests.saturating_mul(TABLES_PER_REQUEST))
        .total_stacks(requests)
        .max_core_instances_per_component(MODULES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(MEMORY_BYTES).unwrap_or(usize::MAX))
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(MEMORY_KEPT_BYTES)
        .table_keep_resident(TABLE_KEPT_BYTES)
        .async_stack_keep_resident(STACK_KEPT_BYTES)
        // Where the kernel can tell which pages were written, only those are cleaned.
        .pagemap_scan(Enabled::Auto);
    Engine::new(config().allocation_strategy(InstanceAllocationStrategy::Pooling(pool)))
}

/// An engine that compiles for the others and runs nothing: the same but for the pool, which reserves more address
/// space than a compiler is given.
///
/// # Errors
/// The engine's, if this host has not what the settings ask for.
pub(crate) fn for_compiling() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .memory_reservation(MEMORY_BYTES)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(STACK_BYTES)
        // A stack that one tenant has used is clean, and given back, before another's guest runs on it.
        .async_stack_zeroing(true)
        // The concurrent interfaces are those of WASI 0.3, which is not offered.
        .concurrency_support(false)
        // Measured on the wasm sample (85 KiB, two cores): 50 ms to compile; 41 ms without optimization; 37 ms with the
        // single-pass register allocator, whose code is half as large again. A push pays that once, requests always.
        .cranelift_opt_level(OptLevel::Speed);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_compiler_s_engine_makes_the_others_run() {
        let hash = crate::compiler::hash;
        assert_eq!(hash(&for_compiling().unwrap()), hash(&make(1).unwrap().0));
        assert_ne!(hash(&for_compiling().unwrap()), hash(&Engine::default()));
    }

    #[test]
    fn settles_for_fewer_requests_where_there_is_less_room() {
        let room_for =
            |room: u32| move |requests: u32| if requests <= room { Ok(requests) } else { Err("no room") };
        assert_eq!(most(1000, room_for(1000)), Ok((1000, 1000)));
        assert_eq!(most(1000, room_for(300)), Ok((250, 250)));
        assert_eq!(most(0, room_for(1)), Ok((1, 1)));
        assert_eq!(most(7, room_for(1)), Ok((1, 1)));
        assert_eq!(most(1000, room_for(0)), Err("no room"));
    }
}
