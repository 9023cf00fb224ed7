//! Sealing: what must not be readable where it is stored is encrypted before it gets there, under a key that is kept
//! elsewhere.
//!
//! [`key`] has the format and nothing else; [`keyring`] where the one key of a role comes from, and what is told when it
//! cannot be had. What is sealed, under which name and who may open it, is its owner's business.

pub mod key;
pub mod keyring;

pub use key::{OpenError, SealingKey};
pub use keyring::{Keyring, Source};
