//! The part of etcd's API that is spoken.
#![allow(
    missing_docs,
    clippy::enum_variant_names,
    reason = "what there is, is in proto/etcd.proto, and named by etcd"
)]

tonic::include_proto!("etcdserverpb");
