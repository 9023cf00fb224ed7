//! The HTTP forwarding core that ingress and node proxy share: connections and their pool, what may and may not be
//! passed on, upgrades, replayable bodies, and errors as HTTP or gRPC answers.
//!
//! It knows addresses and requests, not services or tables: who is to serve a request is decided above.

pub mod hop;
