//! Server reflection: answered from the service's descriptors, and about this one service only.

use super::{
    about::About,
    frame::{self, Encoding, Messages},
    replies,
    status::{Code, Status},
    streamed,
};
use crate::instance::Instance;
use http::{HeaderMap, Request, Response};
use std::{sync::Arc, time::Duration};
use tutti_base::Body;
use tutti_proto::reflection::{METHOD, REQUEST_BYTES, SERVICES, answer_encoded};

/// Longest wait for a client's next question: one that has them asks at once, and each stream holds a place of its
/// service.
const IDLE: Duration = Duration::from_secs(30);
/// Most questions on one stream: one for each file of the largest set, and as many for symbols.
const QUESTIONS: usize = 4096;

/// Whether this is the path of a reflection service's method.
pub(super) fn is_for(path: &str) -> bool {
    let names = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    names.is_some_and(|(service, method)| SERVICES.contains(&service) && method == METHOD)
}

/// Answers each question as it comes.
pub(super) fn answer(
    about: Arc<About>,
    instance: &Arc<Instance>,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let serving = instance.admit().map_err(|_| Status::new(Code::Unavailable, "the instance is stopping"))?;
    let (parts, body) = request.into_parts();
    let compressed = Encoding::of_request(&parts.headers)?;
    let mut questions = Messages::new(body, compressed, REQUEST_BYTES, Some(IDLE));
    let stopped = instance.stopped().clone();
    let body = streamed::body(|writer| async move {
        let _serving = serving;
        let mut left = QUESTIONS;
        let status = loop {
            let next = tokio::select! {
                biased;
                next = questions.next() => next,
                () = stopped.cancelled() => Err(Status::new(Code::Unavailable, "the instance was stopped")),
            };
            let answered = match next {
                Ok(None) => break Status::ok(),
                Ok(Some(question)) => answered(&about, &question),
                Err(status) => Err(status),
            };
            left = left.saturating_sub(1);
            match answered {
                Ok(_) if left == 0 => {
                    break Status::new(Code::ResourceExhausted, "too many questions on one stream");
                }
                Ok(frame) => {
                    if !streamed::data(&writer, frame).await {
                        return;
                    }
                }
                Err(status) => break status,
            }
        };
        let mut trailers = HeaderMap::new();
        status.write(&mut trailers);
        streamed::trailers(&writer, trailers).await;
    });
    Ok(replies::head(HeaderMap::new(), Encoding::Identity, body))
}

fn answered(about: &About, question: &[u8]) -> Result<bytes::Bytes, Status> {
    let opened =
        about.open().ok_or_else(|| Status::new(Code::Internal, "the service's description is gone"))?;
    let answer = answer_encoded(&opened.pool, &about.service, question)
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    let mut written = frame::begin();
    written.extend(answer);
    Ok(frame::finish(written, Encoding::Identity))
}
