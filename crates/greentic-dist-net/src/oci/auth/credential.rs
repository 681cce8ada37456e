//! Logins, and how they are written into a header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greentic_dist_types::{Digest, Secret};
use http::HeaderValue;

use crate::{NetError, NetErrorKind};

/// The user name that means that the password is an identity token (credential-helper protocol).
const IDENTITY_USER: &str = "<token>";

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
    /// A token that stands for a user at the token server (`identitytoken` of Docker's configuration): exchanged there, by
    /// OAuth2, for the tokens the registry wants. Never sent to the registry.
    IdentityToken(Secret),
    /// A bearer token for the registry itself, sent as it is.
    Bearer(Secret),
}

impl Credential {
    /// `Basic base64(user:password)` (RFC 7617). An identity token goes under the name that credential helpers give it.
    /// `None` for a bearer token.
    pub(crate) fn basic_header(&self) -> Option<Result<HeaderValue, NetError>> {
        let (username, password) = match self {
            Self::Basic { username, password } => (username.as_str(), password),
            Self::IdentityToken(token) => (IDENTITY_USER, token),
            Self::Bearer(_) => return None,
        };
        let encoded = Secret::new(STANDARD.encode(Secret::new(format!("{username}:{}", password.expose())).expose()));
        Some(sensitive(&format!("Basic {}", encoded.expose())))
    }

    /// Tells one login from another without keeping its secret.
    pub(crate) fn identity(&self) -> Digest {
        let text = match self {
            Self::Basic { username, password } => {
                Secret::new(format!("basic\0{}\0{username}\0{}", username.len(), password.expose()))
            }
            Self::IdentityToken(token) => Secret::new(format!("identity\0{}", token.expose())),
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
        assert_ne!(Credential::IdentityToken("x".into()).identity(), Credential::Bearer("x".into()).identity());
    }
}
