//! Who is answered at all: no web page, nobody under another name of this machine, and only those with the token where there is
//! one.

use std::net::IpAddr;

use greentic_dist_types::{Digest, Secret};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use hyper::Request;

use super::{ApiError, header};

/// # Errors
/// 403 for a request of a web page or to a foreign name, 401 without the token.
pub(super) fn check<B>(request: &Request<B>, token: Option<&Secret>) -> Result<(), ApiError> {
    // Only pages send one; programs that pull and push do not.
    if request.headers().contains_key(ORIGIN) {
        return Err(ApiError::from_a_page());
    }
    match token {
        None => check_host(request),
        Some(token) if has_token(request, token) => Ok(()),
        Some(_) => Err(ApiError::unauthorized()),
    }
}

/// Refuses a `Host` that is not this machine: a page in a browser that had its own name point to 127.0.0.1 would send one.
fn check_host<B>(request: &Request<B>) -> Result<(), ApiError> {
    let Some(host) = request.headers().get(HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _port)) => name,
        None => host.split(':').next().unwrap_or_default(),
    };
    let local =
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if local { Ok(()) } else { Err(ApiError::foreign_host()) }
}

/// Whether a request carries the token: as a bearer token, or as the password of any user, which is how OCI clients log in.
fn has_token<B>(request: &Request<B>, token: &Secret) -> bool {
    let Some((scheme, value)) = header(request, AUTHORIZATION).and_then(|value| value.split_once(' ')) else {
        return false;
    };
    let given = if scheme.eq_ignore_ascii_case("bearer") {
        Some(Secret::new(value.trim()))
    } else if scheme.eq_ignore_ascii_case("basic") {
        password(value.trim())
    } else {
        None
    };
    // Digests are compared, so that the time it takes tells nothing about the token.
    given.is_some_and(|given| Digest::sha256(given.expose().as_bytes()) == Digest::sha256(token.expose().as_bytes()))
}

fn password(encoded: &str) -> Option<Secret> {
    use base64::Engine as _;
    let decoded = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).ok()?).ok()?;
    let decoded = Secret::new(decoded);
    decoded.expose().split_once(':').map(|(_user, password)| Secret::new(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, value: &str) -> Request<()> {
        Request::builder().header(name, value).body(()).unwrap()
    }

    #[test]
    fn the_token_is_taken_as_bearer_and_as_a_password_and_in_no_other_form() {
        let token = Secret::new("s3cret");
        let takes = |value: &str| check(&request("authorization", value), Some(&token)).is_ok();
        for good in ["Bearer s3cret", "bearer s3cret", "Basic eDpzM2NyZXQ=", "basic OnMzY3JldA=="] {
            assert!(takes(good), "{good}");
        }
        for bad in ["Bearer s3cre", "Bearer s3crets", "Bearer", "Basic czNjcmV0", "Basic !", "Digest s3cret", ""] {
            assert!(!takes(bad), "{bad}");
        }
        assert!(check(&request("host", "localhost"), Some(&token)).is_err());
    }

    #[test]
    fn pages_and_foreign_names_are_refused() {
        for host in ["127.0.0.1:5000", "localhost", "[::1]:1", "LOCALHOST:2", "127.9.9.9"] {
            assert!(check(&request("host", host), None).is_ok(), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "[::2]"] {
            assert!(check(&request("host", host), None).is_err(), "{host}");
        }
        assert!(check(&request("origin", "http://localhost"), None).is_err());
        let page = Request::builder().header("origin", "null").header("authorization", "Bearer t").body(()).unwrap();
        assert!(check(&page, Some(&Secret::new("t"))).is_err());
    }
}
