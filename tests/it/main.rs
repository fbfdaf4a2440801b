//! The server over real sockets: one binary, a module a subject.

mod access;
mod grpc;
mod http;
mod limits;
mod malformed;
mod testenv;
