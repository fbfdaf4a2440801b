//! Connections to members of etcd, with TLS or without.
//!
//! Certificates are read for each connection, so that one that was renewed is
//! used without a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, ServiceBuilder};
use tower_service::Service;

use super::url::Url;

/// How long connecting may take, with the handshake of TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection with requests under way on which nothing was said for this long
/// is asked whether it still is one. etcd closes those of who asks more often
/// than every 5 s (`--grpc-keepalive-min-time`).
const PING_EVERY: Duration = Duration::from_secs(10);
/// One that does not answer so long has gone.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// What one answer may be ahead of who reads it, in bytes: a page of a list.
const STREAM_WINDOW: u32 = 1 << 20;
/// The same of all answers of a connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What etcd writes into its log.
const AGENT: &str = concat!("tunnel-registry/", env!("CARGO_PKG_VERSION"));

/// The files with which TLS is spoken; all PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that etcd's certificate is checked against; none for those
    /// of the system.
    pub ca: Option<PathBuf>,
    /// The certificate by which this process is known to etcd, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}; correct {flag}")]
pub struct FileError {
    flag: &'static str,
    path: String,
    why: String,
}

const CA: &str = "--etcd-ca-file";
const CERT: &str = "--etcd-cert-file";
const KEY: &str = "--etcd-key-file";

/// A connection to one member, made when it is first used, and again when it
/// was lost.
pub(super) fn channel(url: &Url, tls: &Arc<TlsFiles>) -> Result<Channel, tonic::transport::Error> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    let connector = Connector {
        tcp,
        tls: url.is_https().then(|| (Arc::clone(tls), url.host().into())),
    };
    let connector = ServiceBuilder::new()
        .timeout(CONNECT_TIMEOUT)
        .service(connector);
    // The connector speaks TLS; what it is told is only where to.
    let endpoint = Endpoint::from_shared(format!("http://{}", url.authority()))?
        .user_agent(AGENT)?
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    /// The files, and the name that the certificate must have.
    tls: Option<(Arc<TlsFiles>, Arc<str>)>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tcp = self.tcp.call(uri);
        let tls = self.tls.clone();
        Box::pin(async move {
            let stream = tcp.await?.into_inner();
            let stream: Box<dyn Stream> = match tls {
                None => Box::new(stream),
                Some((files, host)) => {
                    let config = Arc::new(files.read().await?);
                    let name = ServerName::try_from(&*host)?.to_owned();
                    Box::new(TlsConnector::from(config).connect(name, stream).await?)
                }
            };
            Ok(TokioIo::new(stream))
        })
    }
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or they do not fit together.
    pub async fn read(&self) -> Result<ClientConfig, FileError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for authority in certificates(CA, path).await? {
                    let added = roots.add(authority);
                    added.map_err(|why| wrong(CA, path, &why))?;
                }
            }
            None => {
                let system = spawn_blocking(rustls_native_certs::load_native_certs).await;
                // What of the system's cannot be read is not trusted.
                roots.add_parsable_certificates(system.map(|it| it.certs).unwrap_or_default());
            }
        }
        // Given explicitly: the process-wide default is whatever another crate
        // installed first.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| wrong(CA, Path::new(""), &why))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(CERT, certificate).await?;
                let text = text(KEY, key).await?;
                let secret = PrivateKeyDer::from_pem_slice(&text);
                let secret = secret.map_err(|why| wrong(KEY, key, &why))?;
                let built = builder.with_client_auth_cert(chain, secret);
                built.map_err(|why| wrong(CERT, certificate, &why))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

async fn certificates(
    flag: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = text(flag, path).await?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = read.map_err(|why| wrong(flag, path, &why))?;
    match all.is_empty() {
        true => Err(wrong(flag, path, &"has no certificate")),
        false => Ok(all),
    }
}

async fn text(flag: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let read: io::Result<Vec<u8>> = tokio::fs::read(path).await;
    read.map_err(|why| wrong(flag, path, &why))
}

fn wrong(flag: &'static str, path: &Path, why: &dyn std::fmt::Display) -> FileError {
    FileError {
        flag,
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_with_its_flag() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let missing = folder.path().join("missing.pem");
        for (files, flag) in [
            (
                TlsFiles {
                    ca: Some(missing.clone()),
                    identity: None,
                },
                CA,
            ),
            (
                TlsFiles {
                    ca: Some(empty.clone()),
                    identity: None,
                },
                CA,
            ),
            (
                TlsFiles {
                    ca: None,
                    identity: Some((empty.clone(), missing.clone())),
                },
                CERT,
            ),
        ] {
            let error = files.read().await.unwrap_err().to_string();
            assert!(error.ends_with(&format!("; correct {flag}")), "{error}");
        }
        assert!(TlsFiles::default().read().await.is_ok());
    }
}
