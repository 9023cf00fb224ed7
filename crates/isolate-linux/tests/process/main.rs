//! The process driver, over the kernel that there is. What a host does not offer is said and not tested.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod conformance;
mod subject;
