//! Logins, and where they come from.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greentic_dist_types::{Digest, Secret};
use http::HeaderValue;

use crate::{NetError, NetErrorKind};

/// A future in a box, as object-safe traits return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a login is wanted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialTarget {
    /// The registry as references write it: `host` or `host:port`; `docker.io` for Docker Hub.
    pub host: String,
    /// The repository, e.g. `acme/hello`.
    pub repository: String,
}

/// A login. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// User name and password (or an access token in the password's place).
    Basic {
        /// The user name; may not hold a colon.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token for the registry itself, sent as it is.
    Bearer(Secret),
}

impl Credential {
    /// `Basic base64(user:password)` (RFC 7617). `None` for other kinds.
    pub(crate) fn basic_header(&self) -> Option<Result<HeaderValue, NetError>> {
        let Self::Basic { username, password } = self else { return None };
        let encoded = Secret::new(STANDARD.encode(Secret::new(format!("{username}:{}", password.expose())).expose()));
        Some(sensitive(&format!("Basic {}", encoded.expose())))
    }

    /// Tells one login from another without keeping its secret.
    pub(crate) fn identity(&self) -> Digest {
        let text = match self {
            Self::Basic { username, password } => {
                Secret::new(format!("basic\0{}\0{username}\0{}", username.len(), password.expose()))
            }
            Self::Bearer(token) => Secret::new(format!("bearer\0{}", token.expose())),
        };
        Digest::sha256(text.expose().as_bytes())
    }
}

/// A header value that is not shown in logs.
pub(crate) fn sensitive(text: &str) -> Result<HeaderValue, NetError> {
    let mut value = HeaderValue::from_str(text).map_err(|_secret| {
        NetError::new(NetErrorKind::Unauthorized, "the login holds characters that cannot be sent in a header")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where logins come from. Asked after a registry demanded a login, for a registry and a repository.
///
/// What it says is kept in memory and not asked for again, with three exceptions: a registry rejected a password (the source
/// may know a newer one by now), requests that need it first at the same time may each ask, and beyond 1,024 repositories of a
/// registry the memory starts anew.
pub trait CredentialSource: Send + Sync + Debug {
    /// The login for a target; `None` when there is none, which means anonymous access.
    ///
    /// # Errors
    /// Any [`NetError`]; the request that needed the login fails with it.
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<Option<Credential>, NetError>>;
}

/// Logins known in advance, by host.
#[derive(Clone, Debug, Default)]
pub struct StaticCredentials(HashMap<String, Credential>);

impl StaticCredentials {
    /// No login at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the login for a registry, written as in references (`host` or `host:port`, compared without regard to case).
    #[must_use]
    pub fn with(mut self, host: &str, credential: Credential) -> Self {
        self.0.insert(host.to_ascii_lowercase(), credential);
        self
    }
}

impl CredentialSource for StaticCredentials {
    fn credential<'a>(&'a self, target: &'a CredentialTarget) -> BoxFuture<'a, Result<Option<Credential>, NetError>> {
        let found = self.0.get(&target.host.to_ascii_lowercase()).cloned();
        Box::pin(std::future::ready(Ok(found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_encoded_for_basic_and_never_printed() {
        let login = Credential::Basic { username: "Aladdin".into(), password: "open sesame".into() };
        assert_eq!(login.basic_header().unwrap().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{login:?} {:?}", login.basic_header()).contains("sesame"));
        assert!(!format!("{:?}", login.basic_header()).contains("QWxh"));
        assert!(sensitive("Bearer a\r\nb").is_err());
    }

    #[test]
    fn different_logins_have_different_identities() {
        let basic = |user: &str, password: &str| {
            Credential::Basic { username: user.into(), password: password.into() }.identity()
        };
        assert_ne!(basic("a", "b"), basic("a", "c"));
        assert_ne!(basic("a\0b", "c"), basic("a", "b\0c"));
        assert_ne!(basic("", "x"), Credential::Bearer("x".into()).identity());
    }
}
