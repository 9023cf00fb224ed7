//! What can be run: which bytes are a component, of which world, and what it needs.

use crate::{compiled, grpc::Service, state::State};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tutti_isolate::{Artifact, DriverError, Layer};
use tutti_model::version::WASM_INTERFACES;
use wasmtime::{
    Engine,
    component::{Component, InstancePre, Linker},
};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// The media type of the first layer, the component.
const MEDIA_TYPE: &str = "application/wasm";
/// The media type of the second layer of a gRPC service: a serialized `FileDescriptorSet` with its imports.
const DESCRIPTORS: &str = "application/vnd.tutti.descriptor-set.v1+protobuf";
/// The export that makes a component a service, without its patch version.
const HANDLER: &str = "wasi:http/incoming-handler@0.2.";
/// Largest component, in bytes: it is held in memory while it is compiled. Python's are 18 MB.
const COMPONENT_BYTES: u64 = 128 << 20;
/// Largest descriptor set, in bytes: what it is checked against when it is opened.
const DESCRIPTOR_BYTES: u64 = tutti_proto::limits::SET_BYTES as u64;
/// Bytes of a page of a guest's memory.
const PAGE_BYTES: u64 = 64 << 10;
/// How many of a component's exports are shown.
const SHOWN: usize = 10;

/// A component that requests can be given to.
pub(crate) struct Runnable {
    pub(crate) kind: Kind,
    /// The memory that it has from its first instruction on, in bytes.
    pub(crate) initial_memory: u64,
    /// Its compiled code, in bytes of address space; the pages that are used are in memory.
    pub(crate) code: u64,
    pub(crate) idle: Idle,
}

/// Whether a component's pages are worth their memory. A thousand versions that nobody calls should weigh little.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    /// A guest was made since the last look.
    used: AtomicBool,
    /// One was made since the pages were given back.
    resident: AtomicBool,
}

/// What requests to a component are.
pub(crate) enum Kind {
    /// `wasi:http`.
    Http(ProxyPre<State>),
    /// gRPC calls.
    Grpc(Arc<Service>),
}

impl Runnable {
    /// Says that a guest is being made of it.
    pub(crate) fn used(&self) {
        // Written only where it changes something, since all requests share it.
        if !self.idle.used.load(Ordering::Relaxed) {
            self.idle.used.store(true, Ordering::Relaxed);
        }
    }

    /// Takes its pages out of memory if no guest was made of it since the last look.
    pub(crate) fn look(&self) {
        if self.idle.used.swap(false, Ordering::Relaxed) {
            self.idle.resident.store(true, Ordering::Relaxed);
        } else if self.idle.resident.swap(false, Ordering::Relaxed) {
            compiled::give_back(self.instance_pre().component());
        }
    }

    /// Takes its pages out of memory, where nobody has called it yet.
    pub(crate) fn rest(&self) {
        if !self.idle.resident.load(Ordering::Relaxed) {
            self.idle.used.store(false, Ordering::Relaxed);
            compiled::give_back(self.instance_pre().component());
        }
    }

    #[cfg(test)]
    pub(crate) fn resident(&self) -> bool {
        self.idle.resident.load(Ordering::Relaxed)
    }

    /// What is instantiated for each request.
    pub(crate) fn instance_pre(&self) -> &InstancePre<State> {
        match &self.kind {
            Kind::Http(pre) => pre.instance_pre(),
            Kind::Grpc(service) => &service.pre,
        }
    }
}

/// An artifact's layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers<'a> {
    pub(crate) component: &'a Layer,
    /// There only if the component serves gRPC.
    pub(crate) descriptors: Option<&'a Layer>,
}

/// The layers of an artifact that make a component of it.
pub(crate) fn layers(artifact: &Artifact) -> Result<Layers<'_>, DriverError> {
    let unrunnable =
        |why: String| Err(DriverError::Unrunnable(format!("artifact {}: {why}", artifact.digest.short())));
    match artifact.layers.as_slice() {
        [layer] | [layer, _] if layer.media_type != MEDIA_TYPE => unrunnable(format!(
            "its layer is \"{}\", where the wasm isolate runs \"{MEDIA_TYPE}\"",
            layer.media_type
        )),
        [_, second] if second.media_type != DESCRIPTORS => unrunnable(format!(
            "its second layer is \"{}\", where a gRPC service has \"{DESCRIPTORS}\"",
            second.media_type
        )),
        [layer] | [layer, _] if layer.size > COMPONENT_BYTES => {
            unrunnable(format!("the component has {} bytes, and the most is {COMPONENT_BYTES}", layer.size))
        }
        [layer] => Ok(Layers { component: layer, descriptors: None }),
        [_, second] if second.size > DESCRIPTOR_BYTES => unrunnable(format!(
            "its descriptors have {} bytes, and the most is {DESCRIPTOR_BYTES}",
            second.size
        )),
        [layer, second] => Ok(Layers { component: layer, descriptors: Some(second) }),
        layers => unrunnable(format!(
            "it has {} layers, where a component is one, and one that serves gRPC two",
            layers.len()
        )),
    }
}

/// Refuses what is not a component, saying what it is.
pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(), String> {
    let kind = match bytes {
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            "a plain WebAssembly module; build it for the target wasm32-wasip2, or wrap it with \
             \"wasm-tools component new\""
        }
        [b'\0', b'a', b's', b'm', ..] => "WebAssembly of a version that is not known",
        [0x7f, b'E', b'L', b'F', ..] => "a program for Linux; push it with isolate = \"process\"",
        [b'#', b'!', ..] => "a script; push it with isolate = \"process\"",
        [b'(', ..] => "WebAssembly text; make it binary with \"wasm-tools parse\"",
        [] => "nothing: the file is empty",
        _ => "something else than WebAssembly",
    };
    Err(format!("this is not a component but {kind}"))
}

/// Links a component to what guests may call, and checks that it is a service.
pub(crate) fn link(
    engine: &Engine,
    linker: &Linker<State>,
    component: &Component,
) -> Result<Runnable, String> {
    let kind = component.component_type();
    if !kind.exports(engine).any(|(name, _)| name.starts_with(HANDLER)) {
        let mut exports: Vec<_> = kind.exports(engine).map(|(name, _)| format!("\"{name}\"")).collect();
        exports.truncate(SHOWN);
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        return Err(format!(
            "the component does not export \"{HANDLER}x\", so it cannot answer HTTP; it exports {exports}"
        ));
    }
    let missing: Vec<_> = kind
        .imports(engine)
        .filter(|(name, _)| !WASM_INTERFACES.iter().any(|offered| name.starts_with(offered)))
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "the component needs what the wasm isolate does not offer: {}; it offers WASI 0.2 and wasi:http",
            missing.join(", ")
        ));
    }
    // A function that an interface of the right name does not have is found here.
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| format!("the component needs what the wasm isolate does not offer: {error:#}"))?;
    let pre = ProxyPre::new(pre)
        .map_err(|error| format!("its \"{HANDLER}x\" is not as it should be: {error:#}"))?;
    runnable(component, Kind::Http(pre))
}

/// What a component needs to run.
pub(crate) fn runnable(component: &Component, kind: Kind) -> Result<Runnable, String> {
    let needs =
        component.resources_required().ok_or("the component makes its parts from parts it is given")?;
    let largest = needs.max_initial_memory_size.unwrap_or(0);
    let code = component.image_range();
    let code = (code.end.addr() as u64).saturating_sub(code.start.addr() as u64);
    let initial_memory = largest.saturating_mul(PAGE_BYTES);
    Ok(Runnable { kind, initial_memory, code, idle: Idle::default() })
}
