//! The client of etcd's API, made from `proto/etcd.proto` by `build.rs`.
#![allow(missing_docs, reason = "generated: the names are etcd's")]
#![allow(unreachable_pub, reason = "generated")]
#![allow(clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]

tonic::include_proto!("etcdserverpb");
