//! Seeded simulation of the control loops: the real reconcilers and the real decisions, over a store that fails, nodes
//! that are slow or broken, and ingresses that lag, in virtual time.
//!
//! One seed is one story, told on one thread; the same seed tells it again. [`world`] holds what is simulated,
//! [`checker`] reads every transaction of the store and holds it against what must always be so.

pub mod checker;
pub mod world;

pub use checker::Checker;
pub use world::World;
