//! The driver contract: how an agent runs instances without knowing what runs them.
//!
//! [`contract`] holds the traits, [`mock`] a driver with knobs for tests, [`suite`] the conformance suite that every
//! driver passes. Optional powers (exec, snapshot, network) will be traits of their own.

pub mod contract;
pub mod mock;
pub mod suite;

pub use contract::{
    Artifact, Artifacts, Driver, DriverError, Exit, HandleError, Handler, Layer, Recovery, Running,
    StartSpec, Target, Usage,
};
