//! The four calls, whatever the protocol: check the fields, ask the registry,
//! count, and log what gost will not read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::gost::denial::Denial;
use crate::metrics::{Method, Metrics, Outcome, Protocol};
use crate::record::{Address, Endpoint, EndpointKey, EndpointRecord, Name};
use crate::registry::{Caller, Kept, Registry};
use crate::server::throttle::Throttle;

/// What answers the calls of both protocols.
#[derive(Debug)]
pub struct Calls {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    pod_ips: Arc<[IpAddr]>,
    /// How long a request's body may take to arrive.
    pub(super) time: Duration,
    refusals: Throttle,
}

/// A service's fields as they came, under gost's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) node: &'a str,
    pub(super) network: &'a str,
    pub(super) address: &'a str,
}

impl Fields<'_> {
    fn key(&self) -> Result<EndpointKey, Denial> {
        Ok(EndpointKey {
            connector: name("id", self.id)?,
            tunnel: name("name", self.name)?,
            node: name("node", self.node)?,
        })
    }
}

fn name(field: &'static str, text: &str) -> Result<Name, Denial> {
    Name::parse(text).map_err(|error| Denial::Name(field, error))
}

impl Calls {
    /// Calls on `registry`. See [`crate::gost::Gost::new`].
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        pod_ips: Arc<[IpAddr]>,
        time: Duration,
    ) -> Self {
        Self {
            registry,
            metrics,
            pod_ips,
            time,
            refusals: Throttle::default(),
        }
    }

    pub(super) async fn register(
        &self,
        caller: &Caller,
        fields: Fields<'_>,
    ) -> Result<Kept, Denial> {
        let endpoint = Endpoint {
            key: fields.key()?,
            network: fields.network.parse().map_err(Denial::Network)?,
            address: Address::announced(fields.address, caller.peer, &self.pod_ips)
                .map_err(Denial::Address)?,
            origin: Some(caller.host),
            pod: None,
            attributes: BTreeMap::new(),
        };
        Ok(self.registry.register(caller, endpoint).await?)
    }

    pub(super) fn renew(&self, caller: &Caller, fields: Fields<'_>) -> Result<Kept, Denial> {
        self.registry.renew(caller, &fields.key()?);
        Ok(Kept::Stored)
    }

    pub(super) async fn deregister(
        &self,
        caller: &Caller,
        fields: Fields<'_>,
    ) -> Result<Kept, Denial> {
        Ok(self.registry.deregister(caller, &fields.key()?).await)
    }

    pub(super) fn get(
        &self,
        caller: &Caller,
        tunnel: &str,
    ) -> Result<Vec<Arc<EndpointRecord>>, Denial> {
        Ok(self.registry.get(caller, &name("name", tunnel)?)?)
    }

    /// Counts a call, and logs the refusal of a write with its mend, because
    /// gost throws the answer away.
    pub(super) fn note(
        &self,
        method: Method,
        protocol: Protocol,
        caller: &Caller,
        started: Instant,
        result: &Result<Kept, Denial>,
    ) {
        let now = Instant::now();
        let outcome = match result {
            Ok(Kept::Stored) => Outcome::Ok,
            Ok(Kept::Pending) => Outcome::Pending,
            Err(denial) => denial.outcome(),
        };
        let took = now.saturating_duration_since(started);
        self.metrics.call(method, protocol, outcome, took);
        if let Err(denial) = result
            && matches!(
                method,
                Method::Register | Method::Renew | Method::Deregister
            )
            && let Some(unsaid) = self.refusals.admit(now)
        {
            tracing::warn!(
                peer = %caller.peer,
                protocol = protocol.as_str(),
                method = method.as_str(),
                unsaid,
                "refused: {denial}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;

    use parking_lot::Mutex;

    use super::*;
    use crate::record::NameError;
    use crate::registry::{ConnectionId, Refusal};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// What is logged while `run` runs.
        fn of(run: impl FnOnce()) -> String {
            let lines = Self::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::with_default(subscriber, run);
            String::from_utf8(lines.0.lock().clone()).unwrap()
        }
    }

    fn noted(calls: &Calls, method: Method, result: Result<Kept, Denial>) {
        let caller = Caller::new(ConnectionId(1), Ipv4Addr::LOCALHOST.into(), &[]);
        calls.note(method, Protocol::Grpc, &caller, Instant::now(), &result);
    }

    fn calls() -> Calls {
        Calls::new(
            Arc::new(crate::registry::testing::registry()),
            Arc::new(Metrics::new()),
            Arc::new([]),
            Duration::from_secs(1),
        )
    }

    #[test]
    fn a_refused_write_is_logged_with_its_mend() {
        let calls = calls();
        let log = Lines::of(|| {
            noted(&calls, Method::Register, Err(Refusal::TunnelFull(7).into()));
        });
        for part in [
            "WARN",
            "127.0.0.1",
            "register",
            "raise --max-endpoints-per-tunnel",
        ] {
            assert!(log.contains(part), "{part} is not in {log}");
        }
        let quiet = Lines::of(|| {
            noted(
                &calls,
                Method::Get,
                Err(Denial::Name("name", NameError::Empty)),
            );
            noted(&calls, Method::Register, Ok(Kept::Pending));
        });
        assert_eq!(quiet, "");
    }

    #[test]
    fn a_flood_of_refusals_is_not_one_of_lines() {
        let calls = calls();
        let log = Lines::of(|| {
            for _ in 0..1_000 {
                noted(
                    &calls,
                    Method::Renew,
                    Err(Denial::Name("id", NameError::Empty)),
                );
            }
        });
        assert_eq!(log.lines().count(), Throttle::LINES as usize);
        let counted = calls.metrics.encode().unwrap();
        let counter = r#"{method="renew",protocol="grpc",outcome="invalid"} 1000"#;
        assert!(counted.contains(counter), "{counted}");
    }
}
