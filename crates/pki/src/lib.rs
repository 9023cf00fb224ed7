//! Who is a member of the cluster: the authority that vouches for new ones, each member's own key, and the TLS between
//! them.
//!
//! **A peer is who its key says, as the last table of members knows it.** Certificates are for the first contact and
//! for stock TLS; afterwards a member is admitted because its key stands in the [`MemberTable`], whatever its
//! certificate's dates say. So a removed member is refused with the next table though its certificate is still good,
//! and no outage of control outlives a certificate. The signature of the handshake is verified always: that is what
//! proves the key. Sessions are never resumed, since that would skip the question.
//!
//! What fills the table, who may join and where the authority's sealed keys are kept is control's business. This crate
//! reads no clock but the one it is given. Keys are made by the TLS library, from the operating
//! system's randomness.

mod accept;
mod authority;
mod chain;
mod config;
mod dial;
mod identity;
mod member_id;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod verify;

pub use accept::{Acceptor, HANDSHAKE, HANDSHAKES, PeerIdentity};
pub use authority::{Intermediate, LEAF_LIFE, Root, SealedAuthority};
pub use chain::{Chain, fingerprint, key_digest};
pub use config::{Listens, MemberDial, Pin, connects, connects_publicly, listens};
pub use dial::dial;
pub use identity::Identity;
pub use member_id::MemberId;
pub use table::MemberTable;
pub use token::JoinToken;
pub use verify::Expected;

/// What is needed to name these types' parts in other crates.
pub use rustls::{ClientConfig, ServerConfig};
pub use tokio_rustls::{client, server};
