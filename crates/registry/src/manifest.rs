//! OCI manifests, as far as the registry has to read them: what they refer to.

use crate::{BlobError, Blobs};
use futures_util::TryStreamExt as _;
use serde::Deserialize;
use tutti_base::sha256;
use tutti_model::{Digest, Problem, limits};

/// The media type of an image or artifact manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index of manifests.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// The same manifest as Docker calls it.
const DOCKER_MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The same index as Docker calls it.
const DOCKER_INDEX_TYPE: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Most descriptors in one manifest: images in the wild have at most 127 layers (the limit of overlay file systems);
/// this leaves room and still bounds the look-ups that one request costs.
pub const DESCRIPTORS: usize = 1024;

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OciManifest {
    schema_version: u32,
    media_type: Option<String>,
    /// The configuration of an image or artifact.
    pub config: Option<Descriptor>,
    /// Its layers, in order.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifests of an index.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

impl OciManifest {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// Why it is neither, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > limits::OCI_MANIFEST_BYTES {
            return Err(format!("the manifest is larger than {} bytes", limits::OCI_MANIFEST_BYTES));
        }
        let manifest: OciManifest =
            serde_json::from_slice(bytes).map_err(|error| format!("not an OCI manifest: {error}"))?;
        if manifest.schema_version != 2 {
            return Err(format!("schemaVersion is {}, not 2", manifest.schema_version));
        }
        if manifest.references().count() > DESCRIPTORS {
            return Err(format!("the manifest refers to more than {DESCRIPTORS} blobs"));
        }
        match manifest.media_type.as_deref() {
            None | Some(MANIFEST_TYPE | DOCKER_MANIFEST_TYPE) if manifest.config.is_some() => {}
            Some(MANIFEST_TYPE | DOCKER_MANIFEST_TYPE) => return Err("the manifest has no config".to_owned()),
            None | Some(INDEX_TYPE | DOCKER_INDEX_TYPE) if manifest.config.is_none() => {
                if manifest.manifests.is_empty() {
                    return Err("the manifest has neither config nor manifests".to_owned());
                }
            }
            None | Some(INDEX_TYPE | DOCKER_INDEX_TYPE) => return Err("an index has no config".to_owned()),
            Some(other) => return Err(format!("media type \"{other}\" is not that of a manifest")),
        }
        Ok(manifest)
    }

    /// Its media type, told from its content where it does not say.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match &self.media_type {
            Some(media_type) => media_type,
            None if self.config.is_some() => MANIFEST_TYPE,
            None => INDEX_TYPE,
        }
    }

    /// Everything it refers to.
    pub fn references(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers).chain(&self.manifests)
    }

    /// The bytes of all that it refers to together.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.references().fold(0, |sum, descriptor| sum.saturating_add(descriptor.size))
    }

    /// Reads a stored manifest and checks its bytes.
    ///
    /// # Errors
    /// `not_found` if it is not there, `invalid` if the blob is no manifest, `unavailable` if the disk fails.
    pub async fn load(blobs: &dyn Blobs, digest: &Digest) -> Result<Self, Problem> {
        let missing =
            || Problem::not_found("artifact", digest).hint("push it first: tutti push PATH NAME@VERSION");
        let bytes = match read_whole(blobs, digest).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(Problem::invalid(format!("blob {digest} is too large to be a manifest"))),
            Err(BlobError::Missing(_)) => return Err(missing()),
            Err(error) => return Err(error.into()),
        };
        OciManifest::parse(&bytes).map_err(|why| {
            Problem::invalid(format!("blob {digest}: {why}")).object(format!("artifact {digest}"))
        })
    }
}

/// The bytes of a blob that is small enough to be a manifest, checked; `None` if it is larger.
pub(crate) async fn read_whole(blobs: &dyn Blobs, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
    let most = u64::try_from(limits::OCI_MANIFEST_BYTES).unwrap_or(u64::MAX);
    match blobs.size(digest).await? {
        None => return Err(BlobError::Missing(digest.clone())),
        Some(size) if size > most => return Ok(None),
        Some(_) => {}
    }
    let pieces = blobs.read(digest, 0..most).await?;
    let bytes = pieces
        .try_fold(Vec::new(), |mut whole, piece| async move {
            whole.extend_from_slice(&piece);
            Ok(whole)
        })
        .await
        .map_err(|source| BlobError::Io { what: format!("read blob {digest}"), source })?;
    if sha256::digest(&bytes) != *digest {
        // Reading it once more moves it aside.
        blobs.verify(digest).await?;
        return Err(BlobError::Corrupt(digest.clone()));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(media_type: &str) -> serde_json::Value {
        serde_json::json!({ "mediaType": media_type, "digest": DIGEST, "size": 7 })
    }

    fn parse(value: &serde_json::Value) -> Result<OciManifest, String> {
        OciManifest::parse(value.to_string().as_bytes())
    }

    #[test]
    fn reads_manifests_and_indexes_with_or_without_a_media_type() {
        let mut manifest = serde_json::json!({
            "schemaVersion": 2, "config": descriptor("a/b"), "layers": [descriptor("application/wasm")],
        });
        let read = parse(&manifest).unwrap();
        assert_eq!((read.media_type(), read.size(), read.references().count()), (MANIFEST_TYPE, 14, 2));
        manifest["mediaType"] = DOCKER_MANIFEST_TYPE.into();
        assert_eq!(parse(&manifest).unwrap().media_type(), DOCKER_MANIFEST_TYPE);

        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [descriptor(MANIFEST_TYPE)] });
        assert_eq!(parse(&index).unwrap().media_type(), INDEX_TYPE);
    }

    #[test]
    fn says_why_something_is_no_manifest() {
        let text = |value: serde_json::Value| parse(&value).unwrap_err();
        assert!(OciManifest::parse(b"\0asm").unwrap_err().starts_with("not an OCI manifest: "));
        assert_eq!(text(serde_json::json!({ "schemaVersion": 1 })), "schemaVersion is 1, not 2");
        assert_eq!(
            text(serde_json::json!({ "schemaVersion": 2 })),
            "the manifest has neither config nor manifests"
        );
        assert_eq!(
            text(serde_json::json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE })),
            "the manifest has no config"
        );
        assert_eq!(
            text(
                serde_json::json!({ "schemaVersion": 2, "mediaType": "text/html", "config": descriptor("a/b") })
            ),
            "media type \"text/html\" is not that of a manifest"
        );
        let many: Vec<_> = (0..=DESCRIPTORS).map(|_| descriptor("a/b")).collect();
        assert_eq!(
            text(serde_json::json!({ "schemaVersion": 2, "config": descriptor("a/b"), "layers": many })),
            "the manifest refers to more than 1024 blobs"
        );
        assert!(
            OciManifest::parse(&vec![b' '; limits::OCI_MANIFEST_BYTES + 1]).unwrap_err().contains("larger")
        );
    }
}
