//! What a push does: uploads, then the manifest.

use super::{
    IDLE, Inner,
    answer::{Answer, OciError},
    places::Place,
    range,
    sessions::Taking,
};
use crate::{OciManifest, Upload, path};
use axum::{
    body::{Body, BodyDataStream},
    extract::Request,
    response::IntoResponse as _,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use tutti_base::sha256;
use tutti_model::{Digest, ServiceRef, limits};

impl Inner {
    /// `POST blobs/uploads/`: with `?digest=` the whole content is in this request, else a session starts.
    pub(super) async fn start_upload(&self, repository: &ServiceRef, request: Request) -> Answer {
        let digest = digest_of(&request)?;
        let place = self.place(repository)?;
        let mut upload = self.blobs.upload().await?;
        if let Some(digest) = digest {
            take_body(upload.as_mut(), request.into_body(), || ()).await?;
            return self.finish(repository, upload, &digest).await;
        }
        let id = self.sessions.insert(repository, Taking { upload, _place: place });
        Ok((StatusCode::ACCEPTED, upload_headers(repository, &id, 0)).into_response())
    }

    /// `GET blobs/uploads/ID`: how much is here.
    pub(super) async fn upload_status(&self, repository: &ServiceRef, id: &str) -> Answer {
        let session = self.sessions.find(repository, id)?;
        let taking = session.hold(id)?;
        let taken = taking.as_ref().ok_or_else(|| OciError::upload_unknown(id))?.upload.taken();
        Ok((StatusCode::NO_CONTENT, upload_headers(repository, id, taken)).into_response())
    }

    /// `PATCH blobs/uploads/ID`: the next bytes.
    pub(super) async fn upload_chunk(&self, repository: &ServiceRef, id: &str, request: Request) -> Answer {
        let taken = self.take_chunk(repository, id, request).await?;
        Ok((StatusCode::ACCEPTED, upload_headers(repository, id, taken)).into_response())
    }

    async fn take_chunk(&self, repository: &ServiceRef, id: &str, request: Request) -> Result<u64, OciError> {
        let session = self.sessions.find(repository, id)?;
        let mut taking = session.hold(id)?;
        let upload = &mut taking.as_mut().ok_or_else(|| OciError::upload_unknown(id))?.upload;
        check_order(request.headers(), upload.taken())?;
        match take_body(upload.as_mut(), request.into_body(), || self.sessions.touch(&session)).await {
            Ok(()) => Ok(upload.taken()),
            Err(Cut::Client(error)) => Err(error),
            Err(Cut::Store(error)) => {
                // What came so far is of no use any more.
                *taking = None;
                let _ = self.sessions.remove(repository, id);
                Err(error)
            }
        }
    }

    /// `PUT blobs/uploads/ID?digest=`: the last bytes, if any, and the end.
    pub(super) async fn end_upload(&self, repository: &ServiceRef, id: &str, request: Request) -> Answer {
        let digest = digest_of(&request)?.ok_or_else(|| {
            OciError::digest_invalid("the upload's end does not say its digest: add ?digest=sha256:…")
        })?;
        self.take_chunk(repository, id, request).await?;
        let session = self.sessions.remove(repository, id)?;
        let taking = session.hold(id)?.take().ok_or_else(|| OciError::upload_unknown(id))?;
        self.finish(repository, taking.upload, &digest).await
    }

    async fn finish(&self, repository: &ServiceRef, upload: Box<dyn Upload>, digest: &Digest) -> Answer {
        upload.commit(digest).await?;
        self.blobs.link(repository, digest).await?;
        Ok(created(repository, "blobs", digest))
    }

    /// `PUT manifests/DIGEST`.
    pub(super) async fn put_manifest(
        &self,
        repository: &ServiceRef,
        digest: &Digest,
        request: Request,
    ) -> Answer {
        let said = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok().map(str::to_owned));
        let _place = self.place(repository)?;
        let bytes = manifest_body(request.into_body()).await?;
        let actual = sha256::digest(&bytes);
        if actual != *digest {
            return Err(OciError::digest_invalid(format!("the bytes received are {actual}, not {digest}")));
        }
        let manifest = OciManifest::parse(&bytes).map_err(OciError::manifest_invalid)?;
        if let Some(said) = said.filter(|said| said != manifest.media_type()) {
            return Err(OciError::manifest_invalid(format!(
                "Content-Type is \"{said}\", the manifest is \"{}\"",
                manifest.media_type()
            )));
        }
        for reference in manifest.references() {
            if !self.blobs.linked(repository, &reference.digest).await? {
                return Err(OciError::manifest_blob_unknown(repository, &reference.digest));
            }
            match self.blobs.size(&reference.digest).await? {
                Some(size) if size == reference.size => {}
                size => {
                    return Err(OciError::manifest_invalid(format!(
                        "the manifest says that blob {} has {} bytes, it has {}",
                        reference.digest,
                        reference.size,
                        size.unwrap_or(0)
                    )));
                }
            }
        }
        let mut upload = self.blobs.upload().await?;
        upload.write(bytes).await?;
        upload.commit(digest).await?;
        self.blobs.link(repository, digest).await?;
        Ok(created(repository, "manifests", digest))
    }

    /// A place among the uploads at once; room is made by ending sessions that nobody uses.
    fn place(&self, repository: &ServiceRef) -> Result<Place, OciError> {
        let place = || self.places.take(&repository.domain);
        place().or_else(|_| {
            self.sessions.expire();
            place().map_err(OciError::too_many_uploads)
        })
    }
}

/// Who is at fault when a body was not taken whole.
enum Cut {
    /// The client: what came so far stands, and it may go on.
    Client(OciError),
    /// The store: it cannot go on.
    Store(OciError),
}

impl From<Cut> for OciError {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Client(error) | Cut::Store(error) => error,
        }
    }
}

/// The next piece of a body; `None` at its end.
async fn next_piece(body: &mut BodyDataStream) -> Result<Option<Bytes>, OciError> {
    match tokio::time::timeout(IDLE.duration(), body.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => {
            Err(OciError::upload_invalid(format!("the request's body was cut off: {error}")))
        }
        Err(_) => Err(OciError::new(
            StatusCode::REQUEST_TIMEOUT,
            "BLOB_UPLOAD_INVALID",
            format!("nothing came for {} seconds", IDLE.duration().as_secs()),
        )),
    }
}

/// Takes a body in; `progress` is told of each piece.
async fn take_body(upload: &mut dyn Upload, body: Body, progress: impl Fn()) -> Result<(), Cut> {
    let mut body = body.into_data_stream();
    while let Some(piece) = next_piece(&mut body).await.map_err(Cut::Client)? {
        progress();
        upload.write(piece).await.map_err(|error| Cut::Store(error.into()))?;
    }
    Ok(())
}

async fn manifest_body(body: Body) -> Result<Bytes, OciError> {
    let mut body = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(piece) = next_piece(&mut body).await? {
        if whole.len().saturating_add(piece.len()) > limits::OCI_MANIFEST_BYTES {
            return Err(OciError::manifest_too_large());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}

/// A chunk that says where it goes must go where the last one ended.
fn check_order(headers: &HeaderMap, taken: u64) -> Result<(), OciError> {
    let Some(said) = headers.get(header::CONTENT_RANGE) else { return Ok(()) };
    let range = said.to_str().ok().and_then(range::chunk);
    let (first, last) = range.ok_or_else(|| OciError::upload_invalid("Content-Range is not FIRST-LAST"))?;
    if first != taken {
        return Err(OciError::out_of_order(format!(
            "the chunk starts at byte {first}, the upload is at {taken}"
        )));
    }
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length != (last - first).saturating_add(1) => {
            Err(OciError::upload_invalid("Content-Length and Content-Range do not say the same"))
        }
        _ => Ok(()),
    }
}

/// The `digest` of the query.
fn digest_of(request: &Request) -> Result<Option<Digest>, OciError> {
    let query = request.uri().query().unwrap_or("");
    let digest = query.split('&').find_map(|pair| pair.strip_prefix("digest="));
    Ok(digest.map(path::parse_digest).transpose()?)
}

fn repository_path(repository: &ServiceRef) -> String {
    format!("/v2/{}/{}", repository.domain, repository.service)
}

/// `Range` tells the last byte that is here, as the specification has it: `0-0` also when there is none.
fn upload_headers(repository: &ServiceRef, id: &str, taken: u64) -> [(&'static str, String); 3] {
    [
        ("location", format!("{}/blobs/uploads/{id}", repository_path(repository))),
        ("range", format!("0-{}", taken.saturating_sub(1))),
        ("docker-upload-uuid", id.to_owned()),
    ]
}

fn created(repository: &ServiceRef, kind: &str, digest: &Digest) -> axum::response::Response {
    let headers = [
        ("location", format!("{}/{kind}/{digest}", repository_path(repository))),
        ("docker-content-digest", digest.to_string()),
    ];
    (StatusCode::CREATED, headers).into_response()
}
