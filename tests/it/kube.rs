//! The product on a real Kubernetes API server, with a real etcd behind it.
//!
//! [`cluster`] runs the programs, [`env`] gives a test its namespace,
//! [`accounts`] the product's rights in it, [`proxy`] a network that can fail,
//! and [`product`] runs replicas and controllers.

mod accounts;
mod chart;
mod cluster;
mod controller;
mod deeds;
mod discovery;
pub mod env;
mod faults;
mod garbage;
mod gateway;
mod kubectl;
mod objects;
mod outages;
mod pair;
mod pods;
pub mod ports;
mod product;
pub mod program;
pub mod proxy;
mod proxy_sessions;
pub mod replicas;
mod resource;
mod rights;
mod services;
mod sessions;
mod site;
pub mod store;
mod supervision;
pub mod supervisor;
pub mod tools;
mod validation;
