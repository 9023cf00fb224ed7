//! The OCI manifest of a version: one layer, and for a gRPC service one more with its descriptors; no configuration.

use super::Prepared;
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use tutti_base::sha256;
use tutti_model::{
    Digest, Problem, VersionName,
    version::{COMPONENT_TYPE, DESCRIPTOR_SET_TYPE, Isolate},
};

/// The media type of an image or artifact manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of the configuration that says nothing (image specification 1.1).
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The content of that.
pub(crate) const EMPTY: &[u8] = b"{}";

/// An OCI manifest with its digest.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its bytes.
    pub(crate) manifest: Bytes,
    /// Their digest: what the version runs.
    pub(crate) digest: Digest,
    /// What is run.
    pub(crate) layer: Blob,
    /// What a gRPC service is declared by.
    pub(crate) descriptors: Option<Blob>,
    /// The empty configuration.
    pub(crate) config: Blob,
    /// The bytes of all blobs together.
    pub(crate) size: u64,
}

/// One of its blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its bytes.
    pub(crate) size: u64,
}

impl Blob {
    fn of(bytes: &[u8]) -> Blob {
        Blob { digest: sha256::digest(bytes), size: u64::try_from(bytes.len()).unwrap_or(u64::MAX) }
    }

    fn written<'a>(&'a self, media_type: &'static str) -> Descriptor<'a> {
        Descriptor { media_type, digest: &self.digest, size: self.size }
    }
}

// Fields in the order in which they are written: the digest depends on it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u32,
    media_type: &'static str,
    artifact_type: &'static str,
    config: Descriptor<'a>,
    layers: Vec<Descriptor<'a>>,
    annotations: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'static str,
    digest: &'a Digest,
    size: u64,
}

impl Image {
    /// The manifest for a prepared artifact, whose bytes are read once for it.
    ///
    /// # Errors
    /// Bytes that cannot be read.
    pub(crate) fn of(prepared: &Prepared, version: &VersionName) -> Result<Image, Problem> {
        let (digest, size) = prepared
            .content
            .digest()
            .map_err(|error| Problem::invalid(format!("\"{}\" cannot be read: {error}", prepared.title)))?;
        let layer = Blob { digest, size };
        let descriptors = prepared.descriptors.as_deref().map(Blob::of);
        let config = Blob::of(EMPTY);
        let (artifact_type, layer_type) = match prepared.isolate {
            Isolate::Wasm => ("application/vnd.tutti.component.v1", COMPONENT_TYPE),
            Isolate::Process => {
                ("application/vnd.tutti.program.v1", "application/vnd.oci.image.layer.v1.tar")
            }
        };
        let declared = descriptors.iter().map(|blob| blob.written(DESCRIPTOR_SET_TYPE));
        let written = Written {
            schema_version: 2,
            media_type: MANIFEST_TYPE,
            artifact_type,
            config: config.written(EMPTY_TYPE),
            layers: std::iter::once(layer.written(layer_type)).chain(declared).collect(),
            annotations: BTreeMap::from([
                ("org.opencontainers.image.title", prepared.title.as_str()),
                ("org.opencontainers.image.version", version.as_str()),
            ]),
        };
        let manifest = serde_json::to_vec(&written)
            .map_err(|error| Problem::internal(format!("the OCI manifest cannot be written: {error}")))?;
        let digest = sha256::digest(&manifest);
        let declared = descriptors.as_ref().map_or(0, |blob| blob.size);
        let size = layer.size.saturating_add(declared).saturating_add(config.size);
        Ok(Image { manifest: manifest.into(), digest, layer, descriptors, config, size })
    }
}
