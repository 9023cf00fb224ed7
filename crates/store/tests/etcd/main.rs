//! The etcd engine against real etcd: the conformance suite over one member, and what it does when members of three
//! fail. Where etcd is not installed, the tests say that they were skipped.
#![cfg(test)]

mod cluster;
mod load;
mod members;
mod single;
