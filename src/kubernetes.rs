//! The Kubernetes API server: how it is reached, and what its failures mean.
//!
//! Every connection speaks HTTP/1.1. A request has a connection to itself while
//! it lasts, so a watch delays nobody, and one that hangs takes nothing with it.

pub mod call;
pub mod failure;
pub mod no_proxy;
pub mod pods;
pub mod reopen;
pub mod watch;

use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _};
use kube::config::InferConfigError;
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use crate::causes::chain;

pub use call::{CALL_TIMEOUT, call};
pub use failure::Failure;

/// How long connecting may take, with the handshake of TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing was said for this long is asked whether it
/// still is one,
const KEEPALIVE: Duration = Duration::from_secs(15);
/// so often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// so many times: a node that vanished is noticed within half a minute.
const KEEPALIVE_PROBES: u32 = 3;
/// What was sent and not acknowledged for this long ends the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection is kept that nobody uses. Below a minute, after which
/// some load balancers forget it without a word.
const IDLE: Duration = Duration::from_secs(50);
/// What the API server writes into its log and into `managedFields`.
const AGENT: &str = concat!("tunnel-registry/", env!("CARGO_PKG_VERSION"));

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a service account.
    #[error(
        "no Kubernetes cluster is known: {0}; set KUBECONFIG to a kubeconfig file, or run in a pod with a service account (automountServiceAccountToken)"
    )]
    NoConfig(#[source] Box<InferConfigError>),
    /// A way that this program does not go.
    #[error(
        "the API server would have to be reached through the proxy {0}, which is not supported; remove proxy-url from the kubeconfig, or name the host of the API server in NO_PROXY"
    )]
    Proxy(http::Uri),
    /// Certificates or credentials that cannot be used.
    #[error("the credentials for {url} cannot be used: {why}; correct the kubeconfig")]
    Credentials {
        /// The API server.
        url: http::Uri,
        /// What is wrong with them.
        why: String,
    },
}

/// A client for the cluster that `KUBECONFIG` or `~/.kube/config` names, else
/// for the one in whose pod this process runs. Its default namespace is that of
/// the kubeconfig's context or of the pod. Connects to nobody yet.
///
/// # Errors
/// When there is no configuration, or it cannot be used.
pub async fn connect() -> Result<Client, ConnectError> {
    let config = Config::infer().await;
    let mut config = config.map_err(|error| ConnectError::NoConfig(Box::new(error)))?;
    let variable = |names: [&str; 2]| {
        let mut values = names.into_iter().flat_map(std::env::var);
        values.find(|value| !value.is_empty())
    };
    pass_by_proxy(
        &mut config,
        variable(["HTTPS_PROXY", "https_proxy"]).as_deref(),
        variable(["NO_PROXY", "no_proxy"]).as_deref(),
    );
    client(config)
}

/// The proxy of the environment is not for hosts that `NO_PROXY` names, which
/// kube does not look at. That of a kubeconfig is for all.
fn pass_by_proxy(config: &mut Config, of_environment: Option<&str>, no_proxy: Option<&str>) {
    let of_environment = of_environment.and_then(|proxy| proxy.parse::<http::Uri>().ok());
    if config.proxy_url == of_environment
        && no_proxy.is_some_and(|no_proxy| no_proxy::covers(no_proxy, &config.cluster_url))
    {
        config.proxy_url = None;
    }
}

/// A client with this configuration and our bounds. It belongs to the runtime in
/// which it is made.
///
/// # Errors
/// When the configuration cannot be used.
pub fn client(mut config: Config) -> Result<Client, ConnectError> {
    if let Some(proxy) = config.proxy_url.take() {
        return Err(ConnectError::Proxy(proxy));
    }
    let agent = HeaderValue::from_static(AGENT);
    config.headers.push((USER_AGENT, agent));
    let url = config.cluster_url.clone();
    stack(config).map_err(|error| ConnectError::Credentials {
        url,
        why: chain(&error),
    })
}

/// Without a layer that tries again: the writers and watchers of this program
/// do, each in its own way.
fn stack(config: Config) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let connector = ServiceBuilder::new()
        .map_future(Box::pin)
        .timeout(CONNECT_TIMEOUT)
        .service(config.rustls_https_connector_with_connector(tcp)?);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    fn request() -> http::Request<Vec<u8>> {
        http::Request::get("/version").body(Vec::new()).unwrap()
    }

    /// A client of a listener on the loopback.
    async fn of_listener(scheme: &str) -> (Client, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let mut config = Config::new(url.parse().unwrap());
        config.root_cert = Some(Vec::new());
        (client(config).unwrap(), listener)
    }

    #[tokio::test]
    async fn it_says_who_asks() {
        let (client, listener) = of_listener("http").await;
        let answer = call(&client, request(), CALL_TIMEOUT);
        let read = async {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(connection.read_u8().await.unwrap());
            }
            String::from_utf8(head).unwrap()
        };
        let (answer, head) = tokio::join!(answer, read);
        assert!(head.starts_with("GET /version HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("user-agent: {AGENT}\r\n")), "{head}");
        // The connection was closed instead.
        assert!(matches!(answer, Err(Failure::Unreachable(_))), "{answer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_has_an_end() {
        // Accepted by the system, and then nothing: in the handshake, or after it.
        for (scheme, longest) in [("https", CONNECT_TIMEOUT), ("http", CALL_TIMEOUT)] {
            let (client, _listener) = of_listener(scheme).await;
            let begun = Instant::now();
            let answer = call(&client, request(), CALL_TIMEOUT).await;
            let why = answer.unwrap_err();
            assert!(
                matches!(why, Failure::Unreachable(_) | Failure::Unavailable(_)),
                "{why:?}"
            );
            assert!(begun.elapsed() <= longest + Duration::from_millis(10));
        }
    }

    #[tokio::test]
    async fn a_proxy_is_not_passed_by_in_silence() {
        let mut config = Config::new("https://10.0.0.1".parse().unwrap());
        config.proxy_url = Some("http://proxy:3128".parse().unwrap());
        let error = client(config).err().unwrap().to_string();
        assert!(error.contains("proxy http://proxy:3128/"), "{error}");
    }

    #[tokio::test]
    async fn a_proxy_is_passed_by_where_no_proxy_says_so() {
        let proxy = Some("http://proxy:3128");
        let passed_by = |of_config: Option<&str>, no_proxy| {
            let mut config = Config::new("https://10.0.0.1:6443".parse().unwrap());
            config.proxy_url = of_config.map(|proxy| proxy.parse().unwrap());
            pass_by_proxy(&mut config, proxy, no_proxy);
            config.proxy_url.is_none()
        };
        assert!(passed_by(proxy, Some("localhost,10.0.0.0/8")));
        assert!(!passed_by(proxy, Some("localhost")));
        assert!(!passed_by(proxy, None));
        let of_kubeconfig = Some("http://other:3128");
        assert!(!passed_by(of_kubeconfig, Some("*")));
        assert!(passed_by(None, None), "there is none");
    }

    #[tokio::test]
    async fn credentials_that_cannot_be_used_are_told() {
        let mut config = Config::new("https://10.0.0.1".parse().unwrap());
        config.root_cert = Some(vec![b"none".to_vec()]);
        let error = client(config).err().unwrap().to_string();
        assert!(error.contains("for https://10.0.0.1/ cannot"), "{error}");
        assert!(error.ends_with("; correct the kubeconfig"), "{error}");
    }
}
