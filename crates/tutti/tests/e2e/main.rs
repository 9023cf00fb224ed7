//! The real binary, driven as a user would: every test starts a cloud of its own on free ports and in folders of its
//! own, so that they run beside one another and beside a running `make up`.
//!
//! Guests are built by `scripts/build-guests.sh`; a test that needs one and does not find it fails and says so.

mod harness;

mod first_deploy;
