//! discoverd's HTTP API over real sockets, on every store that keeps services.

mod api;
mod dns;
pub mod env;
mod places;
mod program;
mod restarts;
mod streams;
mod tunnels;
