//! `serve`: the parts of a registry, put together.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as Metrics;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Admin, Part};
use crate::args::{Serve, Store};
use crate::listing::{Filter, Listing};
use crate::record::EndpointKey;
use crate::run::StartError;
use crate::run::pulse::Pulse;
use crate::run::signals::signals;
use crate::run::supervisor::{Ended, Supervisor};
use crate::time::Now;

/// How long what neither answers calls nor writes may take to stop.
const BACKGROUND: Duration = Duration::from_secs(1);

/// Runs a registry until it is told to stop or a task of it ends.
///
/// # Errors
/// When it cannot start; nothing was begun then.
pub async fn serve(args: &Serve) -> Result<Ended, StartError> {
    let signals = signals()?;
    let store = args.store.clone().map_or_else(Store::usual, Ok)?;
    let admin_listener = admin::server::bind(args.listening.admin_listen).await?;
    let pulse = Arc::new(Pulse::new(Now::read()));

    let mut supervisor = Supervisor::new();
    let _accepting = supervisor.phase("accepting", args.times.drain);
    let _flushing = supervisor.phase("flushing", args.times.flush);
    let background = supervisor.phase("background", BACKGROUND);

    let admin = admin::router(admin(Arc::clone(&pulse), supervisor.stopping()));
    let admin_address = admin_listener.local_addr()?;
    supervisor.spawn(
        background,
        "pulse",
        |stop| async move { pulse.run(stop).await },
    );
    supervisor.spawn(background, "admin server", |stop| {
        admin::server::serve(admin_listener, admin, stop)
    });

    for warning in warnings(args) {
        warn!("{warning}");
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("BUILD_COMMIT"),
        admin = %admin_address,
        %store,
        "started"
    );
    Ok(supervisor.run(signals).await)
}

/// What the admin port asks, and whom.
fn admin(pulse: Arc<Pulse>, stopping: CancellationToken) -> Admin {
    let metrics = Metrics::default();
    Admin {
        alive: Arc::new(move || pulse.check(Now::read())),
        parts: Arc::new(move || vec![process(&stopping)]),
        metrics: Arc::new(move || {
            let mut text = String::new();
            encode(&mut text, &metrics)?;
            Ok(text)
        }),
        listing: Arc::new(Nothing),
    }
}

/// Not ready from the moment that a stop begins, so that nobody new comes.
fn process(stopping: &CancellationToken) -> Part {
    let ready = if stopping.is_cancelled() {
        Err("stopping".to_owned())
    } else {
        Ok(())
    };
    Part {
        name: "process",
        ready,
    }
}

/// What to tell the user about flags that are valid and yet unwise.
fn warnings(args: &Serve) -> Vec<String> {
    let address = args.listening.listen;
    let tokens = args.access.token_file.is_some() || !args.access.tokens.is_empty();
    let tls = args.access.tls();
    // Callers with a certificate are known without a token.
    let known = tokens || tls.is_some_and(|tls| tls.client_ca.is_some());
    if address.ip().to_canonical().is_loopback() || (known && tls.is_some()) {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    if !known {
        warnings.push(format!(
            "whoever reaches {address} can register and withdraw tunnels; set --token-file or TUNNEL_REGISTRY_TOKEN"
        ));
    }
    if tls.is_none() {
        warnings.push(format!(
            "calls to {address} can be read and changed on their way, tokens too; set --tls-cert and --tls-key"
        ));
    }
    warnings
}

/// No endpoints.
struct Nothing;

impl Listing for Nothing {
    fn keys(&self, _filter: &Filter) -> Vec<EndpointKey> {
        Vec::new()
    }
    fn rows(&self, _keys: &[EndpointKey]) -> Vec<crate::listing::Row> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;

    fn args(line: &str) -> Serve {
        let words = format!("tunnel-registry {line}");
        match Args::try_parse(words.split_whitespace().map(Into::into), None).unwrap() {
            Args::Serve(serve) => *serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn serving_strangers_is_warned_of() {
        let tls = "--tls-cert c --tls-key k";
        for (line, warned) in [
            (String::new(), vec![]),
            ("--listen [::1]:1".into(), vec![]),
            ("--listen 0.0.0.0:1".into(), vec!["token", "tls"]),
            ("--listen [::]:1 --token-file t".into(), vec!["tls"]),
            (format!("--listen [::]:1 {tls}"), vec!["token"]),
            (format!("--listen [::]:1 --token-file t {tls}"), vec![]),
            (format!("--listen [::]:1 --tls-client-ca c {tls}"), vec![]),
        ] {
            let warnings = warnings(&args(&line));
            assert_eq!(warnings.len(), warned.len(), "{line}: {warnings:?}");
            for (warning, flag) in warnings.iter().zip(warned) {
                assert!(
                    warning.contains(&format!("set --{flag}")),
                    "{line}: {warning}"
                );
            }
        }
    }

    #[test]
    fn a_process_that_stops_is_not_ready() {
        let stopping = CancellationToken::new();
        assert_eq!(process(&stopping).ready, Ok(()));
        stopping.cancel();
        assert_eq!(process(&stopping).ready, Err("stopping".into()));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_ends_the_start() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let args = args(&format!("--admin-listen {address} --store memory"));
        let error = serve(&args).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {address}: ")),
            "{error}"
        );
    }
}
