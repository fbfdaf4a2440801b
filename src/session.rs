//! Proxy sessions: backends announce themselves and their HTTP routes to a
//! reverse proxy, over one long-lived connection of `|`-separated lines.
//!
//! ```text
//!   bytes → codec → command → engine → reply → bytes
//!                               ↑ ↓
//!                  what a watch tells, what is to be written
//! ```
//!
//! That is pure: no socket, no store, no clock. [`codec`] turns bytes into
//! [`command`]s, whose values are valid once they are made; [`engine`] decides
//! what each comes to, and what a store is to hold ([`record`]). [`sessions`] is
//! the engine with a lock and a clock, which [`crate::server::session`] asks.
//!
//! What is served ([`serving`]) is carried by a proxy: [`traefik`] tells one what
//! to do, and [`maintenance`] answers in place of who is not to be asked.
//!
//! A session's [`id`] is a bearer secret. It is in the reply to `REGISTER` and
//! nowhere else: whatever is kept, compared or shown is its hash, or its front.

pub mod codec;
pub mod command;
pub mod engine;
pub mod events;
pub mod header;
pub mod host;
pub mod id;
pub mod maintenance;
pub mod options;
pub mod place;
pub mod policy;
pub mod problem;
pub mod record;
pub mod registration;
pub mod reply;
pub mod route;
pub mod served;
pub mod serving;
pub mod sessions;
pub mod table;
mod text;
pub mod traefik;

pub use codec::Decoder;
pub use command::{Change, Command};
pub use engine::Engine;
pub use id::{SessionId, SessionKey};
pub use problem::Problem;
pub use record::SessionRecord;
pub use reply::Reply;
pub use sessions::Sessions;
