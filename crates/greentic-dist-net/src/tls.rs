//! TLS settings: rustls on ring, built when the first HTTPS connection needs them.

use std::fmt;
use std::sync::Arc;

use greentic_dist_types::Secret;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
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
pub(crate) fn with_platform_roots(
    extra: &[CertificateDer<'static>],
    identity: Option<&Identity>,
) -> Result<ClientConfig, NetError> {
    check_named_roots()?;
    let provider = provider();
    let verifier = platform_verifier(extra, &provider).map_err(failed)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Whoever reads the platform's roots reads this file to its end, whatever it is: a pipe is waited for, and a device never ends.
///
/// # Errors
/// `Config`, naming the variable.
#[cfg(all(unix, not(any(target_vendor = "apple", target_os = "android"))))]
fn check_named_roots() -> Result<(), NetError> {
    const VARIABLE: &str = "SSL_CERT_FILE";
    /// Largest file in bytes: the authorities of all the world are a quarter of a MiB.
    const MOST: u64 = 16 << 20;
    let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else { return Ok(()) };
    // What is not there, or not for us, is said by whoever reads it.
    let Ok(found) = std::fs::metadata(&path) else { return Ok(()) };
    let wrong = |why: &str| {
        let path = greentic_dist_types::SafeText::new(&path.to_string_lossy()).to_string();
        NetError::config(format!("{VARIABLE} names `{path}`, which {why}"))
    };
    if !found.is_file() {
        return Err(wrong("is not a regular file"));
    }
    if found.len() > MOST {
        return Err(wrong("has more than the 16 MiB that are read of certificate authorities"));
    }
    Ok(())
}

#[cfg(not(all(unix, not(any(target_vendor = "apple", target_os = "android")))))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere this asks")]
fn check_named_roots() -> Result<(), NetError> {
    Ok(())
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

/// Most certificates of ours for one host.
const IDENTITIES: usize = 8;

/// The certificates this client may show to one host, with their keys. `Debug` shows nothing of them.
#[derive(Clone)]
pub(crate) struct Identity(Arc<[Arc<CertifiedKey>]>);

impl Identity {
    /// Certificates (chains, PEM) with their keys (PEM). `None` for an empty list.
    ///
    /// # Errors
    /// `Config` for text that is no certificate or key, a key that does not fit, and too many.
    pub(crate) fn parse(pairs: &[(Vec<u8>, Secret)]) -> Result<Option<Self>, NetError> {
        let wrong = |why: &'static str| NetError::new(NetErrorKind::Config, why);
        if pairs.len() > IDENTITIES {
            return Err(wrong("there are more than 8 client certificates for one host"));
        }
        let mut keys = Vec::new();
        for (certificate, key) in pairs {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
                .collect::<Result<_, _>>()
                .map_err(|error| wrong("a client certificate is no PEM certificate").with_source(error))?;
            if chain.is_empty() {
                return Err(wrong("a client certificate is no PEM certificate"));
            }
            // What is wrong with a key is not repeated: the error may hold a part of it.
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|_secret| wrong("the key of a client certificate is no PEM private key"))?;
            let certified = CertifiedKey::from_der(chain, key, &provider())
                .map_err(|error| wrong("a client certificate and its key do not fit").with_source(error))?;
            keys.push(Arc::new(certified));
        }
        Ok((!keys.is_empty()).then(|| Self(keys.into())))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0.len())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).map(Arc::clone)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The certificates of a PEM text. `kind` is the one of the error.
///
/// # Errors
/// When there is none or one is malformed.
pub(crate) fn parse_roots(pem: &[u8], kind: NetErrorKind) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let invalid = || NetError::new(kind, "the extra root certificates are no PEM certificates");
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
            assert_eq!(parse_roots(bad, NetErrorKind::Config).unwrap_err().kind(), NetErrorKind::Config);
            let pair = [(bad.to_vec(), Secret::from("canary"))];
            let error = Identity::parse(&pair).unwrap_err();
            assert_eq!(error.kind(), NetErrorKind::Config);
            assert!(!format!("{error:?}").contains("canary"));
        }
    }
}
