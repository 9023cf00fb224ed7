//! Versions: an immutable build of a service.

use crate::{Digest, Kind, VersionRef, manifest::Manifest, resource::Object};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

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
#[serde(deny_unknown_fields)]
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

/// Nothing is ever known of a version beyond its spec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionStatus {}

impl Object for VersionSpec {
    type Status = VersionStatus;
    const KIND: Kind = Kind::Version;
}
