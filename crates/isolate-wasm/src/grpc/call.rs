//! A call as its store holds it: what the component may ask of it, and what it has said so far.

use super::{
    frame::{Encoding, Messages},
    metadata::{self, MetadataValue},
    status::{Code, Status},
};
use bytes::Bytes;
use http::HeaderMap;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};

/// What a streaming call sends while it runs.
pub(crate) enum Sent {
    /// The headers that the component has added; first.
    Head(HeaderMap),
    /// A frame.
    Message(Bytes),
}

/// One call.
pub(crate) struct Call {
    /// The request's headers.
    pub(crate) request: HeaderMap,
    /// When its client gives up, or its service has had its time.
    pub(crate) deadline: Option<Instant>,
    /// Longest message, in bytes, either way.
    pub(crate) most: usize,
    /// How replies are compressed.
    pub(crate) encoding: Encoding,
    /// The stream of requests.
    pub(crate) requests: Option<Messages>,
    /// The stream of replies.
    pub(crate) replies: Option<mpsc::Sender<Sent>>,
    /// Longest wait for the client to take a reply, where others wait for this call to end.
    pub(crate) patience: Option<Duration>,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) head_sent: bool,
}

impl Call {
    pub(crate) fn new(request: HeaderMap, most: usize, encoding: Encoding) -> Call {
        Call {
            request,
            deadline: None,
            most,
            encoding,
            requests: None,
            replies: None,
            patience: None,
            headers: HeaderMap::new(),
            trailers: HeaderMap::new(),
            head_sent: false,
        }
    }

    pub(crate) fn metadata(&self) -> Vec<(String, MetadataValue)> {
        metadata::incoming(&self.request)
    }

    /// Nanoseconds until the deadline.
    pub(crate) fn remaining(&self) -> Option<u64> {
        let left = self.deadline?.saturating_duration_since(Instant::now());
        Some(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn add_header(&mut self, name: &str, value: &MetadataValue) -> Result<(), String> {
        if self.head_sent {
            return Err("the headers were sent before the first reply; add a trailer".to_owned());
        }
        metadata::add(&mut self.headers, name, value)
    }

    pub(crate) fn add_trailer(&mut self, name: &str, value: &MetadataValue) -> Result<(), String> {
        metadata::add(&mut self.trailers, name, value)
    }

    /// The next request of the stream.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, Status> {
        match &mut self.requests {
            Some(requests) => requests.next().await,
            None => Err(Status::new(Code::Internal, "this call has no stream of requests")),
        }
    }

    /// Sends a frame, once the client has taken the one before.
    pub(crate) async fn write(&mut self, frame: Bytes) -> Result<(), Status> {
        let Some(replies) = &self.replies else {
            return Err(Status::new(Code::Internal, "this call has no stream of replies"));
        };
        if !self.head_sent {
            self.head_sent = true;
            let head = Sent::Head(std::mem::take(&mut self.headers));
            send(replies, head, self.patience).await?;
        }
        send(replies, Sent::Message(frame), self.patience).await
    }
}

async fn send(replies: &mpsc::Sender<Sent>, sent: Sent, patience: Option<Duration>) -> Result<(), Status> {
    let sending = replies.send(sent);
    let result = match patience {
        None => sending.await,
        Some(patience) => match tokio::time::timeout(patience, sending).await {
            Ok(result) => result,
            Err(_) => return Err(Status::new(Code::DeadlineExceeded, "the client takes no replies")),
        },
    };
    result.map_err(|_| Status::new(Code::Cancelled, "the client has gone"))
}
