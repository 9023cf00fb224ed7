//! What roles and clients say to each other: resources on the wire, the operations of the API with the right each one
//! needs, the zone's own interface to agents and ingresses, the typed client, and OpenAPI.
//!
//! Types only, and the client: nothing here decides anything or serves a request.

pub mod cache;
pub mod client;
pub mod debug;
pub mod dns;
pub mod logs;
pub mod machines;
pub mod members;
pub mod node_logs;
pub mod openapi;
pub mod operations;
pub mod pools;
pub mod watch;
pub mod wire;
pub mod zone;

pub use cache::Cache;
pub use client::{Client, ZoneClient};
pub use watch::{Change, WatchEvent, WatchStream};
pub use zone::ZoneApi;
