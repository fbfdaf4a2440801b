//! Proxy sessions over real sockets.

mod bounds;
mod clients;
mod decisions;
mod env;
mod restart;
mod secured;
