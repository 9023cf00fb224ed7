//! The ingress's end of the wire.

use super::{
    Dial, NodeBook,
    encoding::{self, Refusal},
    link::{self, Link, NoPlace, Place},
    pieces,
};
use crate::{
    Hop, HopError, HopTarget, NodeLink,
    attempt::{self, Attempt},
    upgrade,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tutti_base::{Body, Random, body::BodyError};
use tutti_model::{name::NodeName, node::RoleAddress};

/// The way to nodes in other processes. Connections are opened as they are wanted, and closed when it is dropped and
/// their requests have ended.
#[derive(Debug)]
pub struct WireHop {
    book: Arc<NodeBook>,
    dial: Arc<dyn Dial>,
    random: Random,
    /// Read on every request, written when a node is first used, moved or was forgotten.
    links: Arc<RwLock<HashMap<NodeName, Arc<Link>>>>,
    ended: CancellationToken,
    _end: DropGuard,
}

impl WireHop {
    /// Without a connection yet. `random` spreads attempts to reach nodes that are out.
    #[must_use]
    pub fn new(book: Arc<NodeBook>, dial: Arc<dyn Dial>, random: Random) -> Self {
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        WireHop { book, dial, random, links: Arc::default(), ended, _end: end }
    }

    /// The nodes that are out now, and why.
    #[must_use]
    pub fn out(&self) -> Vec<(NodeName, String)> {
        self.links().into_iter().filter_map(|link| Some((link.node, link.out?))).collect()
    }

    /// How many nodes it has connections to, or tries to.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.links.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn link(&self, node: &NodeName, address: &Arc<RoleAddress>) -> Arc<Link> {
        let usable = |link: &&Arc<Link>| {
            (Arc::ptr_eq(&link.address, address) || link.address == *address) && !link.is_forgotten()
        };
        let known =
            self.links.read().unwrap_or_else(PoisonError::into_inner).get(node).filter(usable).cloned();
        if let Some(known) = known {
            return known;
        }
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = links.get(node).filter(usable) {
            return Arc::clone(known);
        }
        let link = Arc::new(Link::new(node.clone(), Arc::clone(address)));
        // One to an address that the node has left ends when its requests have, for want of further ones.
        links.insert(node.clone(), Arc::clone(&link));
        let all = Arc::downgrade(&self.links);
        let forget = move |link: &Arc<Link>| {
            if let Some(links) = all.upgrade() {
                let mut links = links.write().unwrap_or_else(PoisonError::into_inner);
                links.retain(|_, other| !Arc::ptr_eq(link, other));
            }
        };
        tokio::spawn(link::keep(
            Arc::clone(&link),
            Arc::clone(&self.dial),
            self.random.clone(),
            self.ended.clone(),
            forget,
        ));
        link
    }

    async fn place(&self, node: &NodeName) -> Result<Place, NoPlace> {
        loop {
            let Some(address) = self.book.get(node) else {
                return Err(NoPlace::Out(format!("node {node} is not known here")));
            };
            match self.link(node, &address).place().await {
                // Only when requests come again just as the link is given up.
                Err(NoPlace::Forgotten) if !self.ended.is_cancelled() => {}
                other => return other,
            }
        }
    }
}

#[async_trait]
impl Hop for WireHop {
    async fn send(
        &self,
        node: &NodeName,
        target: &HopTarget,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, HopError> {
        // A connection may be closing just when it is taken, and a peer may refuse a request before it looks at it.
        // Either is tried once more; what is not the first request of its connection finds another.
        let mut last = None;
        for _ in 0..2 {
            let place = match self.place(node).await {
                Ok(place) => place,
                Err(NoPlace::Full(reason)) => {
                    return Err(HopError::Overloaded { reason, request: Box::new(request) });
                }
                Err(NoPlace::Out(reason)) => {
                    return Err(HopError::Misdirected { reason, request: Box::new(request) });
                }
                Err(NoPlace::Forgotten) => break,
            };
            let (attempt, mut sent) = Attempt::new(request.map(pieces::cut));
            let asked = encoding::request(&mut sent, node, target);
            let mut error = match place.sender().try_send_request(sent).await {
                Ok(response) => return answered(response, asked.as_ref(), attempt, place),
                Err(error) => error,
            };
            // hyper gives back what it had not begun to send.
            let unsent = error.take_message().is_some();
            let error = error.into_error();
            let refusal = if unsent { Some(attempt::Refusal::Ending) } else { attempt::refusal(&error) };
            let reason = format!("node {node} gave no answer: {}", link::chain(error));
            let (Some(refusal), Some(whole)) = (refusal, attempt.take_back()) else {
                return Err(HopError::Failed(reason));
            };
            if refusal == attempt::Refusal::Ending {
                place.is_ending();
            }
            request = whole;
            last = Some((refusal, reason));
        }
        let request = Box::new(request);
        match last {
            Some((attempt::Refusal::Stream, reason)) => Err(HopError::Overloaded { reason, request }),
            Some((attempt::Refusal::Ending, reason)) => Err(HopError::Misdirected { reason, request }),
            None => {
                let reason = format!("the way to node {node} is closed");
                Err(HopError::Misdirected { reason, request })
            }
        }
    }

    fn links(&self) -> Vec<NodeLink> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let mut links: Vec<NodeLink> = links
            .values()
            .map(|link| NodeLink { node: link.node.clone(), connections: link.open(), out: link.out() })
            .collect();
        links.sort_by(|one, other| one.node.cmp(&other.node));
        links
    }
}

/// The answer of an instance, or why the node says there is none.
fn answered(
    mut response: Response<Incoming>,
    asked: Option<&HeaderValue>,
    attempt: Attempt,
    place: Place,
) -> Result<Response<Body>, HopError> {
    let refusal = match encoding::take_answer(&mut response, asked) {
        Ok(()) => {
            attempt.admit();
            return Ok(answer(response, place));
        }
        Err(refusal) => refusal,
    };
    // What was refused after more of it had gone than is kept cannot go elsewhere.
    let back = || attempt.take_back().map(Box::new);
    Err(match refusal {
        Refusal::Misdirected(reason) => match back() {
            Some(request) => HopError::Misdirected { reason, request },
            None => HopError::Failed(reason),
        },
        Refusal::Overloaded(reason) => match back() {
            Some(request) => HopError::Overloaded { reason, request },
            None => HopError::Full(reason),
        },
        Refusal::Full(reason) => HopError::Full(reason),
        Refusal::Failed(reason) => HopError::Failed(reason),
        Refusal::Timeout(after) => HopError::Timeout(after),
    })
}

fn answer(response: Response<Incoming>, place: Place) -> Response<Body> {
    let (parts, incoming) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let mut response = Response::from_parts(parts, tutti_base::body::empty());
        upgrade::hold(&mut response, place);
        return response;
    }
    if incoming.is_end_stream() {
        return Response::from_parts(parts, tutti_base::body::empty());
    }
    Response::from_parts(parts, Answer { incoming, _place: place }.boxed_unsync())
}

/// The body of an answer; dropping it early resets its stream, which ends the request at the instance.
struct Answer {
    incoming: Incoming,
    _place: Place,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.incoming).poll_frame(cx).map_err(BodyError::from)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
