//! Objects for the tests of this crate.

use crate::placement::NodeView;
use tutti_model::{
    Digest, VersionRef,
    manifest::Manifest,
    node::Resources,
    quantity::{ByteSize, MilliCpu},
    version::{Isolate, VersionSpec},
};

/// A version of `example.com:web` with the default manifest.
pub(crate) fn version(name: &str) -> VersionSpec {
    let version: VersionRef = format!("example.com:web@{name}").parse().unwrap();
    VersionSpec {
        version,
        artifact: Digest::from_sha256(&[7; 32]),
        size: 1,
        isolate: Isolate::Wasm,
        manifest: Manifest::default(),
    }
}

/// A node with room for many.
pub(crate) fn node(name: &str) -> NodeView {
    NodeView {
        node: name.parse().unwrap(),
        heard: true,
        ready: true,
        cordoned: false,
        capacity: Resources { cpu: MilliCpu(64_000), memory: ByteSize::mib(64 * 1024) },
        promised: Resources::default(),
        isolates: vec![Isolate::Wasm, Isolate::Process],
        ports: Vec::new(),
    }
}
