//! The HTTP forwarding core that ingress and node proxy share: connections and their pool, what may and may not be
//! passed on, upgrades, replayable bodies, serving a port, and errors as HTTP or gRPC answers.
//!
//! It knows addresses and requests, not services or tables: who is to serve a request is decided above.

mod attempt;
#[cfg(test)]
mod frames;
pub mod grpc;
pub mod headers;
pub mod hop;
pub mod pool;
pub mod replay;
pub mod resolve;
pub mod respond;
pub mod serve;
pub mod upgrade;
pub mod upload;
pub mod wire;

pub use hop::{Hop, HopError, HopTarget, NodeLink};
pub use pool::{ForwardError, Pool, PoolOptions, Protocol, Timeouts};
pub use replay::Replay;
pub use respond::{Caller, Failure};
pub use serve::{ConnInfo, Limits, serve, serve_tracked};
