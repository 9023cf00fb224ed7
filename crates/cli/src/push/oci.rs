//! The OCI manifest of a version: one layer, no configuration.

use super::Prepared;
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use tutti_base::sha256;
use tutti_model::{Digest, Problem, VersionName, version::Isolate};

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
    /// The digest of the layer.
    pub(crate) layer: Digest,
    /// The bytes of the layer.
    pub(crate) layer_size: u64,
    /// The digest of the empty configuration.
    pub(crate) config: Digest,
    /// The bytes of all blobs together.
    pub(crate) size: u64,
}

// Fields in the order in which they are written: the digest depends on it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u32,
    media_type: &'static str,
    artifact_type: &'static str,
    config: Descriptor<'a>,
    layers: [Descriptor<'a>; 1],
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
        let (layer, layer_size) = prepared
            .content
            .digest()
            .map_err(|error| Problem::invalid(format!("\"{}\" cannot be read: {error}", prepared.title)))?;
        let config = sha256::digest(EMPTY);
        let config_size = u64::try_from(EMPTY.len()).unwrap_or(u64::MAX);
        let (artifact_type, layer_type) = match prepared.isolate {
            Isolate::Wasm => ("application/vnd.tutti.component.v1", "application/wasm"),
            Isolate::Process => {
                ("application/vnd.tutti.program.v1", "application/vnd.oci.image.layer.v1.tar")
            }
        };
        let written = Written {
            schema_version: 2,
            media_type: MANIFEST_TYPE,
            artifact_type,
            config: Descriptor { media_type: EMPTY_TYPE, digest: &config, size: config_size },
            layers: [Descriptor { media_type: layer_type, digest: &layer, size: layer_size }],
            annotations: BTreeMap::from([
                ("org.opencontainers.image.title", prepared.title.as_str()),
                ("org.opencontainers.image.version", version.as_str()),
            ]),
        };
        let manifest = serde_json::to_vec(&written)
            .map_err(|error| Problem::internal(format!("the OCI manifest cannot be written: {error}")))?;
        let digest = sha256::digest(&manifest);
        let size = layer_size.saturating_add(config_size);
        Ok(Image { manifest: manifest.into(), digest, layer, layer_size, config, size })
    }
}
