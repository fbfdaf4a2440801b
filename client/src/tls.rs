//! TLS: whom to trust, and who to be.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::BuildError;

/// How connections are secured. `authorities` is PEM; none stands for the system's.
/// `identity` is a certificate chain and its key, PEM both.
pub(crate) fn config(
    authorities: Option<&[u8]>,
    identity: Option<(&[u8], &[u8])>,
) -> Result<ClientConfig, BuildError> {
    let roots = match authorities {
        Some(pem) => of_pem(pem)?,
        None => of_system()?,
    };
    let builder = builder()?.with_root_certificates(roots);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let chain = certificates(chain, "client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| wrong(format!("the client's key: {error}")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong(format!("the client's certificate and key: {error}")))
        }
    }
}

/// For URLs that need none: it trusts nobody.
pub(crate) fn none() -> Result<ClientConfig, BuildError> {
    let builder = builder()?.with_root_certificates(RootCertStore::empty());
    Ok(builder.with_no_client_auth())
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, BuildError> {
    // Given explicitly: the process-wide default is whatever somebody installed first.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))
}

fn of_pem(pem: &[u8]) -> Result<RootCertStore, BuildError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem, "CA file")? {
        let added = roots.add(authority);
        added.map_err(|error| wrong(format!("the CA file: {error}")))?;
    }
    Ok(roots)
}

fn of_system() -> Result<RootCertStore, BuildError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(wrong(format!(
            "the system names no authority to trust; name a CA file ({})",
            why.join(", ")
        )));
    }
    Ok(roots)
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, BuildError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(wrong(format!("the {what} has no certificate"))),
        Err(error) => Err(wrong(format!("the {what}: {error}"))),
    }
}

fn wrong(text: String) -> BuildError {
    BuildError::Tls(text)
}

/// The contents of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|error| BuildError::File(path.to_owned(), error))
}
