//! Tunnel Registry remembers who can be reached where, and answers at once.
//!
//! ```text
//!   ways in                  the registry                    where it is kept
//!   server ┬ gost ─────────→ registry ─┬ writeback ───────→ backend ┬ memory
//!          │ (HTTP and gRPC)    ↑      │ vouch (own lease) ─→  │    ├ file
//!          ├ session ───────→ session ─┤                       │    ├ kubernetes
//!          │ (lines)            ↑      │                       │    └ etcd
//!          └ discoverd ─────→ services ┘                       │
//!            (HTTP, DNS)        ↑                              │
//!                               └──── upkeep (mirror, pods) ───┤
//!                                     controller (collect) ────┘
//!
//!   a controller of a cluster, in a process of its own:
//!   controller ┬ election    who leads
//!              └ work        watches and lists, asks plan::cluster, deletes,
//!                            writes conditions (status) and events (notices)
//! ```
//!
//! - **Ways in** translate a wire protocol to calls on the registry and know
//!   nothing of stores: [`server`] accepts, bounds and knows connections,
//!   [`gost`] speaks gost's plugin protocol, [`server::session`] the lines in which
//!   a proxy's backends announce themselves.
//! - **The registry** ([`registry`]) holds all behaviour once, for every store.
//!   [`registry::core`] decides, in plain functions that take the time; it keeps
//!   an [`index`] to answer from and a queue of writes.
//! - **Proxy sessions** ([`session`]) are the same again for what a proxy's
//!   backends announce: an engine that decides, and [`session::Sessions`] around it.
//! - **Services** ([`discoverd`]) are the same once more, for instances that
//!   register with attributes: an engine, [`discoverd::Services`] around it, their
//!   HTTP API with events, and their names in DNS.
//! - **Backends** ([`backend`]) are stores behind a small contract;
//!   [`backend::kubernetes`] and [`backend::etcd`] are those that replicas of the
//!   registry share. `docs/stores.md` tells how to write another one.
//! - Around them: [`writeback`] makes the writes, [`vouch`] renews the lease by
//!   which this replica vouches for what it holds, [`upkeep`] mirrors the store
//!   into the registry and sweeps for what has become silent, [`controller`]
//!   collects what nobody maintains, [`admin`] shows what there is.
//! - **What others do**, as far as registry and controller both judge it:
//!   [`replicas`] tells which replicas live, [`contact`] counts the time in which
//!   the store was there, [`pods`] knows which pods run, go or are gone.
//! - **Kubernetes**: [`kubernetes`] is how the API server is reached, watched and
//!   understood; [`resources`] are the records as its objects.
//! - **The command line of a client** ([`cli`]) asks a running registry, through the
//!   [`client`] library.
//! - **Moving** between stores, and from the peer's Redis: [`transfer`].
//! - **What stands in the way** is told once, not with every attempt: [`causes`].
//!
//! [`record`] and [`lease`] are the words that all of them speak; only
//! [`time`] reads a clock, and only [`run`] puts the parts together.

// What is shared with `tests/it` calls this crate by its name.
#[cfg(test)]
extern crate self as tunnel_registry;

pub mod admin;
pub mod args;
pub mod backend;
pub mod causes;
#[cfg(test)]
mod chart;
pub mod cli;
pub mod contact;
pub mod controller;
pub mod discoverd;
pub mod gost;
pub mod healthcheck;
pub mod index;
pub mod kubernetes;
pub mod lease;
pub mod listing;
mod map;
pub mod metrics;
pub mod pods;
pub mod record;
pub mod registry;
pub mod remembered;
pub mod replicas;
pub mod resources;
pub mod run;
pub mod server;
pub mod session;
pub mod signals;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
pub mod table;
pub mod telemetry;
pub mod time;
pub mod transfer;
pub mod upkeep;
pub mod vouch;
pub mod writeback;

/// The client library of [services](discoverd), a crate of its own.
pub use tunnel_registry_client as client;
