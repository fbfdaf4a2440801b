//! discoverd: services whose instances register with attributes, are told of
//! changes, and know their leader.
//!
//! What a service *is* is what the store's watch tells, and nothing else: so every
//! replica shows the same, in the same order, and nobody leads whom the store does
//! not know. Heartbeats alone are noted in memory.
//!
//! - [`engine`]: all decisions, as plain functions that take the time.
//! - [`name`], [`instance`], [`meta`], [`record`]: the words, validated when made.
//! - [`problem`] and [`event`]: what clients are answered and told; [`hub`] tells it.
//! - [`services`]: the engine behind a lock; [`http`] and [`dns`]: the ways in.
//! - [`tunnels`]: gost's tunnels, shown as services.

pub mod dns;
pub mod engine;
pub mod event;
pub mod http;
pub mod hub;
pub mod instance;
pub mod meta;
pub mod name;
pub mod problem;
pub mod record;
pub mod services;
pub mod tunnels;

pub use engine::Engine;
pub use event::Event;
pub use instance::{Instance, InstanceId};
pub use name::ServiceName;
pub use problem::Problem;
pub use record::{InstanceKey, InstanceRecord, LeaderType, ServiceRecord};
pub use services::Services;
