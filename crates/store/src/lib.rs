//! The store: where desired state and status are kept, and from where they are watched.
//!
//! The contract is etcd's: linearizable reads, compare-and-swap transactions, leases, and a watch that resumes from any
//! retained revision, says when that was compacted away, and never skips, repeats or goes back. A transaction that was
//! acknowledged is on disk. What lives above the store (kinds, keys, JSON) is not known here.
//!
//! [`contract`] holds the trait and its types, [`suite`] the conformance suite that every engine passes. Engines:
//! [`sqlite`] (embedded, the default), [`etcd`] and [`postgres`] (for clusters) and [`memory`] (tests and simulation);
//! [`faulty`] wraps any engine and injects faults; [`migrate`] copies a store into one of another engine; [`backup`] reads
//! one as of a moment, and fills an empty one with what was read.

pub mod backup;
mod check;
pub mod contract;
pub mod etcd;
pub mod faulty;
mod leases;
pub mod measured;
pub mod memory;
pub mod migrate;
pub mod postgres;
mod rows;
pub mod sqlite;
pub mod suite;
mod watch;
mod watchers;

pub use contract::{
    Change, Compare, Entry, LeaseId, List, Listing, Operation, Revision, Store, StoreError, Txn, TxnOutcome,
    Watch, WatchEvent,
};
pub use etcd::{EtcdAddress, EtcdOptions, EtcdStore};
pub use memory::MemoryStore;
pub use postgres::{PostgresAddress, PostgresOptions, PostgresStore};
pub use sqlite::{SqliteOptions, SqliteStore};
