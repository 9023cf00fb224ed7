//! Connections to whatever serves requests, kept and used again.
//!
//! An HTTP/1.1 connection is driven by the request that uses it rather than by a task of its own: a request costs no
//! switch between tasks, and a connection at rest costs nothing at all. HTTP/2 connections carry many requests, so
//! each has its task. There is one lock per address, held for a push or a pop only; it is never contended for longer
//! than that takes.

mod error;
mod http1;
mod http2;
mod silence;
#[cfg(test)]
mod tests;

pub use error::ForwardError;

use crate::{grpc, headers};
use http::{HeaderMap, Request, Response};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpStream;
use tutti_base::Body;

/// The bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolOptions {
    /// Most connections at once, over all addresses.
    pub connections: usize,
    /// Most connections at once to one address.
    pub connections_per_address: usize,
    /// Most connections at rest to one address; further ones are closed when their request is done.
    pub idle_per_address: usize,
    /// A connection at rest is closed after this long.
    pub idle_age: Duration,
    /// Most HTTP/2 connections to one address.
    pub http2_per_address: usize,
    /// Requests on one HTTP/2 connection from which on another is opened, should the peer allow more.
    pub http2_streams: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        PoolOptions {
            // A proxied request holds two files, and a process may have 20,000 on the smallest hosts.
            connections: 8192,
            connections_per_address: 4096,
            // As many as a burst leaves behind and the next one wants again.
            idle_per_address: 256,
            // Below the keep-alive time of common servers (5 s), so that they hardly ever close first.
            idle_age: Duration::from_secs(4),
            http2_per_address: 8,
            // The concurrency that most HTTP/2 servers announce.
            http2_streams: 100,
        }
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the head of the answer, while no byte of the request's body moves.
    pub first_byte: Duration,
    /// Between two pieces of the answer's body; without it they may take for ever, as server-sent events do.
    pub idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        // A connection on one network is there in milliseconds; 3 s survives two lost packets.
        Timeouts { connect: Duration::from_secs(3), first_byte: Duration::from_secs(30), idle: None }
    }
}

/// What to speak to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in clear text with prior knowledge.
    Http2,
}

impl Protocol {
    /// gRPC needs HTTP/2; everything else is understood in HTTP/1.1 by every server.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        if grpc::is_grpc(headers) { Protocol::Http2 } else { Protocol::Http1 }
    }
}

/// Connections to many addresses. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: PoolOptions,
    open: Arc<AtomicUsize>,
    /// Read on every request, written when an address is first used or was forgotten.
    upstreams: RwLock<HashMap<SocketAddr, Arc<Upstream>>>,
}

/// What is kept for one address.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
    options: PoolOptions,
    open: AtomicUsize,
    open_in_pool: Arc<AtomicUsize>,
    http1: http1::Idle,
    http2: http2::Shared,
}

/// The right to one open connection; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Upstream>);

impl Permit {
    fn of(upstream: &Arc<Upstream>) -> Option<Permit> {
        let take = |count: &AtomicUsize, most: usize| {
            let taken = count.fetch_add(1, Ordering::Relaxed) < most;
            if !taken {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            taken
        };
        if !take(&upstream.open, upstream.options.connections_per_address) {
            return None;
        }
        if !take(&upstream.open_in_pool, upstream.options.connections) {
            upstream.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit(Arc::clone(upstream)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.open_in_pool.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// An empty pool. It must be made inside a runtime, where it closes connections that rested too long.
    #[must_use]
    pub fn new(options: PoolOptions) -> Self {
        let inner = Arc::new(Inner { options, open: Arc::default(), upstreams: RwLock::default() });
        tokio::spawn(sweep(Arc::downgrade(&inner), options.idle_age));
        Pool(inner)
    }

    /// Sends a request and gives its answer as soon as its head is there. Fields of the connection are removed from
    /// both; `Host` names whom it is for. An answer of 101 carries the upgraded connection in its extensions. Dropping
    /// the future, or the answer's body, ends the request at the other side.
    ///
    /// # Errors
    /// [`ForwardError`] says whether the request may have been delivered; where it surely was not, it is given back.
    pub async fn send(
        &self,
        address: SocketAddr,
        protocol: Protocol,
        mut request: Request<Body>,
        timeouts: &Timeouts,
    ) -> Result<Response<Body>, ForwardError> {
        let version = request.version();
        headers::strip_request(request.headers_mut(), version);
        let upstream = self.upstream(address);
        let mut response = match protocol {
            Protocol::Http1 => http1::send(&upstream, request, timeouts).await?,
            Protocol::Http2 => http2::send(&upstream, request, timeouts).await?,
        };
        let status = response.status();
        headers::strip_response(response.headers_mut(), status);
        Ok(response)
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    fn upstream(&self, address: SocketAddr) -> Arc<Upstream> {
        if let Some(known) = self.0.upstreams.read().unwrap_or_else(PoisonError::into_inner).get(&address) {
            return Arc::clone(known);
        }
        let mut upstreams = self.0.upstreams.write().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            Arc::new(Upstream {
                address,
                options: self.0.options,
                open: AtomicUsize::new(0),
                open_in_pool: Arc::clone(&self.0.open),
                http1: http1::Idle::default(),
                http2: http2::Shared::default(),
            })
        };
        Arc::clone(upstreams.entry(address).or_insert_with(new))
    }
}

/// Closes what rested too long and forgets addresses without connections, until the pool is gone.
async fn sweep(pool: Weak<Inner>, idle_age: Duration) {
    let mut tick = tokio::time::interval((idle_age / 4).max(Duration::from_millis(10)));
    loop {
        tick.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        let all: Vec<Arc<Upstream>> =
            pool.upstreams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for upstream in &all {
            upstream.http1.sweep(idle_age);
            upstream.http2.sweep(idle_age);
        }
        drop(all);
        let mut upstreams = pool.upstreams.write().unwrap_or_else(PoisonError::into_inner);
        upstreams.retain(|_, upstream| {
            Arc::strong_count(upstream) > 1 || upstream.open.load(Ordering::Relaxed) > 0
        });
    }
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(limit, TcpStream::connect(address)).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("not connected within {} ms", limit.as_millis()))
    })??;
    // Answers are written in one piece; waiting for more only delays them.
    stream.set_nodelay(true)?;
    Ok(stream)
}
