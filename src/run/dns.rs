//! DNS's part of `serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::args::Serve;
use crate::discoverd::Services;
use crate::discoverd::dns::{Known, Zone};
use crate::metrics::Metrics;
use crate::run::StartError;
use crate::run::serve::endless;
use crate::run::supervisor::{Phase, Supervisor};
use crate::server::dns::DnsServer;

/// The listeners, bound, with what they answer from.
pub(super) struct Dns {
    servers: Vec<DnsServer>,
    zone: Arc<Zone>,
    known: Option<Arc<dyn Known>>,
}

/// Binds the listeners that are asked for.
pub(super) fn bind(args: &Serve, services: Option<&Arc<Services>>) -> Result<Dns, StartError> {
    let listen = &args.dns.dns_listen;
    if services.is_none() && !listen.is_empty() {
        return Err("--dns-listen answers for services, and this registry serves none; leave it out, or add --services".into());
    }
    let limits = args.dns.limits(args.times.drain);
    let bind = |listen: &SocketAddr| DnsServer::bind(*listen, limits);
    Ok(Dns {
        servers: listen.iter().map(bind).collect::<Result<_, _>>()?,
        zone: Arc::new(args.dns.zone()),
        known: services.map(|services| Arc::clone(services) as _),
    })
}

impl Dns {
    /// Where they listen, for people; none if nowhere.
    pub(super) fn local_addrs(&self) -> Option<String> {
        let all: Vec<String> = self
            .servers
            .iter()
            .map(|server| server.local_addr().to_string())
            .collect();
        (!all.is_empty()).then(|| all.join(","))
    }

    /// Begins a task for each.
    pub(super) fn spawn(self, supervisor: &mut Supervisor, phase: Phase, metrics: &Arc<Metrics>) {
        let Some(known) = self.known else {
            return;
        };
        for server in self.servers {
            let (zone, known) = (Arc::clone(&self.zone), Arc::clone(&known));
            let metrics = Arc::clone(metrics);
            supervisor.spawn(phase, "DNS listener", |stop| {
                endless(server.run(zone, known, metrics, stop))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;

    #[tokio::test]
    async fn a_store_without_services_has_nothing_to_answer_from() {
        let args = |line: &str| match Args::try_parse(line.split(' ').map(Into::into), None) {
            Ok(Args::Serve(serve)) => *serve,
            other => panic!("{other:?}"),
        };
        let asked = args("tunnel-registry --dns-listen 127.0.0.1:0");
        let error = bind(&asked, None).err().unwrap().to_string();
        assert!(
            error.contains("--dns-listen") && error.contains("--services"),
            "{error}"
        );
        let unasked = bind(&args("tunnel-registry serve"), None).unwrap();
        assert_eq!(unasked.local_addrs(), None);
    }
}
