//! The node's proxy: takes a request to an instance on this node, or refuses it untouched.
//!
//! A request that finds room takes no lock of ours: it costs a load of the directory, a few atomics for its place, one
//! timer, and the boxes that the traits ask for. Its place is held until the answer's body has ended, or the tunnel
//! that it became, so that what an instance serves is known truly when it drains.

use crate::{
    admission::{Joined, Permit},
    directory::{Directory, Group},
    metrics::Metrics,
    node::Node,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::time::{Instant, timeout_at};
use tutti_base::{Body, body::BodyError};
use tutti_isolate::{HandleError, Handler, Target};
use tutti_model::{Millis, limits, name::NodeName};
use tutti_proxy::{ForwardError, Hop, HopError, HopTarget, Pool, Protocol, Timeouts, upgrade, upload};

/// Says on the answer which instance gave it.
const INSTANCE: HeaderName = HeaderName::from_static("tutti-instance");
/// What has no status of its own is reached on this machine: nothing slower than this is alive.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(1);

/// The proxy of one node.
#[derive(Debug)]
pub(crate) struct NodeProxy {
    node: Arc<Node>,
    pool: Pool,
    /// Set once the agent is about to end. Read by each request: one load that nobody contends for.
    leaving: AtomicBool,
}

#[async_trait]
impl Hop for NodeProxy {
    async fn send(
        &self,
        node: &NodeName,
        target: &HopTarget,
        request: Request<Body>,
    ) -> Result<Response<Body>, HopError> {
        let result = if self.leaving.load(Ordering::Relaxed) {
            let reason = format!("the agent of node {node} is ending");
            Err(HopError::Misdirected { reason, request: Box::new(request) })
        } else if *node == self.node.name {
            self.serve(target, request).await
        } else {
            let reason = format!("this is node {}, not {node}", self.node.name);
            Err(HopError::Misdirected { reason, request: Box::new(request) })
        };
        let metrics = &self.node.metrics;
        match &result {
            Ok(_) => metrics.answered.inc(),
            Err(error) => count(metrics, error),
        };
        result
    }
}

fn count(metrics: &Metrics, error: &HopError) -> u64 {
    match error {
        HopError::Misdirected { .. } => metrics.misdirected.inc(),
        HopError::Overloaded { .. } | HopError::Full(_) => metrics.overloaded.inc(),
        HopError::Timeout(_) => metrics.timed_out.inc(),
        HopError::Failed(_) => metrics.failed.inc(),
    }
}

impl NodeProxy {
    /// The proxy of this node. It must be made inside a runtime.
    pub(crate) fn new(node: Arc<Node>, pool: Pool) -> Self {
        NodeProxy { node, pool, leaving: AtomicBool::new(false) }
    }

    /// From now on every request is given back.
    pub(crate) fn take_no_more(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    async fn serve(&self, target: &HopTarget, request: Request<Body>) -> Result<Response<Body>, HopError> {
        let (group, permit, deadline, request) = enter(&self.node.directory, target, request).await?;
        let slot = Arc::clone(permit.slot());
        // What a version's first request waits for tells how cold it was.
        let first = slot.first_answer.get().is_none().then(Instant::now);
        let answered = match &slot.target {
            Target::Handler(handler) => call(handler.as_ref(), request, deadline, group.timeout).await,
            Target::Address(address) => self.forward(*address, request, deadline, group.timeout).await,
        };
        // Whoever reads why is told whose fault it was, rather than an address on this node.
        let mut response = answered.map_err(|error| match error {
            HopError::Failed(why) => HopError::Failed(format!(
                "instance {} of {}@{} failed: {why}",
                slot.instance, target.service, target.version
            )),
            other => other,
        })?;
        if let Some(begun) = first {
            // Another that came first has said it already.
            let _ = slot.first_answer.set(begun.elapsed());
        }
        response.headers_mut().insert(INSTANCE, slot.header.clone());
        Ok(held(response, permit))
    }

    async fn forward(
        &self,
        address: SocketAddr,
        request: Request<Body>,
        deadline: Instant,
        timeout: Millis,
    ) -> Result<Response<Body>, HopError> {
        let first_byte = deadline.saturating_duration_since(Instant::now());
        let timeouts = Timeouts { connect: CONNECT.min(first_byte), first_byte, idle: None };
        let protocol = Protocol::of(request.headers());
        self.pool.send(address, protocol, request, &timeouts).await.map_err(|error| {
            let reason = error.chain();
            match error {
                // Its process may just have ended: another instance, here or elsewhere, may take it.
                ForwardError::Connect { request, .. } => HopError::Misdirected { reason, request },
                ForwardError::Full { request, .. } => HopError::Overloaded { reason, request },
                ForwardError::Upstream { .. } => HopError::Failed(reason),
                ForwardError::Timeout { .. } => HopError::Timeout(timeout),
            }
        })
    }
}

/// Finds an instance with room for the request, waiting in line if there is none now.
async fn enter(
    directory: &Directory,
    target: &HopTarget,
    request: Request<Body>,
) -> Result<(Arc<Group>, Permit, Instant, Request<Body>), HopError> {
    let name = || format!("{}@{}", target.service, target.version);
    let Some(group) = directory.find(target) else {
        let reason = format!("no ready instance of {} on this node", name());
        return Err(HopError::Misdirected { reason, request: Box::new(request) });
    };
    let deadline = Instant::now() + group.timeout.duration();
    if let Some(permit) = group.line.try_enter(&group.slots, &target.instance) {
        return Ok((group, permit, deadline, request));
    }
    let gone = |request| {
        let reason = format!("the last instance of {} on this node takes no more requests", name());
        HopError::Misdirected { reason, request: Box::new(request) }
    };
    let mut queued = match group.line.join() {
        Joined::Admitted(permit) => return Ok((group, permit, deadline, request)),
        Joined::Queued(queued) => queued,
        Joined::Closed => return Err(gone(request)),
        Joined::Full => {
            let reason = format!(
                "every instance of {} on this node is busy and {} requests wait",
                name(),
                limits::QUEUE_REQUESTS
            );
            return Err(HopError::Overloaded { reason, request: Box::new(request) });
        }
    };
    match timeout_at(deadline, queued.admitted()).await {
        Ok(Some(permit)) => Ok((group, permit, deadline, request)),
        Ok(None) => Err(gone(request)),
        Err(_) => {
            let reason = format!("every instance of {} on this node was busy for {}", name(), group.timeout);
            Err(HopError::Overloaded { reason, request: Box::new(request) })
        }
    }
}

async fn call(
    handler: &dyn Handler,
    request: Request<Body>,
    deadline: Instant,
    timeout: Millis,
) -> Result<Response<Body>, HopError> {
    let (parts, body) = request.into_parts();
    // The guest is not to blame for a slow upload: its time starts again while the request's body moves.
    let (body, progress) = upload::Progress::watch(&parts.headers, body);
    let handled = handler.handle(Request::from_parts(parts, body));
    let first_byte = deadline.saturating_duration_since(Instant::now());
    match upload::within(first_byte, progress.as_ref(), handled).await {
        Some(Ok(response)) => Ok(response),
        Some(Err(error @ (HandleError::Trap(_) | HandleError::Memory))) => {
            Err(HopError::Failed(error.to_string()))
        }
        Some(Err(HandleError::Time)) | None => Err(HopError::Timeout(timeout)),
        // The request has gone in, so that it cannot go elsewhere; but its caller may try again.
        Some(Err(error @ HandleError::Full(_))) => Err(HopError::Full(error.to_string())),
    }
}

/// Lets the answer's body hold the request's place, or the tunnel that the answer begins.
fn held(mut response: Response<Body>, permit: Permit) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        upgrade::hold(&mut response, permit);
        return response;
    }
    response.map(|body| Held { body, permit: Some(permit) }.boxed_unsync())
}

/// An answer's body that leaves the instance when it ends.
struct Held {
    body: Body,
    permit: Option<Permit>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None | Some(Err(_))) => self.permit = None,
            // Whoever knows from the length that this was all may not ask again.
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.permit = None,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
