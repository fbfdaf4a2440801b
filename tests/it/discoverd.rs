//! discoverd's HTTP API over real sockets, on every store that keeps services.

mod api;
mod dns;
mod env;
mod program;
mod streams;
