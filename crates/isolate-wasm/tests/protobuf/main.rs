//! Protobuf as this driver reads and writes it, held against other implementations: thousands of messages of every type go
//! through a guest that gives them back, and what comes back is compared with what `prost` and Python's protobuf make of the
//! same bytes.
//!
//! Build the guests with `scripts/build-guests.sh` first. `TUTTI_TEST_PYTHON` names a Python that has protobuf; without it
//! Python's part is left out. `TUTTI_SEED` tells the same story again, `TUTTI_MESSAGES` says how many messages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "the whole crate is a test: what fails here is to fail loudly"
)]

mod boxed;
mod canonical;
mod corpus;
mod differential;
mod edges;
mod generate;
mod host;
mod mutate;
mod python;
mod quirks;
mod seed;
mod wit;
mod write;
