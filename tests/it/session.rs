//! Proxy sessions over real sockets.

mod bounds;
mod clients;
mod decisions;
mod env;
mod guide;
mod restart;
mod secured;
