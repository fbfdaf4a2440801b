//! The product on a real etcd.
//!
//! [`server`] runs etcd: one for all tests that break nothing, each with a prefix
//! of its own, and clusters that a test may break.

mod access;
mod faults;
mod members;
mod outages;
mod product;
mod replicas;
pub mod server;
mod store;
