//! The process driver, over the kernel that there is. What a host does not offer is said and not tested.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod confinement;
mod conformance;
mod limits;
mod ordinary_user;
mod subject;
mod survival;
