//! The wasm driver with real guests: the sample service, and one that misbehaves on request.
//!
//! Build the guests with `scripts/build-guests.sh` first.

mod bodies;
mod fixture;
mod limits;
mod log;
mod preload;
mod requests;
mod stop;
