//! discoverd's HTTP API over real sockets, on every store that keeps services.

mod api;
pub mod env;
mod program;
mod streams;
