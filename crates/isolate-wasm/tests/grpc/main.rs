//! Calls of gRPC with a real guest that serves them, well and badly.
//!
//! Build the guests with `scripts/build-guests.sh` first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the whole crate is a test: what fails here is to fail loudly"
)]

mod calls;
mod fixture;
mod https;
mod json;
mod kept;
mod limits;
mod neighbours;
mod outgoing;
mod streams;
mod wit;
