//! gRPC: calls to components that export the interface of a protobuf service.
//!
//! The way of a call: [`handler`] finds the method and reads the request's head; [`frame`] takes messages out of its
//! body; [`codec`] makes component values of them by the schema; [`invoke`] calls the component's function in a store of
//! its own; the reply goes the same way back, and [`status`] says how it went. What a component may ask of its call while
//! it runs ([`host`]) works on the [`call`] that its store holds. Streams are resources of the host: a read takes the
//! next message out of the request's body when the component wants one, and a write waits until the client has taken
//! what was written before, so that neither side makes the host hold more than a message.
//!
//! Messages come in here as protobuf bytes. JSON, reflection and health stand in [`front`] of it.

pub mod codec;

mod about;
mod call;
mod frame;
mod front;
mod handler;
mod health;
mod host;
mod invoke;
mod json;
mod kept;
mod metadata;
mod reflection;
mod replies;
mod service;
mod status;
mod streamed;

#[doc(hidden)]
pub use frame::messages_of;

pub(crate) use call::Call;
pub(crate) use front::Front;
pub(crate) use handler::Calls;
pub(crate) use host::add_call_to_linker;
pub(crate) use kept::Kept;
pub(crate) use service::{Service, open_descriptors, services_of};
