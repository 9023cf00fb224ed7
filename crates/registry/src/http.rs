//! The OCI distribution API over a blob store.
//!
//! Served: `GET /v2/`; uploads in one request, in one session, or in chunks with resumption; `HEAD` and `GET` of blobs
//! (one range) and of manifests by digest; `PUT` of a manifest by digest. Not served: tags, deletion, mounts (a mount
//! starts an upload instead, as the specification allows) and referrers.
//!
//! Bounds: [`UPLOADS`] uploads at once, [`UPLOADS_PER_DOMAIN`] of them in one domain, each ended when nothing comes for [`IDLE`].

mod answer;
mod places;
mod pull;
mod push;
mod range;
mod sessions;

use crate::{
    Blobs,
    path::{Item, Target},
};
use answer::{Answer, OciError};
use axum::{Router, extract::Request, response::IntoResponse as _, routing::any};
use http::{HeaderValue, Method, StatusCode, header};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tutti_base::{Clock, Random};
use tutti_model::Millis;

/// Uploads at once. Each holds a file, up to half a mebibyte of memory and a share of the disk's speed; more than this
/// gain nothing.
const UPLOADS: usize = 64;
/// Of these, uploads of one domain, so that no tenant can take every place and keep it.
const UPLOADS_PER_DOMAIN: usize = 16;
/// How long an upload may go without a byte, and a session without a request.
const IDLE: Millis = Millis::seconds(60);
/// How often leftovers are looked for. Uploads that fail clean up themselves; this is for what could not.
const SWEEP_EVERY: Millis = Millis::seconds(3600);

/// Serves a blob store. Cloning shares the uploads under way.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    blobs: Arc<dyn Blobs>,
    sessions: sessions::Sessions,
    places: places::Places,
    clock: Arc<dyn Clock>,
}

impl Registry {
    /// A registry over these blobs.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>, clock: Arc<dyn Clock>, random: Random) -> Self {
        Registry(Arc::new(Inner {
            blobs,
            sessions: sessions::Sessions::new(clock.clone(), random),
            places: places::Places::new(UPLOADS, UPLOADS_PER_DOMAIN),
            clock,
        }))
    }

    /// The routes, `/v2` and all below it. Whoever mounts them says who may use them.
    pub fn router(&self) -> Router {
        let served = any({
            let registry = self.clone();
            move |request: Request| {
                let registry = registry.clone();
                async move { registry.answer(request).await }
            }
        });
        Router::new().route("/v2", served.clone()).route("/v2/", served.clone()).route("/v2/{*rest}", served)
    }

    /// Removes sessions that nobody uses any more and what cut-off uploads have left on disk, until it is told to stop.
    pub async fn tidy(&self, stop: CancellationToken) {
        let mut swept = self.0.clock.now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.clock.sleep(IDLE) => {}
            }
            self.0.sessions.expire();
            if self.0.clock.now().since(swept) >= SWEEP_EVERY {
                swept = self.0.clock.now();
                if let Err(error) = self.0.blobs.sweep().await {
                    tracing::warn!(%error, "leftover uploads could not be removed");
                }
            }
        }
    }

    async fn answer(&self, request: Request) -> axum::response::Response {
        let mut response = match self.0.dispatch(request).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        };
        response
            .headers_mut()
            .insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
        response
    }
}

impl Inner {
    async fn dispatch(&self, request: Request) -> Answer {
        let target = Target::parse(request.uri().path())?;
        let method = request.method().clone();
        let Target::In(repository, item) = target else {
            return match method {
                Method::GET | Method::HEAD => {
                    Ok(([(header::CONTENT_TYPE, "application/json")], "{}").into_response())
                }
                _ => Err(OciError::method("GET, HEAD")),
            };
        };
        match (item, method) {
            (Item::Uploads, Method::POST) => self.start_upload(&repository, request).await,
            (Item::Uploads, _) => Err(OciError::method("POST")),
            (Item::Upload(id), Method::GET) => self.upload_status(&repository, &id).await,
            (Item::Upload(id), Method::PATCH) => self.upload_chunk(&repository, &id, request).await,
            (Item::Upload(id), Method::PUT) => self.end_upload(&repository, &id, request).await,
            (Item::Upload(id), Method::DELETE) => {
                self.sessions.remove(&repository, &id)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            (Item::Upload(_), _) => Err(OciError::method("GET, PATCH, PUT, DELETE")),
            (Item::Blob(digest), Method::GET | Method::HEAD) => {
                self.get_blob(&repository, &digest, request).await
            }
            (Item::Blob(_), _) => Err(OciError::method("GET, HEAD")),
            (Item::Manifest(digest), Method::GET | Method::HEAD) => {
                self.get_manifest(&repository, &digest).await
            }
            (Item::Manifest(digest), Method::PUT) => self.put_manifest(&repository, &digest, request).await,
            (Item::Manifest(_), _) => Err(OciError::method("GET, HEAD, PUT")),
            (Item::Tag(tag), Method::GET | Method::HEAD) => Err(OciError::no_tags(&repository, &tag)),
            (Item::Tag(tag), Method::PUT) => Err(OciError::no_new_tags(&repository, &tag)),
            (Item::Tag(_), _) => Err(OciError::method("GET, HEAD, PUT")),
        }
    }
}

#[cfg(test)]
mod tests;
