//! The whole ingress over real connections: a zone whose watch is fed by the test, and hops that are closures or real
//! servers.

mod faults;
mod http;
mod nodes;
mod reflection;
mod tables;
mod world;
