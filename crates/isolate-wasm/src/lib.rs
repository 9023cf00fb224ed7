//! WebAssembly components of `wasi:http`; the only owner of the wasm engine.
//!
//! An instance of this isolate is a component, compiled and pre-linked, that a call can be made to: every request gets
//! an instance of the component's memory of its own, from a pool, and is ended with it. So requests cannot see each
//! other's data, a version that nobody calls costs next to nothing, and starting one takes no time worth naming.
//!
//! Guests are hostile. What they get is clocks, randomness, standard output and error (to the instance's log) and the
//! environment of their manifest. There are no files and no sockets, which their log tells them ([`denied`]), and
//! requests only to the hosts that the manifest allows ([`outgoing`], [`tls`]). Memory, cpu time,
//! time to the head of an answer, stack, tables, handles and what they make the host keep are bounded, each by a named
//! constant or by the manifest.
//!
//! The way of a request: [`driver`] hands out an [`instance`], whose [`handler`] makes a store ([`state`]) and polls
//! the guest ([`guest`]) until there is the head of an answer, then as long as the body is read ([`answer`]). The
//! [`engine`] is interrupted by the [`ticker`] while any guest runs, and what computes for long does so in the [`lane`],
//! beside the threads of short requests. The way of an artifact: [`loader`] has a
//! [`component`] compiled once and kept by [`compiled`], the only module with `unsafe`.
//!
//! Compiling runs in a child process ([`compiler`]) with little priority and [`Limits`] to its memory and time, at most
//! [`WasmOptions::compilers`] at once. Compiled code comes from there only: not from a registry, not from another node.

mod answer;
mod compiled;
pub mod compiler;
mod component;
mod denied;
mod driver;
mod engine;
#[doc(hidden)]
pub mod grpc;
mod guest;
mod handler;
mod instance;
mod lane;
mod loader;
mod log;
mod outgoing;
mod state;
mod ticker;
mod tls;

pub use driver::WasmDriver;

use compiler::Limits;
use std::{path::PathBuf, sync::Arc};
use tutti_base::Clock;

/// What the driver is given by whoever wires it.
#[derive(Debug, Clone)]
pub struct WasmOptions {
    /// The folder of compiled components. It is made if need be, and must belong to this user alone: what is in it is
    /// run.
    pub cache: PathBuf,
    /// Most bytes of compiled components kept there; the least recently used go first.
    pub cache_bytes: u64,
    /// Requests that guests may work on at once, over all instances. Each reserves address space, not memory.
    pub requests: u32,
    /// Most memory, in bytes, that guests hold together, whatever their manifests allow.
    pub memory: u64,
    /// Components compiled at once.
    pub compilers: usize,
    /// The program that compiles when run with `compiler_args`, whose `main` begins with [`compiler::entry`]: our own
    /// binary, `/proc/self/exe`.
    pub compiler: PathBuf,
    /// Its first arguments: `["compile"]`.
    pub compiler_args: Vec<String>,
    /// What compiling one component may take.
    pub compile_limits: Limits,
    /// Root certificates, in PEM, that servers of guests' requests have to show a certificate of; `None`: the host's, or
    /// those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Read when they are first needed.
    pub roots: Option<PathBuf>,
    /// What log lines are stamped with. Time limits are the machine's own time: they bound real work.
    pub clock: Arc<dyn Clock>,
}

impl WasmOptions {
    /// The defaults, with this folder and clock, for a program that compiles when it is called `PROGRAM compile`. Any
    /// other, a test's for one, has to name the program that does.
    #[must_use]
    pub fn new(cache: PathBuf, clock: Arc<dyn Clock>) -> Self {
        WasmOptions {
            cache,
            // About a hundred large components (18 MB of Python compile to about 10 times a Rust hello's 1 MB).
            cache_bytes: 1 << 30,
            // Ten instances at the default concurrency, all busy.
            requests: 1000,
            memory: half_of_memory(),
            // One: compiling uses every core already.
            compilers: 1,
            compiler: "/proc/self/exe".into(),
            compiler_args: vec!["compile".into()],
            compile_limits: Limits::default(),
            roots: None,
            clock,
        }
    }
}

/// Half of the machine's memory: the other half is for processes, for what the host keeps for guests, and for the agent.
fn half_of_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit)) / 2
}
