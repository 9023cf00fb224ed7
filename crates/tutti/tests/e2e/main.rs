//! The real binary, driven as a user would: every test starts a cloud of its own on free ports and in folders of its
//! own, so that they run beside one another and beside a running `make up`.
//!
//! Guests are built by `scripts/build-guests.sh`; a test that needs one and does not find it fails and says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "the whole crate is a test: what fails here is to fail loudly"
)]

mod harness;

mod agent;
mod audit;
mod backup;
mod bad_input;
mod bootstrap;
mod bucket;
mod crash;
mod debug;
mod delayed;
mod dns;
mod domains;
mod engine;
mod etcd;
mod events;
mod explain;
mod faults;
mod first_deploy;
mod grpc_api;
mod grpc_streams;
mod ingress;
mod ingress_role;
mod load;
mod logs;
mod machines;
mod members;
mod metrics;
mod notices;
mod placement;
mod pool;
mod postgres;
mod quota;
mod recovery;
mod relay;
mod rollout;
mod scaling;
mod secrets;
#[path = "../../../store/tests/server/postgres.rs"]
mod server;
mod singleton;
mod six;
mod sleep;
mod socket;
mod split;
mod traffic;
mod wasm_grpc;
mod wasm_json;
