//! The registry from outside: its server over real sockets, its process, and
//! tunnels through it. One binary, a module a subject.
//! The product with real parts around it: one binary, a module a subject.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows them in test functions, not in what those call"
)]

mod access;
mod crash;
mod ends;
mod flood;
mod grpc;
mod http;
mod lifecycle;
mod kube;
mod limits;
mod malformed;
mod process;
mod sd;
mod testenv;
mod tunnels;
