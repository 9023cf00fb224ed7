//! What Tutti knows of protobuf: descriptors, the schema that a component sees, the WIT that a component is written against,
//! and the check of a component at its push.
//!
//! No wasm engine and no runtime here: turning messages into component values is the driver's, with [`schema::Schema`] as
//! its table.

pub mod check;
pub mod compile;
pub mod docs;
pub mod fault;
pub mod health;
pub mod json;
pub mod kebab;
pub mod limits;
pub mod openapi;
pub mod paths;
pub mod reflection;
pub mod schema;
pub mod stored;
pub mod wit;
