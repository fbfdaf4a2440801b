//! What a Traefik beside the registry is to do: its dynamic configuration, as
//! its HTTP provider reads it.
//!
//! [`configuration`] makes it from what is served, and is pure. The rules of
//! who serves what:
//!
//! - A place has one router and one service, a session one server of it. That
//!   is what balances, and what a weight shifts.
//! - A session in maintenance, or of weight 0, gets no requests. A place of
//!   which that is true of all goes to the responder ([`super::maintenance`]).
//! - Where the sessions of a place differ, in a header of one name or in an
//!   option, the newest that says something decides.
//!
//! Names have no id of a session in them, and stay while what they name does:
//! a service keeps its health checks, a transport its connections.

mod extras;
pub mod http;
pub mod model;
mod names;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use rule::HIGHEST_PRIORITY;

use crate::session::engine::view::Offer;
use crate::session::options::Options;
use crate::session::place::Place;
use crate::session::route::BackendUrl;
use extras::{Extras, Told};
use model::{Configuration, LoadBalancer, Router, Server, Service};

/// The name of the service that is the responder of maintenance. No other has
/// it: theirs end with a hash.
const RESPONDER: &str = "maintenance";

/// What Traefik is to do for `served`, of which each place has its oldest offer
/// first. `responder` is the URL of the responder of maintenance; without one
/// Traefik itself answers 503.
#[must_use]
pub fn configuration(
    served: &BTreeMap<Place, Vec<Offer>>,
    responder: Option<&str>,
) -> Configuration {
    let mut configuration = Configuration::default();
    let mut is_responder_used = false;
    for (place, offers) in served {
        let Some(first) = offers.first() else {
            continue;
        };
        let service = &first.session.registration.instance.service;
        let name = names::place(service, place);
        let pool: Vec<&Offer> = offers.iter().filter(|offer| is_in_pool(offer)).collect();
        let is_served = !pool.is_empty();
        let told = if is_served {
            Told::by(&pool)
        } else {
            Told::by(&offers.iter().collect::<Vec<_>>())
        };
        let servers = servers(&pool);
        let extras = if is_served {
            Extras::of(service, &told, &servers)
        } else {
            Extras::of_maintenance(service, &told)
        };
        let http = &mut configuration.http;
        let middlewares = extras.middlewares.iter();
        let router = Router {
            rule: rule::of(place),
            priority: rule::priority(place),
            service: if is_served || responder.is_none() {
                name.clone()
            } else {
                RESPONDER.to_owned()
            },
            middlewares: middlewares.map(|(name, _)| name.clone()).collect(),
        };
        if router.service == RESPONDER {
            is_responder_used = true;
        } else {
            let balancer = LoadBalancer {
                servers,
                health_check: extras.health_check,
                pass_host_header: true,
                servers_transport: extras.transport.as_ref().map(|(name, _)| name.clone()),
            };
            http.services.insert(name.clone(), Service::of(balancer));
        }
        http.routers.insert(name, router);
        http.middlewares.extend(extras.middlewares);
        http.servers_transports.extend(extras.transport);
    }
    if let Some(url) = responder.filter(|_| is_responder_used) {
        let balancer = LoadBalancer {
            servers: vec![Server {
                url: url.to_owned(),
                weight: u32::from(Options::WEIGHT),
                preserve_path: false,
            }],
            health_check: None,
            pass_host_header: true,
            servers_transport: None,
        };
        let services = &mut configuration.http.services;
        services.insert(RESPONDER.to_owned(), Service::of(balancer));
    }
    configuration
}

/// Whether a session gets requests.
fn is_in_pool(offer: &Offer) -> bool {
    !offer.session.maintenance && weight(offer) > 0
}

fn weight(offer: &Offer) -> u32 {
    u32::from(offer.session.options.weight.unwrap_or(Options::WEIGHT))
}

/// The servers of a service. Traefik knows a server by its URL, so sessions at
/// the same one are one server, of their weights together.
///
/// Nobody in the pool has weight 0: Traefik 3.6 would never send such a server
/// a request, but its health checks count it among those that live, and when it
/// is the only one of them, the search for a server has no end.
fn servers(pool: &[&Offer]) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    for offer in pool {
        let url = url(&offer.backend);
        match servers.iter_mut().find(|server| server.url == url) {
            Some(server) => server.weight += weight(offer),
            None => servers.push(Server {
                url,
                weight: weight(offer),
                // Without it Traefik leaves the path of the URL out.
                preserve_path: offer.backend.path() != "/",
            }),
        }
    }
    servers
}

/// The URL of a backend: Traefik takes `http` and `https`, over which it passes
/// websockets on.
fn url(backend: &BackendUrl) -> String {
    let scheme = if backend.scheme().is_secure() {
        "https"
    } else {
        "http"
    };
    let at = backend.host().with_port(backend.port());
    let path = backend.path();
    // A lone slash says nothing.
    let path = if path == "/" { "" } else { path };
    format!("{scheme}://{at}{path}")
}
