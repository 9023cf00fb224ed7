//! The wasm driver with real guests: the sample service, and one that misbehaves on request.
//!
//! Build the guests with `scripts/build-guests.sh` first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the whole crate is a test: what fails here is to fail loudly"
)]

mod bodies;
mod compile;
mod fixture;
mod limits;
mod log;
mod preload;
mod requests;
mod stop;
mod suite;
