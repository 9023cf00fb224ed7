//! The vocabulary of Tutti: names, ids, specs, statuses, state machines, limits and error codes.
//!
//! Everything here is plain data with rules. There is no I/O, clock, randomness or logging, and no hash map is ever
//! iterated, so whatever is decided from these types is the same on every machine.
//!
//! One module per subject. [`resource`] holds the envelope that every stored object travels in; the modules named
//! after kinds (`service`, `version`, `deployment`, …) hold that kind's `Spec` and `Status`.

pub mod assignment;
pub mod audit;
pub mod claim;
pub mod cluster;
pub mod control;
pub mod deployment;
pub mod digest;
pub mod domain;
pub mod error;
pub mod event;
pub mod id;
pub mod ingress;
pub mod instance;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod member;
pub mod name;
pub mod nearest;
pub mod node;
pub mod pool;
pub mod quantity;
pub mod quota;
pub mod report;
pub mod resource;
pub mod route;
pub mod scheduling;
pub mod secret;
pub mod service;
pub mod share;
pub mod stats;
pub mod table;
pub mod time;
pub mod token;
pub mod user;
pub mod version;
pub mod zone;

pub use digest::Digest;
pub use error::{ErrorCode, Problem};
pub use id::{DeploymentId, InstanceId, Uid};
pub use name::{DomainName, ServiceName, ServiceRef, VersionName, VersionRef};
pub use resource::{Condition, Kind, Resource};
pub use share::{Share, Split};
pub use time::{Millis, Timestamp};
pub use user::UserName;
