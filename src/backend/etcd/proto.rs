//! The part of etcd's API that is spoken.
#![allow(missing_docs, reason = "what there is, is in proto/etcd.proto")]

tonic::include_proto!("etcdserverpb");
