//! Content by digest: blobs, OCI manifests and the part of the OCI distribution API that a push and a pull need.
//!
//! Bytes are stored once, under their SHA-256, whoever pushes them. A repository (a service, `DOMAIN/SERVICE` in the
//! API) shows only what was pushed to it, so that knowing a digest is not enough to read another domain's bytes.
//!
//! What is not here: which digest is NAME@VERSION (an object in the store), who may push and pull (the role that
//! mounts [`Registry::router`] decides, with [`path::Target`] to read a request's path the same way), unpacking, and
//! running anything.

pub mod artifacts;
pub mod blobs;
pub mod bucket;
pub mod error;
pub mod folder;
mod http;
pub mod manifest;
pub mod path;
pub mod remote;
#[cfg(test)]
mod suite;

pub use artifacts::{LocalArtifacts, shows};
pub use blobs::{Blobs, Upload};
pub use bucket::BucketBlobs;
pub use error::BlobError;
pub use folder::FolderBlobs;
pub use http::Registry;
pub use manifest::OciManifest;
pub use remote::RemoteArtifacts;
