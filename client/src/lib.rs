#![doc = include_str!("../README.md")]

mod builder;
mod client;
mod error;
mod event;
mod instance;
mod leaders;
mod pause;
mod present;
mod registration;
mod service;
mod sse;
mod tls;
mod token;
mod transport;
mod watch;

pub use builder::Builder;
pub use client::Client;
pub use error::{BuildError, Code, Error, Refusal};
pub use event::Event;
pub use instance::{Instance, instance_id};
pub use leaders::Leaders;
pub use present::Present;
pub use registration::{Register, Registration, State};
pub use service::{LeaderType, Service, ServiceMeta};
pub use watch::Watch;
