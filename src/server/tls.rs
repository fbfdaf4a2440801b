//! TLS: certificate and key from files that may change while we run.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::metrics::{Metrics, Reload};
use crate::server::reload::{OpenError, Watched};

/// Where the parts are; all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then the intermediate ones.
    pub certificate: PathBuf,
    /// Its private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
    /// When given, a client must present a certificate that one of these
    /// authorities signed.
    pub client_ca: Option<PathBuf>,
}

/// What TLS is served for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Calls, over HTTP/2 or HTTP/1.1.
    Calls,
    /// Proxy sessions.
    Sessions,
}

impl Use {
    /// What is offered to clients that ask for a protocol; nothing lets them
    /// speak whatever they do.
    fn protocols(self) -> &'static [&'static [u8]] {
        match self {
            Self::Calls => &[b"h2", b"http/1.1"],
            Self::Sessions => &[],
        }
    }
}

/// TLS as it is now.
#[derive(Debug)]
pub struct Tls {
    files: Watched<Loaded>,
    what_for: Use,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    expires: Timestamp,
}

impl Tls {
    /// Reads the files. They are read again when they change, as long as
    /// [`Tls::watch`] runs.
    ///
    /// # Errors
    /// When a file cannot be read, or the parts do not fit together.
    pub fn open(files: TlsFiles, what_for: Use) -> Result<Self, OpenError> {
        let TlsFiles {
            certificate,
            key,
            client_ca,
        } = files;
        let files = [certificate, key].into_iter().chain(client_ca).collect();
        let files = Watched::open(files, move |contents| match contents {
            [certificate, key] => load(certificate, key, None, what_for),
            [certificate, key, client_ca] => load(certificate, key, Some(client_ca), what_for),
            _ => Err("a file is missing".into()),
        })?;
        Ok(Self { files, what_for })
    }

    /// What a new connection uses.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.files.current().config)
    }

    /// When the certificate in use expires.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.files.current().expires
    }

    /// Follows the files until cancelled. Open connections keep what they
    /// began with.
    pub async fn watch(&self, metrics: &Metrics, cancelled: CancellationToken) {
        let (what, reload) = match self.what_for {
            Use::Calls => ("certificate and key", Reload::Tls),
            Use::Sessions => (
                "certificate and key of --session-listen",
                Reload::SessionTls,
            ),
        };
        let tell_expiry = || match self.what_for {
            Use::Calls => metrics.certificate_expires(self.expires()),
            Use::Sessions => metrics.session_certificate_expires(self.expires()),
        };
        tell_expiry();
        self.files
            .watch(what, cancelled, |outcome| match outcome {
                Ok(()) => tell_expiry(),
                Err(_) => metrics.reload_failed(reload),
            })
            .await;
    }
}

fn load(
    certificate: &str,
    key: &str,
    client_ca: Option<&str>,
    what_for: Use,
) -> Result<Loaded, String> {
    let chain = certificates(certificate, "certificate")?;
    let expires = chain.first().map_or_else(
        || Err("the certificate file has no certificate".into()),
        expiry,
    )?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| format!("the key file has no usable private key: {}", told(&error)))?;
    // Given explicitly: the process-wide default is whatever another crate
    // installed first.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(text) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(text, "client CA")? {
                roots
                    .add(authority)
                    .map_err(|error| format!("the client CA file: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| format!("the client CA file: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        format!("certificate and key do not fit together, or are of an unknown kind: {error}")
    })?;
    config.alpn_protocols = what_for.protocols().iter().map(|p| p.to_vec()).collect();
    Ok(Loaded {
        config: Arc::new(config),
        expires,
    })
}

fn certificates(text: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(format!("the {what} file has no certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("the {what} file is not PEM: {}", told(&error))),
    }
}

/// The error without the file's lines: a key might be in them.
fn told(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section begins wrongly",
        pem::Error::Base64Decode(_) => "it is not base64",
        pem::Error::NoItemsFound => "nothing found",
        _ => "it is not PEM",
    }
}

fn expiry(certificate: &CertificateDer<'_>) -> Result<Timestamp, String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|error| format!("the certificate's end is no date: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Made {
        certificate: String,
        key: String,
    }

    fn made(year: i32) -> Made {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        Made {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    #[test]
    fn a_chain_and_its_key() {
        let made = made(2099);
        let loaded = load(&made.certificate, &made.key, None, Use::Calls).unwrap();
        assert_eq!(loaded.expires.to_string(), "2099-01-01T00:00:00Z");
        assert_eq!(loaded.config.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
        let ca = Some(&*made.certificate);
        let loaded = load(&made.certificate, &made.key, ca, Use::Sessions).unwrap();
        assert!(loaded.config.alpn_protocols.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_told_without_showing_it() {
        let (one, other) = (made(2099), made(2099));
        let broken = one.key.replace("-----END", "-----");
        for (certificate, key, ca, says) in [
            (
                one.certificate.as_str(),
                other.key.as_str(),
                None,
                "fit together",
            ),
            (
                "",
                &one.key,
                None,
                "the certificate file has no certificate",
            ),
            (
                &one.certificate,
                "",
                None,
                "the key file has no usable private key",
            ),
            (&one.certificate, &broken, None, "no usable private key"),
            (
                &one.certificate,
                &one.key,
                Some(""),
                "the client CA file has no certificate",
            ),
        ] {
            let error = load(certificate, key, ca, Use::Calls).unwrap_err();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("MIG"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_certificate_is_used_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let files = TlsFiles {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            client_ca: None,
        };
        let write = |made: &Made| {
            fs::write(&files.certificate, &made.certificate).unwrap();
            fs::write(&files.key, &made.key).unwrap();
        };
        write(&made(2050));
        let tls = Tls::open(files.clone(), Use::Calls).unwrap();
        let old = tls.config();
        let metrics = Metrics::new();
        write(&made(2060));
        let cancelled = CancellationToken::new();
        let until = async {
            while Arc::ptr_eq(&old, &tls.config()) {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            cancelled.cancel();
        };
        tokio::join!(tls.watch(&metrics, cancelled.clone()), until);
        assert_eq!(tls.expires().to_string(), "2060-01-01T00:00:00Z");
        let second = tls.expires().as_second().to_string();
        assert!(metrics.encode().unwrap().contains(&second));
    }
}
