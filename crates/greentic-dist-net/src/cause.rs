//! What stands behind a failure of the HTTP client, told by the types in its chain of causes.

use std::error::Error;
use std::io;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use tower_service::Service;

use crate::caps::Limits;
use crate::host::Profile;
use crate::limit::HostLimit;
use crate::resolver::InnerAddress;
use crate::target_policy::ALLOW_PRIVATE;
use crate::{NetError, NetErrorKind};

/// Finds out what a failure of the HTTP client was, from the types in its chain of causes.
pub(crate) fn classify(error: reqwest::Error, host: &HostLimit, profile: &Profile, limits: &Limits) -> NetError {
    let mut cause = Cause::of(&error);
    cause.note(host);
    if cause.ended_tls {
        cause.tls = true;
        let likely = if profile.has_identity() { Refusal::Rejected } else { Refusal::Wanted };
        cause.refusal.get_or_insert(likely);
    }
    let was_better = cause.no_protocol && host.note_no_http1();
    let kind = match () {
        () if was_better => NetErrorKind::Interrupted,
        () if cause.inner_address.is_some() => NetErrorKind::Refused,
        () if cause.tls => NetErrorKind::Tls,
        () if error.is_dns() => NetErrorKind::Dns,
        () if error.is_timeout() => NetErrorKind::Timeout,
        () if error.is_connect() => NetErrorKind::Connect,
        () if cause.oversized => NetErrorKind::TooLarge,
        () if cause.unreadable || error.is_builder() => NetErrorKind::Protocol,
        () => NetErrorKind::Interrupted,
    };
    let net = NetError::new(kind, "").with_source(error.without_url());
    let net = if kind == NetErrorKind::TooLarge { limits.unread_header(net) } else { net };
    let net = match cause.inner_address {
        Some(InnerAddress { could_be_allowed: true }) => net.with_hint(ALLOW_PRIVATE),
        _ => net,
    };
    let net = match cause.refusal {
        Some(Refusal::Wanted) => net.with_hint(
            "the server ended the TLS connection, as those do that want a certificate of the client: configure one for this \
             host (`client` in hosts.toml)",
        ),
        Some(Refusal::Rejected) => net.with_hint(
            "the server did not accept the certificate of this client: check whom it is from, until when it is valid, and \
             that it is one for clients",
        ),
        None => net,
    };
    match cause.certificate {
        Some(Distrust::Authority) => net.with_hint(if cfg!(any(windows, target_vendor = "apple")) {
            "if the server's certificate is from a private authority, add that authority to the system's"
        } else {
            "if the server's certificate is from a private authority, add that authority to the system's, or set \
             SSL_CERT_FILE to a PEM file with its certificate"
        }),
        Some(Distrust::Kind) => net.with_hint(
            "the certificate is not one for a server; often it is an authority's own, made without `CA:FALSE`",
        ),
        Some(Distrust::Validity) | None => net,
    }
}

/// What goes wrong between this client and a proxy that is to make a tunnel. It has no other name.
type TunnelError = <Tunnel<HttpConnector> as Service<http::Uri>>::Error;

/// Whether a failure is that a proxy wants a login, or another one, before it makes a tunnel.
pub(crate) fn wants_proxy_login(error: &NetError) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(TunnelError::ProxyAuthRequired)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether a failure is that the server's certificate was seen and not trusted.
pub(crate) fn is_distrust(error: &NetError) -> bool {
    Cause::of(error).certificate.is_some()
}

/// Why a certificate is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distrust {
    /// Nobody trusted has signed it.
    Authority,
    /// It is of a kind no server may show.
    Kind,
    /// It is not valid now, or not for this host.
    Validity,
}

/// What the chain of causes of a failure holds.
#[derive(Debug, Default)]
pub(crate) struct Cause {
    inner_address: Option<InnerAddress>,
    tls: bool,
    /// TLS ended with an alert or was broken; HTTP/2 keeps no more of the failure than that.
    ended_tls: bool,
    certificate: Option<Distrust>,
    refusal: Option<Refusal>,
    /// The server has none of the protocols it was offered.
    no_protocol: bool,
    unreadable: bool,
    /// The header of an answer was larger than anything that is looked at.
    oversized: bool,
    http2: Option<Breach>,
}

/// What a server has against this client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// That there is none.
    Wanted,
    /// What it is.
    Rejected,
}

/// How HTTP/2 was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breach {
    /// Its rules, on one side or the other.
    Protocol,
    /// The server wants HTTP/1.1 and says so.
    Unwanted,
}

impl Cause {
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Self::default();
        let mut next = Some(error);
        while let Some(error) = next {
            cause.look_at(error);
            next = error.source();
        }
        cause
    }

    /// Tells the host's other requests.
    pub(crate) fn note(&self, host: &HostLimit) {
        if let Some(breach) = self.http2 {
            host.note_http2_error(breach == Breach::Unwanted);
        }
    }

    fn look_at(&mut self, error: &(dyn Error + 'static)) {
        self.inner_address = self.inner_address.take().or_else(|| error.downcast_ref().cloned());
        self.http2 = self.http2.or_else(|| breach_of(error.downcast_ref()?));
        self.oversized |= error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large);
        self.unreadable |= error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            use rustls::CertificateError as E;
            self.tls = true;
            self.refusal = self.refusal.or_else(|| refusal_of(error));
            self.no_protocol |=
                matches!(error, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
            self.certificate = match error {
                rustls::Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => Some(Distrust::Authority),
                rustls::Error::InvalidCertificate(
                    E::Other(_) | E::InvalidPurpose | E::InvalidPurposeContext { .. },
                ) => Some(Distrust::Kind),
                rustls::Error::InvalidCertificate(_) => Some(Distrust::Validity),
                _ => None,
            };
        }
        self.ended_tls |= error.downcast_ref::<io::Error>().is_some_and(|error| {
            let is_typed = error.get_ref().is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some());
            error.kind() == io::ErrorKind::InvalidData && !is_typed
        });
        // An `io::Error` hides what it wraps from `source()`.
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            self.look_at(inner);
        }
    }
}

/// What a server says about this client's certificate.
fn refusal_of(error: &rustls::Error) -> Option<Refusal> {
    use rustls::AlertDescription as A;
    match error {
        rustls::Error::AlertReceived(A::CertificateRequired | A::NoCertificate) => Some(Refusal::Wanted),
        rustls::Error::AlertReceived(
            A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError,
        ) => Some(Refusal::Rejected),
        _ => None,
    }
}

/// Whether HTTP/2 itself failed: a stream or a connection that is only ended is none.
fn breach_of(error: &h2::Error) -> Option<Breach> {
    match error.reason()? {
        h2::Reason::HTTP_1_1_REQUIRED => Some(Breach::Unwanted),
        h2::Reason::PROTOCOL_ERROR
        | h2::Reason::FLOW_CONTROL_ERROR
        | h2::Reason::SETTINGS_TIMEOUT
        | h2::Reason::STREAM_CLOSED
        | h2::Reason::FRAME_SIZE_ERROR
        | h2::Reason::COMPRESSION_ERROR
        | h2::Reason::ENHANCE_YOUR_CALM
        | h2::Reason::INADEQUATE_SECURITY => Some(Breach::Protocol),
        _ => None,
    }
}
