//! The process driver, over the kernel that there is. What a host does not offer is said and not tested.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the helpers of tests fail as tests do"
)]

mod confinement;
mod conformance;
mod limits;
mod ordinary_user;
mod subject;
mod survival;
