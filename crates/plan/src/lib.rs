//! Every decision of Tutti's control loops, as pure functions from a snapshot to a plan with its reasons.
//!
//! No clock, randomness, I/O or logging: time is part of the snapshot, and ids of new things are given by whoever
//! executes a plan. That makes each decision testable by itself, repeatable in simulation, and explainable.
//!
//! Global tier: [`rollout`] moves a deployment through its states, [`judge`] weighs a step's figures, [`handdown`]
//! makes a zone's part of a service. Zone tier: [`zone`] plans one service on the zone's nodes, with [`placement`]
//! for new instances, [`room`] where no node has any left, and [`capacity`] for how many there must be, and [`scaling`] for how
//! many serve a service's whole traffic at today's load. [`pool`] asks for further machines and lets them go. [`prepare`] says
//! where a version is held ready before it is deployed. [`happened`] says which changes are worth an event. [`names`]
//! says what a name of the cluster leads to, for its DNS servers.

pub mod capacity;
pub mod handdown;
pub mod happened;
pub mod judge;
pub mod names;
pub mod placement;
pub mod pool;
pub mod prepare;
pub mod quota;
pub mod rollout;
pub mod room;
pub mod scaling;
pub mod zone;
