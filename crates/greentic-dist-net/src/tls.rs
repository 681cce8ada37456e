//! TLS settings: rustls on ring, built when the first HTTPS connection needs them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use crate::{NetError, NetErrorKind};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn failed(error: rustls::Error) -> NetError {
    NetError::new(NetErrorKind::Tls, "TLS could not be set up").with_source(error)
}

/// Settings for connections that never speak TLS: no root is loaded, so a handshake could only fail.
pub(crate) fn without_roots() -> Result<ClientConfig, NetError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// Settings with the platform's roots (on Unix also `SSL_CERT_FILE` and `SSL_CERT_DIR`) and `extra` ones. Reads files.
pub(crate) fn with_platform_roots(extra: &[CertificateDer<'static>]) -> Result<ClientConfig, NetError> {
    let provider = provider();
    let verifier = platform_verifier(extra, &provider).map_err(failed)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(not(target_os = "android"))]
fn platform_verifier(
    extra: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Verifier, rustls::Error> {
    Verifier::new_with_extra_roots(extra.iter().cloned(), Arc::clone(provider))
}

#[cfg(target_os = "android")]
fn platform_verifier(
    _extra: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Verifier, rustls::Error> {
    Verifier::new(Arc::clone(provider))
}

/// The certificates of a PEM text.
///
/// # Errors
/// `InvalidInput` when there is none or one is malformed.
pub(crate) fn parse_roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let invalid = || NetError::new(NetErrorKind::InvalidInput, "the extra root certificates are no PEM certificates");
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| invalid().with_source(error))?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|error| invalid().with_source(error))?;
    }
    if certificates.is_empty() { Err(invalid()) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_when_the_client_is_built() {
        for bad in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(parse_roots(bad).unwrap_err().kind(), NetErrorKind::InvalidInput);
        }
    }
}
