//! The product with real parts around it: one binary, a module a subject.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows them in test functions, not in what those call"
)]

mod access;
mod ends;
mod grpc;
mod http;
mod kube;
mod limits;
mod malformed;
mod testenv;
