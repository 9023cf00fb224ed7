//! Content by digest: blobs, OCI manifests and the distribution API they are pushed through
