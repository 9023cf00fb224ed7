//! What a pull asks for.

use super::{
    Inner,
    answer::{Answer, OciError},
    range::{Wanted, wanted},
};
use crate::{BlobError, OciManifest, manifest::read_whole};
use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header};
use tutti_model::{Digest, ServiceRef};

impl Inner {
    /// `GET` or `HEAD` of a blob; for `HEAD` the router drops the body unread.
    pub(super) async fn get_blob(
        &self,
        repository: &ServiceRef,
        digest: &Digest,
        request: Request,
    ) -> Answer {
        let (parts, _) = request.into_parts();
        if !self.blobs.linked(repository, digest).await? {
            return Err(OciError::blob_unknown(repository, digest));
        }
        let size =
            self.blobs.size(digest).await?.ok_or_else(|| OciError::blob_unknown(repository, digest))?;
        let header = parts.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        let (range, status) = match wanted(header, size) {
            Wanted::Whole => (0..size, StatusCode::OK),
            Wanted::Part(range) => (range, StatusCode::PARTIAL_CONTENT),
            Wanted::Unsatisfiable => return Err(OciError::range_not_satisfiable(size)),
        };
        let mut response = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, range.end.saturating_sub(range.start))
            .header(header::ACCEPT_RANGES, "bytes")
            .header("docker-content-digest", digest.as_str())
            // The content of a digest never changes.
            .header(header::ETAG, format!("\"{digest}\""));
        if status == StatusCode::PARTIAL_CONTENT {
            let last = range.end.saturating_sub(1);
            response = response.header(header::CONTENT_RANGE, format!("bytes {}-{last}/{size}", range.start));
        }
        let body = match parts.method {
            http::Method::HEAD => Body::empty(),
            _ => Body::from_stream(self.blobs.read(digest, range).await?),
        };
        response.body(body).map_err(|error| internal(&error))
    }

    pub(super) async fn get_manifest(&self, repository: &ServiceRef, digest: &Digest) -> Answer {
        let unknown = || OciError::manifest_unknown(repository, digest);
        if !self.blobs.linked(repository, digest).await? {
            return Err(unknown());
        }
        let bytes = match read_whole(self.blobs.as_ref(), digest).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(BlobError::Missing(_)) => return Err(unknown()),
            Err(error) => return Err(error.into()),
        };
        // Any blob of the repository can be asked for here; only a manifest is one.
        let Ok(manifest) = OciManifest::parse(&bytes) else { return Err(unknown()) };
        Response::builder()
            .header(header::CONTENT_TYPE, manifest.media_type())
            .header(header::CONTENT_LENGTH, bytes.len())
            .header("docker-content-digest", digest.as_str())
            .header(header::ETAG, format!("\"{digest}\""))
            .body(Body::from(bytes))
            .map(|response| response.into_response())
            .map_err(|error| internal(&error))
    }
}

fn internal(error: &http::Error) -> OciError {
    OciError::new(StatusCode::INTERNAL_SERVER_ERROR, "UNAVAILABLE", error.to_string())
}
