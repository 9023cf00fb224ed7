//! Versions: an immutable build of a service.

use crate::{Digest, Kind, Millis, VersionRef, manifest::Manifest, resource::Object};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The media type of an artifact's layer that is a wasm component.
pub const COMPONENT_TYPE: &str = "application/wasm";
/// The media type of the layer beside it that makes a version a gRPC service: a serialized `FileDescriptorSet` with all
/// imports and without source positions.
pub const DESCRIPTOR_SET_TYPE: &str = "application/vnd.tutti.descriptor-set.v1+protobuf";

/// What a component that serves gRPC may import beside what its service brings along, each in every version that starts
/// so. Files and sockets are there because a language's runtime asks for them; they say no.
pub const WASM_INTERFACES: [&str; 30] = [
    "wasi:cli/environment@0.2",
    "wasi:cli/exit@0.2",
    "wasi:cli/stderr@0.2",
    "wasi:cli/stdin@0.2",
    "wasi:cli/stdout@0.2",
    "wasi:cli/terminal-input@0.2",
    "wasi:cli/terminal-output@0.2",
    "wasi:cli/terminal-stderr@0.2",
    "wasi:cli/terminal-stdin@0.2",
    "wasi:cli/terminal-stdout@0.2",
    "wasi:clocks/monotonic-clock@0.2",
    "wasi:clocks/timezone@0.2",
    "wasi:clocks/wall-clock@0.2",
    "wasi:filesystem/preopens@0.2",
    "wasi:filesystem/types@0.2",
    "wasi:http/outgoing-handler@0.2",
    "wasi:http/types@0.2",
    "wasi:io/error@0.2",
    "wasi:io/poll@0.2",
    "wasi:io/streams@0.2",
    "wasi:random/insecure-seed@0.2",
    "wasi:random/insecure@0.2",
    "wasi:random/random@0.2",
    "wasi:sockets/instance-network@0.2",
    "wasi:sockets/ip-name-lookup@0.2",
    "wasi:sockets/network@0.2",
    "wasi:sockets/tcp-create-socket@0.2",
    "wasi:sockets/tcp@0.2",
    "wasi:sockets/udp-create-socket@0.2",
    "wasi:sockets/udp@0.2",
];

/// The sandbox an instance runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolate {
    /// A WebAssembly component.
    Wasm,
    /// A process under a shim, with what the kernel offers to lock it in.
    Process,
}

impl Isolate {
    /// Every isolate of this release.
    pub const ALL: [Isolate; 2] = [Isolate::Wasm, Isolate::Process];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Isolate::Wasm => "wasm",
            Isolate::Process => "process",
        }
    }
}

impl fmt::Display for Isolate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Isolate {
    type Err = crate::Problem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Isolate::ALL.into_iter().find(|isolate| isolate.as_str() == text).ok_or_else(|| {
            crate::Problem::invalid(format!("isolate \"{text}\" is neither \"wasm\" nor \"process\""))
        })
    }
}

/// A version, whole: it never changes once created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSpec {
    /// Its full name; the object's `name` is this as text.
    pub version: VersionRef,
    /// The digest of its OCI manifest in the registry: what it runs, bit for bit.
    pub artifact: Digest,
    /// The bytes of all its blobs together.
    pub size: u64,
    /// What its isolate is.
    pub isolate: Isolate,
    /// The checked `[service]` section it was pushed with.
    pub manifest: Manifest,
}

/// What is known of a version beyond its spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionStatus {
    /// How far nodes are with holding it ready: of the newest version of a service while it is not deployed. What a
    /// deployed one's instances do is said by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<Preparation>,
}

/// How far nodes are with holding a version ready to start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Preparation {
    /// How many nodes are to hold it; none if no node could run it now.
    pub nodes: u32,
    /// How many hold it ready.
    pub ready: u32,
    /// How many have found that it cannot be run.
    pub failed: u32,
    /// The longest that one took to make it ready, in milliseconds.
    pub took: Millis,
    /// Why it is not ready on all of them, or no node could run it; one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

impl Object for VersionSpec {
    type Status = VersionStatus;
    const KIND: Kind = Kind::Version;
}
