//! The agent: turns what control wants of this node into instances, and takes requests to them.
//!
//! Desired state comes by watch ([`fleet`]); each instance has a [`runner`], a state machine with a task of its own;
//! what it runs is on disk before it runs ([`ledger`]); what it is goes up by report ([`reporter`]). Requests come in
//! through the [`node_proxy`], which finds a ready instance in the [`directory`] and room in it by [`admission`].
//! [`presence`] registers the node and says that it lives, [`preload`] holds versions ready to start.
//!
//! It works from what it last knew for as long as control is away: what runs goes on, what ends is started again, and
//! an agent that restarts reads its ledger before it asks anybody.
//!
//! What an isolate is, and how an instance is started in one, is the drivers' business; which instances there are to
//! be, and which take how much traffic, is control's.

mod admission;
mod agent;
mod directory;
mod fleet;
mod health;
mod leases;
mod ledger;
mod logs;
mod machine;
mod metrics;
mod node;
mod node_proxy;
mod preload;
mod presence;
mod reporter;
mod restart;
mod runner;
mod sweep;
mod usage;
mod voice;

#[cfg(test)]
mod testing;

pub use agent::{Agent, AgentOptions};
pub use machine::capacity;
pub use node::Shutdown;
