//! Errors as the distribution specification writes them: `{"errors":[{"code","message","detail"}]}`.

use crate::{BlobError, path::PathError};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tutti_model::{Digest, Problem, ServiceRef, limits};

pub(super) type Answer = Result<Response, OciError>;

/// Why a request was refused.
#[derive(Debug)]
pub(super) struct OciError {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: Option<String>,
    /// Boxed, since few have one and every result of this crate carries the room for it.
    header: Option<Box<(header::HeaderName, HeaderValue)>>,
}

impl OciError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        OciError { status, code, message: message.into(), hint: None, header: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn header(mut self, name: header::HeaderName, value: Option<HeaderValue>) -> Self {
        self.header = value.map(|value| Box::new((name, value)));
        self
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        OciError::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", format!("only {allowed} is served here"))
            .header(header::ALLOW, Some(HeaderValue::from_static(allowed)))
    }

    pub(super) fn blob_unknown(repository: &ServiceRef, digest: &Digest) -> Self {
        OciError::new(
            StatusCode::NOT_FOUND,
            "BLOB_UNKNOWN",
            format!("repository {repository} has no blob {digest}"),
        )
    }

    pub(super) fn manifest_unknown(repository: &ServiceRef, digest: &Digest) -> Self {
        OciError::new(
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
            format!("repository {repository} has no manifest {digest}"),
        )
    }

    pub(super) fn no_tags(repository: &ServiceRef, tag: &str) -> Self {
        OciError::new(
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
            format!("manifests are served by digest only, not by the tag \"{tag}\""),
        )
        .hint(format!("tutti version list {repository} shows each version's digest"))
    }

    pub(super) fn no_new_tags(repository: &ServiceRef, tag: &str) -> Self {
        OciError::new(
            StatusCode::BAD_REQUEST,
            "UNSUPPORTED",
            format!("a manifest is put by digest, not by the tag \"{tag}\""),
        )
        .hint(format!("versions are made by: tutti push PATH {repository}@{tag}"))
    }

    pub(super) fn upload_unknown(id: &str) -> Self {
        OciError::new(
            StatusCode::NOT_FOUND,
            "BLOB_UPLOAD_UNKNOWN",
            format!("upload \"{id}\" is not under way here"),
        )
        .hint("it has ended, or nothing came for a minute; start a new one")
    }

    pub(super) fn upload_invalid(message: impl Into<String>) -> Self {
        OciError::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn digest_invalid(message: impl Into<String>) -> Self {
        OciError::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(super) fn manifest_invalid(message: impl Into<String>) -> Self {
        OciError::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub(super) fn manifest_too_large() -> Self {
        OciError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "SIZE_INVALID",
            format!("the manifest is larger than {} bytes", limits::OCI_MANIFEST_BYTES),
        )
    }

    pub(super) fn manifest_blob_unknown(repository: &ServiceRef, digest: &Digest) -> Self {
        OciError::new(
            StatusCode::BAD_REQUEST,
            "MANIFEST_BLOB_UNKNOWN",
            format!("the manifest refers to blob {digest}, which repository {repository} does not have"),
        )
        .hint("push the blobs before the manifest")
    }

    /// The bytes do not follow on those that came before; the client asks for the status and goes on from there.
    pub(super) fn out_of_order(message: impl Into<String>) -> Self {
        OciError::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
    }

    pub(super) fn range_not_satisfiable(size: u64) -> Self {
        OciError::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", format!("the blob has {size} bytes"))
            .header(header::CONTENT_RANGE, HeaderValue::try_from(format!("bytes */{size}")).ok())
    }

    pub(super) fn too_many_uploads(most: usize) -> Self {
        OciError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "TOOMANYREQUESTS",
            format!("{most} uploads are under way, which is the most at once here or in one domain"),
        )
        .header(header::RETRY_AFTER, Some(HeaderValue::from_static("1")))
    }
}

impl From<PathError> for OciError {
    fn from(error: PathError) -> Self {
        let message = error.to_string();
        match error {
            PathError::Unknown(_) => OciError::new(StatusCode::NOT_FOUND, "UNSUPPORTED", message),
            PathError::Name { .. } => OciError::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message),
            PathError::Digest(_) => OciError::digest_invalid(message),
        }
    }
}

impl From<BlobError> for OciError {
    fn from(error: BlobError) -> Self {
        let (status, code) = match &error {
            BlobError::Missing(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            BlobError::Digest { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            BlobError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            // The specification has no word for a registry that cannot do its work just now.
            BlobError::Corrupt(_)
            | BlobError::Full { .. }
            | BlobError::ReadOnly { .. }
            | BlobError::Bucket { .. }
            | BlobError::Io { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "the blob store failed");
                (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
            }
        };
        let problem = Problem::from(error);
        OciError { hint: problem.hint, ..OciError::new(status, code, problem.detail) }
    }
}

impl IntoResponse for OciError {
    fn into_response(self) -> Response {
        let detail = self.hint.map_or(serde_json::Value::Null, |hint| serde_json::json!({ "hint": hint }));
        let body = serde_json::json!({
            "errors": [{ "code": self.code, "message": self.message, "detail": detail }],
        });
        let mut response = (self.status, axum::Json(body)).into_response();
        if let Some((name, value)) = self.header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
