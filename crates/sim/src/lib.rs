//! Seeded simulation of the control loops: the real reconcilers and the real decisions, over a store that fails, nodes
//! that are slow or broken, and ingresses that lag, in virtual time.
//!
//! One seed is one [`story`], told on one thread; the same seed tells it again. [`world`] holds what is simulated, `user`
//! what users do to it, and `rest` what must be so once they have stopped; [`checker`] reads every transaction of the
//! store and holds it against what must always be so. Whether all of this finds anything is tested too: [`planted`] has
//! bugs that it must find.

mod authors;
pub mod checker;
mod fault;
pub mod planted;
mod rest;
pub mod story;
mod user;
pub mod world;

pub(crate) use authors::{Authored, Authors};
pub use checker::Checker;
pub use fault::{Check, Fault};
pub use planted::Planted;
pub use user::SERVICES;
pub use world::World;
