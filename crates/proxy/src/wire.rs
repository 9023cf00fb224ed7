//! The hop over the wire: from an ingress to the agent of a node in another process, over HTTP/2.
//!
//! What a hop is stays the same as in one process ([`crate::Hop`]); this carries it. [`WireHop`] is the ingress's end,
//! [`serve`] the agent's, and [`Hops`] sends what is for the own node straight there and the rest over the wire. How a
//! connection is made is behind [`Dial`]: a socket file between roles on one machine, TLS between members of a cluster.
//!
//! **Untouched requests.** A node refuses before it reads the body, and until it reads, HTTP/2's flow control lets
//! through no more than what the ingress keeps: a window and what is in the hand of the connection, together
//! [`tutti_model::limits::REPLAY_BODY_BYTES`]. So whatever a node refuses unread is complete, however long it is, and
//! needs no message of its own to be admitted.

mod book;
mod client;
mod dial;
mod encoding;
mod heard;
mod hops;
mod link;
mod pieces;
mod server;
#[cfg(test)]
mod tests;

pub use book::NodeBook;
pub use client::WireHop;
pub use dial::{Dial, Io, Members, Sockets};
pub use hops::Hops;
pub use server::{Guests, Others, serve, serve_port};

use std::time::Duration;

/// Requests at once on one connection. Each has a whole window of its own in the connection's ([`ANSWERS_WINDOW`]), so
/// that slow readers never hold up the others, and this many windows are what a connection may cost.
const STREAMS: u32 = 256;
/// Connections at once from one ingress to one node: with [`STREAMS`], as many requests as an ingress has connections
/// to clients ([`crate::Limits`]).
const CONNECTIONS: usize = 32;
/// Requests on each connection from which on another is opened: beyond it the one task that writes and reads a
/// connection is what they wait for.
const SPREAD: usize = 64;
/// Requests that may wait for a connection to one node to be opened; as many as a node's own queue takes.
const PENDING: usize = tutti_model::limits::QUEUE_REQUESTS;
/// Longest wait for a connection and its node's first word: survives a lost packet, and is over before lost pings are.
const DIAL: Duration = Duration::from_secs(2);
/// A connection on which nothing was heard for this long is asked for a sign of life.
const PING: Duration = Duration::from_secs(1);
/// How long the answer may take. An ordered connection cannot lose one ping and deliver the next, so one that is not
/// answered while two more would have been due is three lost ones: a node is out 3 s after its last word.
const PONG: Duration = Duration::from_secs(2);
/// A node to which no request went for this long is forgotten, with its connections.
const REST: Duration = Duration::from_secs(60);
/// Bytes of one request's body that may be ahead of the instance.
const REQUEST_WINDOW: u32 = 48 * 1024;
/// The same over all requests of one connection.
const REQUESTS_WINDOW: u32 = STREAMS * REQUEST_WINDOW;
/// Longest piece in which a body is handed to a connection, in bytes.
const PIECE: usize = 8 * 1024;
/// Bytes of one answer that may be ahead of its reader.
const ANSWER_WINDOW: u32 = 128 * 1024;
/// The same over all answers of one connection.
const ANSWERS_WINDOW: u32 = STREAMS * ANSWER_WINDOW;
/// Bytes of one body that may wait to be written.
const SEND_BUFFER: usize = 64 * 1024;
/// Longest list of fields of a request or an answer, in bytes: what an ingress takes from clients (32 KiB) or a node from
/// instances (64 KiB), and the fields of the hop.
const HEADER_BYTES: u32 = 80 * 1024;

// A connection polls a body for one piece beyond the one that filled the window.
const _: () = assert!(REQUEST_WINDOW as usize + 2 * PIECE <= tutti_model::limits::REPLAY_BODY_BYTES);
