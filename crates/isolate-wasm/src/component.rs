//! What can be run: which bytes are a component, of the right world, and what it needs.

use crate::state::State;
use tutti_isolate::{Artifact, DriverError, Layer};
use wasmtime::{
    Engine,
    component::{Component, Linker},
};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// The media type of the one layer.
const MEDIA_TYPE: &str = "application/wasm";
/// The export that makes a component a service, without its patch version.
const HANDLER: &str = "wasi:http/incoming-handler@0.2.";
/// Largest component, in bytes: it is held in memory while it is compiled. Python's are 18 MB.
const COMPONENT_BYTES: u64 = 128 << 20;
/// Bytes of a page of a guest's memory.
const PAGE_BYTES: u64 = 64 << 10;
/// How many of a component's exports are shown.
const SHOWN: usize = 10;

/// A component that requests can be given to.
pub(crate) struct Runnable {
    pub(crate) pre: ProxyPre<State>,
    /// The memory that it has from its first instruction on, in bytes.
    pub(crate) initial_memory: u64,
    /// Its compiled code, in bytes of address space; the pages that are used are in memory.
    pub(crate) code: u64,
}

/// The layer of an artifact that holds its component.
pub(crate) fn layer(artifact: &Artifact) -> Result<&Layer, DriverError> {
    let unrunnable =
        |why: String| Err(DriverError::Unrunnable(format!("artifact {}: {why}", artifact.digest.short())));
    match artifact.layers.as_slice() {
        [layer] if layer.media_type != MEDIA_TYPE => unrunnable(format!(
            "its layer is \"{}\", where the wasm isolate runs \"{MEDIA_TYPE}\"",
            layer.media_type
        )),
        [layer] if layer.size > COMPONENT_BYTES => {
            unrunnable(format!("the component has {} bytes, and the most is {COMPONENT_BYTES}", layer.size))
        }
        [layer] => Ok(layer),
        layers => unrunnable(format!("it has {} layers, where a component is one", layers.len())),
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
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| format!("the component needs what the wasm isolate does not offer: {error:#}"))?;
    let pre = ProxyPre::new(pre)
        .map_err(|error| format!("its \"{HANDLER}x\" is not as it should be: {error:#}"))?;
    let needs =
        component.resources_required().ok_or("the component makes its parts from parts it is given")?;
    let largest = needs.max_initial_memory_size.unwrap_or(0);
    let code = component.image_range();
    let code = (code.end.addr() as u64).saturating_sub(code.start.addr() as u64);
    Ok(Runnable { pre, initial_memory: largest.saturating_mul(PAGE_BYTES), code })
}
