//! The registry from outside: its server over real sockets, its process, and
//! tunnels through it, with real parts around it. One binary, a module a subject.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows them in test functions, not in what those call"
)]

mod access;
mod client;
/// The tests that every store has.
#[path = "../../src/backend/contract.rs"]
mod contract;
mod crash;
mod discoverd;
mod ends;
mod etcd;
mod flood;
mod grpc;
mod http;
mod image;
mod kube;
mod lifecycle;
mod limits;
mod malformed;
mod process;
mod sd;
mod session;
mod sharing;
mod testenv;
mod traefik;
mod transfer;
mod tunnels;
mod whole;
