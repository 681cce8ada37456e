//! How connections to one endpoint are made: whom to trust, what to show, how long to wait.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use super::HostEndpoint;
use crate::tls::{self, Identity};
use crate::{NetError, NetErrorKind};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What connections to one origin need. The client's own settings, unless a host configuration says more.
pub(crate) struct Profile {
    id: u64,
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    headers: Vec<(HeaderName, HeaderValue)>,
    connect_timeout: Option<Duration>,
    http1_only: bool,
    tls: OnceLock<ClientConfig>,
    /// What holds when a redirect or a challenge leads to another origin: the same trust, nothing of one's own to show.
    elsewhere: Option<Arc<Self>>,
}

impl Profile {
    /// The client's own settings.
    pub(crate) fn own(roots: Vec<CertificateDer<'static>>) -> Arc<Self> {
        Self::new(roots, None, Vec::new(), None)
    }

    /// The settings of an endpoint on top of the client's own.
    ///
    /// # Errors
    /// `Config` for certificates, keys and headers that cannot be used.
    pub(crate) fn of(endpoint: &HostEndpoint, own: &Arc<Self>) -> Result<Arc<Self>, NetError> {
        let headers = endpoint.checked_headers().map_err(|why| NetError::new(NetErrorKind::Config, why))?;
        let mut roots = own.roots.clone();
        for pem in &endpoint.roots_pem {
            roots.extend(tls::parse_roots(pem, NetErrorKind::Config)?);
        }
        let identity = Identity::parse(&endpoint.identities)?;
        let is_own = headers.is_empty()
            && identity.is_none()
            && endpoint.roots_pem.is_empty()
            && endpoint.connect_timeout.is_none()
            && !endpoint.http1_only;
        if is_own {
            return Ok(Arc::clone(own));
        }
        let elsewhere = if endpoint.roots_pem.is_empty() {
            Arc::clone(own)
        } else {
            Self::new(roots.clone(), None, Vec::new(), None)
        };
        let mut profile = Self::alone(roots, identity, headers, Some(elsewhere));
        profile.connect_timeout = endpoint.connect_timeout;
        profile.http1_only = endpoint.http1_only;
        Ok(Arc::new(profile))
    }

    fn new(
        roots: Vec<CertificateDer<'static>>,
        identity: Option<Identity>,
        headers: Vec<(HeaderName, HeaderValue)>,
        elsewhere: Option<Arc<Self>>,
    ) -> Arc<Self> {
        Arc::new(Self::alone(roots, identity, headers, elsewhere))
    }

    fn alone(
        roots: Vec<CertificateDer<'static>>,
        identity: Option<Identity>,
        headers: Vec<(HeaderName, HeaderValue)>,
        elsewhere: Option<Arc<Self>>,
    ) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (connect_timeout, http1_only) = (None, false);
        Self { id, roots, identity, headers, connect_timeout, http1_only, tls: OnceLock::new(), elsewhere }
    }

    /// Tells the connections of one profile from another's.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// What is sent with every request of this origin.
    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    pub(crate) const fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    /// Whether nothing newer than HTTP/1.1 is spoken.
    pub(crate) const fn http1_only(&self) -> bool {
        self.http1_only
    }

    /// Whether a certificate of ours is shown.
    pub(crate) const fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// The profile for another origin that this one's server names.
    pub(crate) fn elsewhere(self: &Arc<Self>) -> Arc<Self> {
        Arc::clone(self.elsewhere.as_ref().unwrap_or(self))
    }

    /// The settings of TLS, made when the first connection needs them.
    ///
    /// # Errors
    /// `Tls` when the platform's roots cannot be read, `Config` for a key that does not fit its certificate.
    pub(crate) fn tls(&self) -> Result<ClientConfig, NetError> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = tls::with_platform_roots(&self.roots, self.identity.as_ref())?;
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("id", &self.id).finish_non_exhaustive()
    }
}
