//! Pushing to the registry: the part of the OCI distribution API (1.1) that a push needs.

use super::{Client, Failed, SILENCE, fault};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tutti_base::{
    Body,
    body::{self, BodyError},
};
use tutti_model::{Digest, Problem, ServiceRef};

/// A blob's bytes, as a stream of pieces in order.
pub type BlobSource = BoxStream<'static, io::Result<Bytes>>;

impl Client {
    /// Whether the repository of a service has this blob.
    ///
    /// # Errors
    /// Whatever the registry answers but that it has not.
    pub async fn has_blob(&self, service: &ServiceRef, digest: &Digest) -> Result<bool, Problem> {
        self.has(&format!("{}/blobs/{digest}", repository(service))).await
    }

    /// Whether the repository of a service has this manifest.
    ///
    /// # Errors
    /// Whatever the registry answers but that it has not.
    pub async fn has_manifest(&self, service: &ServiceRef, digest: &Digest) -> Result<bool, Problem> {
        self.has(&format!("{}/manifests/{digest}", repository(service))).await
    }

    async fn has(&self, path: &str) -> Result<bool, Problem> {
        let answered =
            self.exchange(Method::HEAD, path, HeaderMap::new(), body::empty(), Some(super::ANSWER)).await;
        let answered = match answered {
            // The answer to this question has no words; asked for its first byte the registry says what is wrong.
            Ok(response) if response.status().is_server_error() => {
                let first = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-0"))]);
                self.exchange(Method::GET, path, first, body::empty(), Some(super::ANSWER)).await
            }
            answered => answered,
        };
        match answered {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => Ok(false),
            answered => self.judge(answered).await.map(|_| true),
        }
    }

    /// Sends a blob of `size` bytes. `sent` is told how many bytes have gone out so far.
    ///
    /// # Errors
    /// Whatever the registry answers, `timeout` if it takes nothing for a while, and the source's own failure.
    pub async fn put_blob(
        &self,
        service: &ServiceRef,
        digest: &Digest,
        size: u64,
        source: BlobSource,
        sent: impl Fn(u64) + Send + 'static,
    ) -> Result<(), Problem> {
        let start = format!("{}/blobs/uploads/", repository(service));
        let answered =
            self.exchange(Method::POST, &start, HeaderMap::new(), body::empty(), Some(super::ANSWER)).await;
        let response = self.judge(answered).await?;
        let place = response.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
        let place =
            self.own(place.ok_or_else(|| odd(&self.base, "an upload without saying where it goes"))?)?;
        let join = if place.contains('?') { '&' } else { '?' };
        let end = format!("{place}{join}digest={digest}");

        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        let progress = Arc::new(AtomicU64::new(0));
        let upload = self.exchange(Method::PUT, &end, headers, counted(source, progress.clone(), sent), None);
        tokio::pin!(upload);
        let mut before = 0;
        loop {
            match tokio::time::timeout(SILENCE, &mut upload).await {
                Ok(answered) => return self.judge(source_first(answered)).await.map(drop),
                Err(_) => {
                    let now = progress.load(Ordering::Relaxed);
                    if now == before {
                        return Err(fault::late(&self.base, SILENCE));
                    }
                    before = now;
                }
            }
        }
    }

    /// Sends a manifest under its digest.
    ///
    /// # Errors
    /// Whatever the registry answers.
    pub async fn put_manifest(
        &self,
        service: &ServiceRef,
        digest: &Digest,
        media_type: &str,
        manifest: Bytes,
    ) -> Result<(), Problem> {
        let mut headers = HeaderMap::new();
        let media_type =
            HeaderValue::try_from(media_type).map_err(|_| Problem::internal("the media type is not one"))?;
        headers.insert(header::CONTENT_TYPE, media_type);
        let path = format!("{}/manifests/{digest}", repository(service));
        let answered =
            self.exchange(Method::PUT, &path, headers, body::full(manifest), Some(super::ANSWER)).await;
        self.judge(answered).await.map(drop)
    }

    /// The path of a place that the registry named. One on another host is refused: it would be sent our token.
    fn own(&self, place: &str) -> Result<String, Problem> {
        if place.starts_with('/') && !place.starts_with("//") {
            return Ok(place.to_owned());
        }
        match place.strip_prefix(&self.origins.current().text) {
            Some(path) if path.starts_with('/') => Ok(path.to_owned()),
            _ => Err(odd(&self.base, &format!("an upload to another place, \"{place}\""))),
        }
    }
}

fn odd(base: &str, what: &str) -> Problem {
    Problem::internal(format!("the registry of {base} answered with {what}"))
}

/// A failure of the source comes before the broken connection that it leads to.
fn source_first<T>(answered: Result<T, Failed>) -> Result<T, Failed> {
    match answered {
        Err(Failed::Broken(error)) => {
            let causes =
                std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |&e| e.source());
            let source = causes.filter_map(|cause| cause.downcast_ref::<SourceFailed>()).next();
            match source {
                Some(source) => Err(Failed::Said(Problem::new(
                    tutti_model::ErrorCode::Unavailable,
                    format!("what is pushed could not be read: {}", source.0),
                ))),
                None => Err(Failed::Broken(error)),
            }
        }
        answered => answered,
    }
}

/// The source of an upload failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SourceFailed(io::Error);

fn counted(source: BlobSource, progress: Arc<AtomicU64>, sent: impl Fn(u64) + Send + 'static) -> Body {
    let frames = source.map(move |piece| {
        let piece = piece.map_err(|error| BodyError::from(SourceFailed(error)))?;
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        sent(progress.fetch_add(length, Ordering::Relaxed).saturating_add(length));
        Ok(Frame::data(piece))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The repository of a service.
fn repository(service: &ServiceRef) -> String {
    format!("/v2/{}/{}", service.domain, service.service)
}
