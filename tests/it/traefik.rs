//! Proxy sessions carried by a real Traefik, which is fed by `/traefik`: backends
//! register over TCP, and visitors come in at Traefik. Skipped, with a line that
//! says so, without a Traefik; but for [`served`], which needs none.

mod backend;
mod client;
mod life;
mod maintenance;
mod options;
mod routes;
mod served;
mod sharing;
mod visitor;
mod world;

use backend::Backend;
use client::Client;
use visitor::Answer;
use world::World;
