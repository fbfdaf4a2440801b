//! The chart in `charts/tunnel-registry`, and what is made from it, on a real
//! API server: what Helm renders is accepted, works with no more rights than it
//! grants, and leaves nothing behind.
//!
//! No pod runs here: objects are stored, and the product runs as a process with
//! the token that its pod would have.

mod accepted;
mod definitions;
mod examples;
mod grants;
mod helm;
mod inventory;
mod manifests;
mod others;
mod pods;
mod policy;
mod release;
mod schema;
mod sessions;
mod settings;
mod sidecars;
mod switches;
mod values;
