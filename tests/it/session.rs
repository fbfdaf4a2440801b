//! Proxy sessions over real sockets.

mod bounds;
mod clients;
mod decisions;
pub mod env;
mod guide;
mod restart;
mod secured;
