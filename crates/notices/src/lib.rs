//! Notices of changes: what lets agents and ingresses learn of a change without a watch that is open all the time.
//!
//! A notice says only that something of a zone (its tables, its nodes, one node's instances) has changed at a revision. It
//! carries no state. Whoever hears one that is newer than what he has reads the state by the usual authenticated watch,
//! from where he was, and closes it when nothing more comes. So a notice that is lost, repeated, late or made up changes
//! nothing but when, and how often, somebody reads.
//!
//! * [`notice`]: what a notice says, and on which subjects.
//! * [`carrier`]: who carries them; [`nats`] does. The only owner of the NATS client.
//! * [`publisher`]: tells of what control's store says has changed, and twice a second of all that has lately.
//! * [`hearing`]: whether notices are to be relied on: control is heard over them all the time, or they are not.
//! * [`follow`]: the zone's interface with watches that are open only while there is something to read, or while notices
//!   are not to be relied on.
//!
//! What a change means, and who may read it, is left to the zone's interface.

pub mod carrier;
pub mod follow;
pub mod hearing;
pub mod nats;
pub mod notice;
pub mod publisher;

pub use carrier::Carrier;
pub use follow::NoticedZone;
pub use hearing::Hearing;
pub use nats::{Nats, NatsAddress};
pub use notice::{Subjects, Topic};
pub use publisher::{Publisher, Sources};

#[cfg(test)]
mod tests;
