//! Proxy sessions as objects of the Gateway API, on a real API server with its
//! real definitions, and with a real Traefik that carries requests by them.
//! Skipped, with a line that says so, without those definitions.

mod collect;
mod life;
mod objects;
mod proxy;
mod rights;
mod states;
mod traffic;
mod world;
