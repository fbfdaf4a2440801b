//! The product on a real Kubernetes API server, with a real etcd behind it.

mod cluster;
mod kubectl;
mod resource;
mod store;
mod supervisor;
mod tools;
