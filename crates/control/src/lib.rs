//! Control: the API, who may call it, and the reconcilers that make what is so.
//!
//! Stateless over the store, so that there may be several over one. [`leadership`] says whose reconcilers run. [`objects`] puts kinds into keys; [`server`] answers the API; [`reconcile`] watches,
//! decides with `tutti-plan` and writes; [`zone`] is what agents and ingresses talk to, [`node_logs`]
//! asks them for lines; [`observed`] holds what
//! changes too often to be an object (heartbeats, figures).

mod author;
pub mod cluster;
pub mod keys;
pub mod leadership;
pub mod node_logs;
pub mod objects;
pub mod observed;
pub mod reconcile;
pub mod secrets;
pub mod server;
pub mod zone;

pub use objects::Objects;
